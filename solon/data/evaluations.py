"""Problems from files in published evaluation formats, which are recognised by their fields. Rows that cannot
be used are skipped and counted by reason.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from solon.data.bias import parse_bbq, parse_winogenerated, read_bbq_targets, read_winogender
from solon.data.problems import (
    parse_addsub,
    parse_aqua,
    parse_arc,
    parse_generic,
    parse_gsm8k,
    parse_hhh,
    parse_lambada,
    parse_mmlu,
    parse_model_written,
    parse_nq_open,
    parse_svamp,
    parse_truthfulqa,
)
from solon.data.published import ParsedFile, parse_rows
from solon.data.survey import read_opinion_survey
from solon.data.tables import Row, read_rows
from solon.errors import InputError
from solon.words.question import Problem

Measure = Literal["accuracy", "behaviour", "bbq", "pronouns", "opinions"]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A file's problems and what is measured on them. `kind` is the format's name."""

    name: str
    kind: str
    measure: Measure
    reading: ParsedFile[Problem]

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The problems, in the file's order."""
        return self.reading.rows

    @property
    def digest(self) -> str:
        """A content hash of all problems (16 hex digits)."""
        content = json.dumps(
            [
                [p.text, p.options, p.answers, p.opening, p.lettered, p.grade, dict(p.tags)]
                for p in self.problems
            ]
        )
        return hashlib.sha256(content.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Format:
    """A published format: the fields that identify it, what is measured, and the parser of a row."""

    kind: str
    fields: frozenset[str]
    measure: Measure
    parse: Callable[[Row], Problem]


def _format(kind: str, fields: str, measure: Measure, parse: Callable[[Row], Problem]) -> Format:
    return Format(kind, frozenset(fields.split()), measure, parse)


# the first format whose fields a row has is taken
FORMATS = (
    _format("BBQ", "answer_info question_polarity context_condition ans0 ans1 ans2 label", "bbq", parse_bbq),
    _format(
        "model-written evaluation",
        "question answer_matching_behavior answer_not_matching_behavior",
        "behaviour",
        parse_model_written,
    ),
    _format("HHH comparisons", "prompt corrects incorrects", "accuracy", parse_hhh),
    _format(
        "Winogenerated", "sentence_with_blank pronoun_options occupation", "pronouns", parse_winogenerated
    ),
    _format("TruthfulQA", "Question Best_Answer Incorrect_Answers", "accuracy", parse_truthfulqa),
    _format("MMLU", "question choice0 choice1 answer", "accuracy", parse_mmlu),
    _format("CommonsenseQA or ARC", "question answerKey", "accuracy", parse_arc),
    _format("AQuA", "question options correct", "accuracy", parse_aqua),
    _format("AddSub", "sQuestion lSolutions", "accuracy", parse_addsub),
    _format("SVAMP", "Body Question Answer", "accuracy", parse_svamp),
    _format("ASDiv", "body question answer", "accuracy", parse_svamp),
    _format("GSM8K or question and answer", "question answer", "accuracy", parse_gsm8k),
    _format("LAMBADA", "text", "accuracy", parse_lambada),
)
# files beside evaluations that are none
COMPANION_FILES = ("LICENSE", "README", "additional_metadata.csv", "occupations-stats.tsv")
# file names that do not name an evaluation
GENERIC_NAMES = {
    "test",
    "dev",
    "val",
    "validation",
    "train",
    "rows",
    "data",
    "templates",
    "dev_rand_split",
    "train_rand_split",
}
KNOWN_FORMATS = (
    "model-written evaluations, HHH comparisons, BBQ, Winogender, Winogenerated, MMLU, TruthfulQA, "
    "CommonsenseQA, ARC, AQuA, GSM8K, SVAMP, ASDiv, AddSub, "
    "NQ-open, GlobalOpinionQA, LAMBADA, or rows of {question, choices, answer} or {question, answers}"
)


def read_evaluation(path: Path) -> Evaluation:
    """The problems of a file in a known published format, or in Solon's: rows of `question` with `choices`
    and `answer` (a choice, its index from 0, or its letter) or with `answers` (any of which is right).

    Raises InputError where no format matches, no row can be used, or only some rows have options.
    """
    rows = list(_rows(path))
    first = rows[0][1]
    stem = path.name.partition(".")[0]
    name = f"{path.absolute().parent.name} {stem}" if stem in GENERIC_NAMES else stem
    if {"country", "distribution"} <= set(first) or "selections" in first:
        return Evaluation(name, "GlobalOpinionQA", "opinions", read_opinion_survey(path, rows))
    if "answer" in first and "sentence" in first and any(field.startswith("occupation") for field in first):
        return Evaluation(name, "Winogender", "pronouns", read_winogender(path, rows))
    form = _recognised(first)
    if form is None:
        raise InputError(
            f"{path}: the fields {sorted(map(str, first))} match no known format; expected {KNOWN_FORMATS}"
        )
    parse, beside = form.parse, path.parent / "additional_metadata.csv"
    if form.kind == "BBQ" and beside.exists():
        parse = partial(parse_bbq, targets=read_bbq_targets(beside))
    reading = parse_rows(path, rows, parse, _key)
    if len({bool(problem.options) for problem in reading.rows}) > 1:
        raise InputError(
            f"{path} mixes problems with options and problems without; put each kind in a file of its own"
        )
    return Evaluation(name, form.kind, form.measure, reading)


def _recognised(row: Row) -> Format | None:
    if (
        isinstance(row.get("question"), str)
        and "answerKey" not in row
        and ("choices" in row or "answers" in row)
    ):
        return _format("Solon rows", "question", "accuracy", parse_generic)
    if isinstance(row.get("answer"), list) and isinstance(row.get("question"), str):
        return _format("NQ-open", "question answer", "accuracy", parse_nq_open)
    fields = {str(field).replace(" ", "_") for field in row}
    matching = next((form for form in FORMATS if form.fields <= fields), None)
    return (
        matching
        if matching is None or matching.kind != "LAMBADA" or set(row) <= {"text", "domain", "id", "subject"}
        else None
    )


def _key(problem: Problem) -> str:
    return json.dumps([problem.text, problem.options, problem.opening, sorted(problem.tags.items())])


def _rows(path: Path) -> Iterator[tuple[int, Row]]:
    """`read_rows`, and also archives of CSV files (MMLU's), CSV files without a header (MMLU's first
    release), a JSON object with one list inside, and JSON lines in a .json file.
    """
    names = "".join(path.suffixes[-2:]).lower()
    if names in (".tar.gz", ".tar") or path.suffix.lower() in (".tgz", ".tar"):
        yield from _archive(path)
    elif path.suffix.lower() == ".csv" or names == ".csv.gz":
        yield from _table(_text(path), path, subject=path.name.partition(".")[0])
    elif path.suffix.lower() == ".json" or names == ".json.gz":
        yield from enumerate(_json(path), start=1)
    else:
        yield from read_rows(path)


def _text(path: Path) -> str:
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return data.decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}") from error


def _archive(path: Path) -> Iterator[tuple[int, Row]]:
    try:
        with tarfile.open(path) as archive:
            members = sorted(
                (m for m in archive.getmembers() if m.isfile() and m.name.endswith(".csv")),
                key=lambda m: m.name,
            )
            texts = [(Path(m.name).name, archive.extractfile(m).read().decode("utf-8-sig")) for m in members]  # type: ignore[union-attr]
    except (OSError, tarfile.TarError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    if not texts:
        raise InputError(f"{path} holds no .csv file")
    for name, text in texts:
        yield from _table(text, path / name, subject=name.partition(".")[0])


def _table(text: str, path: Path, *, subject: str) -> Iterator[tuple[int, Row]]:
    """Rows of a CSV. Six columns whose last is one of A to D in every row are MMLU's without a header."""
    try:
        rows = [row for row in csv.reader(io.StringIO(text), strict=True) if row]
    except csv.Error as error:
        raise InputError(f"cannot read {path}: {error}") from error
    if not rows:
        raise InputError(f"{path} is empty: no row to read")
    header = ["question", "choice0", "choice1", "choice2", "choice3", "answer"]
    bare = len(rows[0]) == 6 and all(row[-1].strip() in ("A", "B", "C", "D") for row in rows)
    names, records = (header, rows) if bare else (rows[0], rows[1:])
    for line, row in enumerate(records, start=1 if bare else 2):
        if len(row) != len(names):
            raise InputError(f"{path}, row {line}: {len(names)} columns expected, {len(row)} found")
        yield (
            line,
            {
                "subject": subject.removesuffix("_test").removesuffix("_dev").removesuffix("_val"),
                **dict(zip(names, row, strict=True)),
            },
        )
    if not records:
        raise InputError(f"{path} holds a header and no row")


def _json(path: Path) -> Iterable[Row]:
    text = _text(path)
    try:
        content: Any = json.loads(text)
    except json.JSONDecodeError:
        try:
            content = [json.loads(line) for line in text.splitlines() if line.strip()]
        except json.JSONDecodeError as error:
            raise InputError(f"{path} is neither JSON nor JSON lines: {error.msg}") from error
    if isinstance(content, Mapping):
        lists = [value for value in content.values() if isinstance(value, list)]
        content = lists[0] if len(lists) == 1 else content
    if not isinstance(content, list) or not content or not all(isinstance(row, dict) for row in content):
        raise InputError(f"{path} must hold a list of objects; found {type(content).__name__}")
    return content


def read_evaluations(paths: Iterable[Path]) -> list[Evaluation]:
    """The evaluations of the files, and of all files in the folders, under distinct names. Raises InputError
    on a path that does not exist, a file in no known format, and two evaluations of one name.
    """
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise InputError(f"{path} does not exist; give a file, or a folder of files")
        files += (
            sorted(
                p for p in path.iterdir() if p.is_file() and not p.name.startswith((".", *COMPANION_FILES))
            )
            if path.is_dir()
            else [path]
        )
    evaluations: dict[str, Evaluation] = {}
    for file in files:
        one = read_evaluation(file)
        name = one.name if one.name not in evaluations else f"{file.parent.name}/{one.name}"
        if name in evaluations:
            raise InputError(f"two evaluations are called {name}: rename a file")
        evaluations[name] = replace(one, name=name)
    if not evaluations:
        raise InputError("no file to measure on")
    return list(evaluations.values())
