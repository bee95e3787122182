"""Plain text as documents: what models are looked into with. .txt, .md, the same in .gz or .zip, rows with a
text field, and folders of these.
"""

from __future__ import annotations

import gzip
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from solon.data.tables import read_rows
from solon.errors import InputError

FIELDS = ("text", "content", "chosen")  # what a row's text is called, in the order that is tried
PLAIN = (".txt", ".md", "")


def read_texts(paths: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """(where it is from, document) of everything, in the order of names. A file of plain text is one
    document; empty ones are passed over.

    Text is UTF-8, else taken as Latin-1 (old corpora are). Hidden files are passed over. Raises InputError on
    a path that is not there, archives that cannot be read, and rows without a text field.
    """
    for path in paths:
        if not path.exists():
            raise InputError(f"{path} is not there")
        for own in (
            sorted(part for part in path.rglob("*") if part.is_file() and not part.name.startswith("."))
            if path.is_dir()
            else [path]
        ):
            yield from ((name, text) for name, text in _documents(own) if text.strip())


def _documents(path: Path) -> Iterator[tuple[str, str]]:
    kind = path.suffix.lower()
    if kind == ".zip":
        try:
            with zipfile.ZipFile(path) as archive:
                for name in sorted(archive.namelist()):
                    if Path(name).suffix.lower() in PLAIN and not name.endswith(
                        ("/", "README", "LICENSE", "CONTENTS")
                    ):
                        yield f"{path.name}/{name}", _decoded(archive.read(name))
        except (
            zipfile.BadZipFile,
            zlib.error,
            RuntimeError,
            NotImplementedError,
        ) as error:  # broken, encrypted, or packed in a way that is not known
            raise InputError(f"{path} is not a readable zip archive: {error}") from error
    elif kind == ".gz" and Path(path.stem).suffix.lower() in PLAIN:
        try:
            yield path.name, _decoded(gzip.decompress(path.read_bytes()))
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{path} is not a readable gzip file: {error}") from error
    elif kind in PLAIN:
        yield path.name, _decoded(path.read_bytes())
    else:
        for number, row in read_rows(path):
            field = next((name for name in FIELDS if isinstance(row.get(name), str)), None)
            if field is None:
                raise InputError(
                    f"{path}, row {number}: none of {', '.join(FIELDS)} is a text; found "
                    f"{', '.join(map(str, row))[:200]}"
                )
            yield f"{path.name}:{number}", row[field]


def _decoded(raw: bytes) -> str:
    """
    >>> _decoded("caf\\u00e9".encode()), _decoded(b"caf\\xe9")
    ('café', 'café')
    """
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")
