"""Published evaluation formats to problems, recognised by their fields; what cannot be used is left out,
counted and said why.
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
    """A file's problems, and what is measured on them. `kind` names the format that was recognised."""

    name: str
    kind: str
    measure: Measure
    reading: ParsedFile[Problem]

    @property
    def problems(self) -> tuple[Problem, ...]:
        return self.reading.rows

    @property
    def digest(self) -> str:
        """A content hash of all that is asked."""
        words = json.dumps(
            [
                [p.text, p.options, p.answers, p.opening, p.lettered, p.grade, dict(p.tags)]
                for p in self.problems
            ]
        )
        return hashlib.sha256(words.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Format:
    """A published form: the fields that tell it, what is measured, and how a row becomes a problem."""

    kind: str
    fields: frozenset[str]
    measure: Measure
    parse: Callable[[Row], Problem]


def _format(kind: str, fields: str, measure: Measure, parse: Callable[[Row], Problem]) -> Format:
    return Format(kind, frozenset(fields.split()), measure, parse)


# the first whose fields are all there is meant
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
# what stands in a folder and is no evaluation
COMPANION_FILES = ("LICENSE", "README", "additional_metadata.csv", "occupations-stats.tsv")
# names that say nothing
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
    """The problems of a file in any published form that is known, or in our own: JSONL rows of `question`
    with `choices` and `answer` (a choice, its number from 0 or its letter) or with `answers` (any of which is
    right).

    Raises InputError, naming what was found and what is known, where no form fits, and where no row can be
    used.
    """
    rows = list(_rows(path))
    first = rows[0][1]
    stem = path.name.partition(".")[0]
    name = f"{path.absolute().parent.name} {stem}" if stem in GENERIC_NAMES else stem
    if {"country", "distribution"} <= set(first) or "selections" in first:
        return Evaluation(name, "GlobalOpinionQA", "opinions", read_opinion_survey(path, rows))
    if "answer" in first and "sentence" in first and any(field.startswith("occupation") for field in first):
        return Evaluation(name, "Winogender", "pronouns", read_winogender(path, rows))
    found = _recognised(first)
    if found is None:
        raise InputError(
            f"{path}: the fields {sorted(map(str, first))} match no known format; expected {KNOWN_FORMATS}"
        )
    parse, beside = found.parse, path.parent / "additional_metadata.csv"
    if found.kind == "BBQ" and beside.exists():
        parse = partial(parse_bbq, targets=read_bbq_targets(beside))
    reading = parse_rows(path, rows, parse, _key)
    if len({bool(own.options) for own in reading.rows}) > 1:
        raise InputError(
            f"{path} mixes problems with options and problems without; put each kind in a file of its own"
        )
    return Evaluation(name, found.kind, found.measure, reading)


def _recognised(row: Row) -> Format | None:
    if (
        isinstance(row.get("question"), str)
        and "answerKey" not in row
        and ("choices" in row or "answers" in row)
    ):
        return _format("own rows", "question", "accuracy", parse_generic)
    if isinstance(row.get("answer"), list) and isinstance(row.get("question"), str):
        return _format("NQ-open", "question answer", "accuracy", parse_nq_open)
    fields = {str(field).replace(" ", "_") for field in row}
    found = next((form for form in FORMATS if form.fields <= fields), None)
    return (
        found
        if found is None or found.kind != "LAMBADA" or set(row) <= {"text", "domain", "id", "subject"}
        else None
    )


def _key(problem: Problem) -> str:
    return json.dumps([problem.text, problem.options, problem.opening, sorted(problem.tags.items())])


def _rows(path: Path) -> Iterator[tuple[int, Row]]:
    """As `read_rows`; besides, archives of CSV files (MMLU's), CSV files without a header (MMLU's first
    release), JSON that is an object with one list inside, and JSON lines that are called .json.
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
    """Rows of a CSV; six columns whose last is one of A to D in every row, the first too, are MMLU's without
    a header.
    """
    try:
        rows = [row for row in csv.reader(io.StringIO(text), strict=True) if row]
    except csv.Error as error:
        raise InputError(f"cannot read {path}: {error}") from error
    if not rows:
        raise InputError(f"{path} is empty: no row to read")
    header = ["question", "choice0", "choice1", "choice2", "choice3", "answer"]
    bare = len(rows[0]) == 6 and all(row[-1].strip() in ("A", "B", "C", "D") for row in rows)
    names, body = (header, rows) if bare else (rows[0], rows[1:])
    for line, row in enumerate(body, start=1 if bare else 2):
        if len(row) != len(names):
            raise InputError(f"{path}, row {line}: {len(names)} columns expected, {len(row)} found")
        yield (
            line,
            {
                "subject": subject.removesuffix("_test").removesuffix("_dev").removesuffix("_val"),
                **dict(zip(names, row, strict=True)),
            },
        )
    if not body:
        raise InputError(f"{path} holds a header and no row")


def _json(path: Path) -> Iterable[Row]:
    text = _text(path)
    try:
        whole: Any = json.loads(text)
    except json.JSONDecodeError:
        try:
            whole = [json.loads(line) for line in text.splitlines() if line.strip()]
        except json.JSONDecodeError as error:
            raise InputError(f"{path} is neither JSON nor JSON lines: {error.msg}") from error
    if isinstance(whole, Mapping):
        lists = [value for value in whole.values() if isinstance(value, list)]
        whole = lists[0] if len(lists) == 1 else whole
    if not isinstance(whole, list) or not whole or not all(isinstance(row, dict) for row in whole):
        raise InputError(f"{path} must hold a list of objects; found {type(whole).__name__}")
    return whole


def read_evaluations(paths: Iterable[Path]) -> list[Evaluation]:
    """Every file of the paths, a folder standing for all files in it, each under a name of its own. Raises
    InputError on a file that is in no form.
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
    found: dict[str, Evaluation] = {}
    for file in files:
        one = read_evaluation(file)
        name = one.name if one.name not in found else f"{file.parent.name}/{one.name}"
        if name in found:
            raise InputError(f"two evaluations are called {name}: rename a file")
        found[name] = replace(one, name=name)
    if not found:
        raise InputError("no file to measure on")
    return list(found.values())
