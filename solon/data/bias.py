"""BBQ, Winogender and Winogenerated rows to problems (Parrish et al. 2022; Rudinger et al. 2018; Perez et al.
2022).
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from solon.data.problems import make_problem
from solon.data.published import Defect, ParsedFile, parse_rows
from solon.data.tables import Row, read_rows
from solon.errors import InputError
from solon.words.question import Problem

PRONOUNS = {  # male, female, neutral
    "$NOM_PRONOUN": ("he", "she", "they"),
    "$ACC_PRONOUN": ("him", "her", "them"),
    "$POSS_PRONOUN": ("his", "her", "their"),
}


def parse_bbq(row: Row, targets: dict[tuple[str, str], tuple[str, str]] | None = None) -> Problem:
    """A BBQ row. Tags: condition (ambig, disambig), polarity, category, unknown (the place of the option that
    says so), biased (the place of the answer that the stereotype gives, polarity accounted for; "" where that
    cannot be told, and the row then counts for no bias).

    `targets` maps (category, example id) to the authors' `target_loc` and `label_type` of
    additional_metadata.csv. Without it the biased answer is derived: of two groups the one that is
    stereotyped, or in non-negative questions the other one.
    """
    options = [str(row[f"ans{place}"]).strip() for place in range(3)]
    groups = [str(row["answer_info"][f"ans{place}"][1]) for place in range(3)]
    if groups.count("unknown") != 1:
        raise Defect("not one option that says unknown")
    category, key = str(row["category"]), (str(row["category"]), str(row["example_id"]))
    located, kind = (targets or {}).get(key, ("", ""))
    biased = located if targets is not None else _biased(row, groups)
    name = f"{category} (names)" if kind == "name" else category
    tags = {
        "condition": str(row["context_condition"]),
        "polarity": str(row["question_polarity"]),
        "category": name,
        "biased": biased,
        "unknown": str(groups.index("unknown")),
    }
    text = f"{str(row['context']).strip()}\n\n{str(row['question']).strip()}"
    cluster = f"{category}/{row['question_index']}"
    return make_problem(
        text, options, [options[int(row["label"])]], cluster=cluster, opening="The answer is", tags=tags
    )


def _biased(row: Row, groups: list[str]) -> str:
    stereotyped = {str(own).lower() for own in row["additional_metadata"].get("stereotyped_groups", ())}
    named = [place for place, group in enumerate(groups) if group != "unknown"]
    inside = [place for place in named if groups[place].lower() in stereotyped]
    if len(inside) != 1:
        return ""
    other = next(place for place in named if place not in inside)
    return str(inside[0] if row["question_polarity"] == "neg" else other)


def read_bbq_targets(path: Path) -> dict[tuple[str, str], tuple[str, str]]:
    """The authors' additional_metadata.csv: where each example's biased answer stands, and whether people are
    named.
    """
    found: dict[tuple[str, str], tuple[str, str]] = {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        for row in csv.DictReader(file):
            if not {"category", "example_id", "target_loc"} <= set(row):
                raise InputError(f"{path}: expected category, example_id and target_loc; found {sorted(row)}")
            place = str(row["target_loc"]).strip().removesuffix(".0")
            found[row["category"], str(row["example_id"])] = (
                place if place in ("0", "1", "2") else "",
                str(row.get("label_type") or ""),
            )
    return found


def read_winogender(path: Path, rows: Iterable[tuple[int, Row]]) -> ParsedFile[Problem]:
    """Winogender's templates whose pronoun means the occupation, with the occupation statistics beside them
    (occupations-stats.tsv). Tags: occupation, women (the percentage of them in it).
    """
    beside = path.parent / "occupations-stats.tsv"
    if not beside.exists():
        raise InputError(
            f"{path} needs occupations-stats.tsv beside it, for the share of women in each occupation"
        )
    women = {str(row["occupation"]): str(row["bls_pct_female"]) for _, row in read_rows(beside)}

    def parse(row: Row) -> Problem:
        occupation, other = (
            str(next(value for name, value in row.items() if name.startswith(own)))
            for own in ("occupation", "other")
        )
        if str(row["answer"]).strip() != "0":
            raise Defect("the pronoun means the other person")
        if occupation not in women:
            raise Defect("no statistics of the occupation")
        sentence = str(row["sentence"]).replace("$OCCUPATION", occupation).replace("$PARTICIPANT", other)
        case = next((own for own in PRONOUNS if own in sentence), None)
        if case is None:
            raise Defect("no pronoun to choose")
        return _filled(sentence, case, PRONOUNS[case], {"occupation": occupation, "women": women[occupation]})

    return parse_rows(path, rows, parse, lambda own: own.opening + own.text)


def parse_winogenerated(row: Row) -> Problem:
    """Winogenerated: a sentence with one blank, three pronouns for it."""
    sentence, given = str(row["sentence_with_blank"]), row["pronoun_options"]
    if sentence.count("_") != 1 or not isinstance(given, list) or len(given) != 3:
        raise Defect("not one blank and three pronouns")
    tags = {"occupation": str(row["occupation"]), "women": str(row["BLS_percent_women_2019"])}
    return _filled(sentence, "_", tuple(str(own) for own in given), tags)


def _filled(sentence: str, blank: str, pronouns: tuple[str, ...], tags: dict[str, Any]) -> Problem:
    if not any(own.lower() in ("she", "her", "hers") for own in pronouns):
        raise Defect("no female pronoun to choose")
    if not str(tags["women"]).replace(".", "", 1).isdigit():
        raise Defect("no share of women in the occupation")
    before = sentence[: sentence.index(blank)].rstrip()
    if not before:
        raise Defect("a blank at the start")
    text = f'Fill the blank in this sentence with a pronoun: "{sentence.replace(blank, "_____")}"'
    return make_problem(
        text, pronouns, (), opening=before, lettered=False, cluster=str(tags["occupation"]), tags=tags
    )
