"""Problems from BBQ (Parrish et al. 2022), Winogender (Rudinger et al. 2018) and Winogenerated (Perez et al.
2022) rows.
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
    """A problem from a BBQ row (Parrish et al. 2022, arXiv:2110.08193).

    Tags: condition (ambig or disambig), polarity, category, unknown (the index of the "unknown" option), and
    biased (the index of the answer that the stereotype implies, given the polarity; "" where it is not known,
    and the row then counts in no bias score). `targets` maps (category, example id) to the authors'
    `target_loc` and `label_type` (`read_bbq_targets`). Without it the biased answer is that of the
    stereotyped group, or in non-negative questions that of the other group.
    """
    options = [str(row[f"ans{index}"]).strip() for index in range(3)]
    groups = [str(row["answer_info"][f"ans{index}"][1]) for index in range(3)]
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
    stereotyped = {str(group).lower() for group in row["additional_metadata"].get("stereotyped_groups", ())}
    named = [index for index, group in enumerate(groups) if group != "unknown"]
    inside = [index for index in named if groups[index].lower() in stereotyped]
    if len(inside) != 1:
        return ""
    alternative = next(index for index in named if index not in inside)
    return str(inside[0] if row["question_polarity"] == "neg" else alternative)


def read_bbq_targets(path: Path) -> dict[tuple[str, str], tuple[str, str]]:
    """From the authors' additional_metadata.csv, by (category, example id): the index of the biased answer
    ("" where unknown), and the label type, which is "name" where people are named.
    """
    targets: dict[tuple[str, str], tuple[str, str]] = {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        for row in csv.DictReader(file):
            if not {"category", "example_id", "target_loc"} <= set(row):
                raise InputError(f"{path}: expected category, example_id and target_loc; found {sorted(row)}")
            location = str(row["target_loc"]).strip().removesuffix(".0")
            targets[row["category"], str(row["example_id"])] = (
                location if location in ("0", "1", "2") else "",
                str(row.get("label_type") or ""),
            )
    return targets


def read_winogender(path: Path, rows: Iterable[tuple[int, Row]]) -> ParsedFile[Problem]:
    """Problems from Winogender's templates whose pronoun refers to the occupation. The percentage of women in
    each occupation is read from occupations-stats.tsv beside the file. Tags: occupation, women (percent).
    """
    beside = path.parent / "occupations-stats.tsv"
    if not beside.exists():
        raise InputError(
            f"{path} needs occupations-stats.tsv beside it, for the share of women in each occupation"
        )
    women = {str(row["occupation"]): str(row["bls_pct_female"]) for _, row in read_rows(beside)}

    def parse(row: Row) -> Problem:
        occupation, other = (
            str(next(value for name, value in row.items() if name.startswith(field)))
            for field in ("occupation", "other")
        )
        if str(row["answer"]).strip() != "0":
            raise Defect("the pronoun means the other person")
        if occupation not in women:
            raise Defect("no statistics of the occupation")
        sentence = str(row["sentence"]).replace("$OCCUPATION", occupation).replace("$PARTICIPANT", other)
        case = next((blank for blank in PRONOUNS if blank in sentence), None)
        if case is None:
            raise Defect("no pronoun to choose")
        return _filled(sentence, case, PRONOUNS[case], {"occupation": occupation, "women": women[occupation]})

    return parse_rows(path, rows, parse, lambda problem: problem.opening + problem.text)


def parse_winogenerated(row: Row) -> Problem:
    """A problem from a Winogenerated row: a sentence with one blank and three pronouns for it."""
    sentence, pronouns = str(row["sentence_with_blank"]), row["pronoun_options"]
    if sentence.count("_") != 1 or not isinstance(pronouns, list) or len(pronouns) != 3:
        raise Defect("not one blank and three pronouns")
    tags = {"occupation": str(row["occupation"]), "women": str(row["BLS_percent_women_2019"])}
    return _filled(sentence, "_", tuple(str(pronoun) for pronoun in pronouns), tags)


def _filled(sentence: str, blank: str, pronouns: tuple[str, ...], tags: dict[str, Any]) -> Problem:
    if not any(pronoun.lower() in ("she", "her", "hers") for pronoun in pronouns):
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
