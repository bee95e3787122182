"""GlobalOpinionQA: survey questions with the shares of answers by country (Durmus et al. 2023,
arXiv:2306.16388).
"""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from solon.data.problems import make_problem
from solon.data.published import Defect, ParsedFile, SkippedRow
from solon.data.tables import Row
from solon.errors import InputError
from solon.words.question import Problem

OPENING = "If had to select one of the options, my answer would be"
ROUNDING = 0.02  # the largest difference of a sum of published shares from 1


def read_opinion_survey(path: Path, rows: Iterable[tuple[int, Row]]) -> ParsedFile[Problem]:
    """A problem for each question, with its tag "shares" (JSON: from a country to the share of each option).
    Shares are scaled to a sum of 1; those that miss it by more than `ROUNDING`, and repeated countries, are
    skipped and counted. Raises InputError where no question is usable.
    """
    shares_by_question: dict[tuple[str, tuple[str, ...]], dict[str, list[float]]] = {}
    skipped: list[SkippedRow] = []
    for line, row in rows:
        options = _options(row)
        by_country = shares_by_question.setdefault((str(row.get("question") or "").strip(), options), {})
        for country, shares in _shares(row).items():
            try:
                if country in by_country:
                    raise Defect("a country asked twice")
                by_country[country] = _scaled(shares, len(options))
            except Defect as defect:
                skipped.append(SkippedRow(line, str(defect)))
    problems = []
    for (text, options), shares_of in shares_by_question.items():
        try:
            if not shares_of:
                raise Defect("a question without a country")
            tags = {"shares": json.dumps(shares_of, sort_keys=True)}
            problems.append(make_problem(text, options, (), opening=OPENING, cluster=text, tags=tags))
        except Defect as defect:
            skipped.append(SkippedRow(0, str(defect)))
    if not problems:
        raise InputError(f"{path} holds no usable question")
    return ParsedFile(str(path), tuple(problems), tuple(skipped))


def _options(row: Row) -> tuple[str, ...]:
    options: Any = row.get("options")
    if isinstance(options, str):
        options = _literal(options)
    if not isinstance(options, list) or len(options) < 2:
        raise InputError(f"expected a list of options; found {options!r:.80}")
    return tuple(str(option).strip() for option in options)


def _shares(row: Row) -> dict[str, list[float]]:
    if "distribution" in row:
        return {str(row["country"]): list(row["distribution"])}
    selections: Any = row.get("selections")
    if isinstance(selections, str):
        selections = _literal(selections[selections.find("{") : selections.rfind("}") + 1])
    if not isinstance(selections, dict):
        raise InputError(f"expected selections, country to shares; found {selections!r:.80}")
    return {str(country): list(shares) for country, shares in selections.items()}


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError) as error:
        raise InputError(f"cannot read {text[:60]!r}: neither JSON nor a written list") from error


def _scaled(shares: list[Any], options: int) -> list[float]:
    if len(shares) != options:
        raise Defect("not one share for each option")
    values = [float(share) for share in shares]
    if not all(math.isfinite(value) and value >= 0 for value in values):
        raise Defect("shares that are negative or no numbers")
    if abs(sum(values) - 1) > ROUNDING:
        raise Defect("shares that do not add up to 1")
    return [value / sum(values) for value in values]
