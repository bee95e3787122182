"""Plain-text documents from .txt and .md files, also in .gz or .zip, from rows with a text field, and from
folders of these.
"""

from __future__ import annotations

import gzip
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from solon.data.tables import read_rows
from solon.errors import InputError

FIELDS = ("text", "content", "chosen")  # the names of a row's text field, in the order that is tried
PLAIN = (".txt", ".md", "")


def read_texts(paths: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """(source, document) of every document, in the order of file names. A plain-text file is one document;
    empty documents and hidden files are skipped. Text that is no UTF-8 is read as Latin-1. Raises InputError
    on a missing path, an unreadable archive and a row without a text field.
    """
    for path in paths:
        if not path.exists():
            raise InputError(f"{path} does not exist")
        inside = (part for part in path.rglob("*") if part.is_file() and not part.name.startswith("."))
        for file in sorted(inside) if path.is_dir() else [path]:
            yield from ((name, text) for name, text in _documents(file) if text.strip())


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
        ) as error:  # broken, encrypted, or compressed by an unknown method
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
