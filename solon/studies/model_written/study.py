"""Discovering Language Model Behaviors with Model-Written Evaluations (Perez et al. 2022, arXiv:2212.09251),
top to bottom.

A model writes statements, questions with choices, introductions and sentences that should carry given labels;
a judge's confidence filters and balances them; people or a stronger model check the labels; a map shows how
varied they are. Then models, by size or by training step, answer what was written and the published sets.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from solon.alignment.red_teaming import map_attacks
from solon.data.evaluations import Evaluation, read_evaluation
from solon.errors import InputError
from solon.evaluation.measure import Outcome, choice_outcomes
from solon.models.base import LanguageModel, Speaker, derive
from solon.models.choice import choose
from solon.records.files import write_text
from solon.records.report import Report
from solon.records.run import Run
from solon.statistics.intervals import bootstrap
from solon.studies.model_written.behaviours import Behaviour, Occupation, Topic
from solon.studies.model_written.kinds import beside, biographies, multiple_choice, sentences, statements
from solon.studies.model_written.report import Checked, Findings, Mapped, report
from solon.studies.model_written.writing import (
    Brief,
    Item,
    Kind,
    Scorer,
    balanced,
    judged,
    labels_of,
    spread,
    tidied,
    without_repeats,
    written,
)
from solon.study.outcomes import key_of, read, row_of
from solon.study.stages import slug
from solon.words.question import Problem, Question

Embed = Callable[[Sequence[str]], np.ndarray]
Layout = Callable[[np.ndarray, int], np.ndarray]


@dataclass(frozen=True, slots=True)
class Settings:
    """Every number that can be changed."""

    rounds: int = 250
    """of requests for statements, introductions and sentences"""
    count: int = 16
    """items that the writer is asked for in a request"""
    tries: int = 2000
    """questions with choices that are asked for, of each behaviour and label, after five gold ones drawn anew
    """
    each: int = 500
    """items kept of each behaviour and label, the surest"""
    sentences_each: int = 10
    """kept of an occupation"""
    writer_tokens: int = 128
    """of an item"""
    temperature: float = 1.0
    """of the writer"""
    validated: int = 200
    """items of a kind that the validator or people look at, drawn among kept and dropped"""
    map_rows: int = 300
    """texts of each origin on the map"""
    limit: int = 0
    """rows asked of each set; 0 asks all"""

    def __post_init__(self) -> None:
        counts = (
            self.rounds,
            self.count,
            self.tries,
            self.each,
            self.sentences_each,
            self.writer_tokens,
            self.validated,
        )
        if min(counts) < 1 or (self.limit and self.limit < 20) or self.map_rows < 10 or self.temperature <= 0:
            raise InputError(
                "every number is at least 1, map_rows 10, limit 0 or at least 20, and the temperature above 0"
            )


def quick() -> Settings:
    """Minutes on two cores."""
    return Settings(
        rounds=4,
        count=8,
        tries=24,
        each=8,
        sentences_each=4,
        writer_tokens=64,
        validated=80,
        map_rows=80,
        limit=100,
    )


def full() -> Settings:
    """The paper's shape: a thousand statements of a behaviour, ten sentences of an occupation."""
    return Settings()


@dataclass(frozen=True, slots=True)
class Inputs:
    """Who writes and who judges; what is to be written about; who looks over the labels (a stronger model, or
    people's labels by text); models to be measured, in the order of size or of training; published sets; how
    texts become vectors for the map.
    """

    writer: Speaker
    score: Scorer
    judge: str
    models: tuple[LanguageModel, ...]
    embed: Embed
    behaviours: tuple[Behaviour, ...] = ()
    gold: tuple[tuple[str, tuple[Problem, ...]], ...] = ()
    topics: tuple[Topic, ...] = ()
    occupations: tuple[Occupation, ...] = ()
    validator: LanguageModel | None = None
    people: tuple[tuple[str, str], ...] = ()
    published: tuple[tuple[str, Evaluation], ...] = ()
    layout: Layout | None = None
    counts: tuple[tuple[str, int], ...] = ()


def study(run: Run, settings: Settings, inputs: Inputs) -> Report:
    """All of it; every stage is kept, and gone on from."""
    found = Findings(
        dict(inputs.counts), inputs.judge, None if inputs.validator is None else inputs.validator.name
    )
    sets: list[tuple[str, Evaluation]] = []
    for kind in kinds(run, settings, inputs, found.counts):
        # 1. items that should carry a label; what cannot be used, and what repeats, is counted
        items = wrote(run, kind, settings, inputs, found)

        # 2. how sure the judge is of each label; of every label the surest are kept, equally many
        sure = judgements(run, kind, items, inputs)
        found.items[kind.name] = sure
        found.kept[kind.name] = balanced(
            sure, kind.labels, each=settings.sentences_each if kind.name == "sentence" else settings.each
        )
        found.labels[kind.name] = kind.labels
        sets += exported(run, kind, found.kept[kind.name], found)

        # 3. whether others give the same labels
        found.checked[kind.name] = validated(run, kind, settings, inputs, found)
    to_label(run, inputs, found)

    # 4. how varied what was written is, beside what is published under the same name
    found.maps = maps(run, settings, inputs, found)

    # 5. what models answer, to what was written and to the published sets
    for group, evaluation in (*sets, *inputs.published):
        order = sorted(
            evaluation.problems,
            key=lambda own: derive(run.seed, "order", own.text, own.opening, *own.options),
        )
        problems = order[: settings.limit or None]
        found.counts[f"{group} {evaluation.name}: rows not drawn"] = len(order) - len(problems)
        found.evaluations[f"{group} {evaluation.name}"] = evaluation
        for model in inputs.models:
            found.outcomes[f"{group} {evaluation.name}", model.name] = answered(
                run, f"{group} {evaluation.name}", model, problems
            )
    return report(asdict(settings), found, [model.name for model in inputs.models])


def kinds(run: Run, settings: Settings, inputs: Inputs, counts: dict[str, int]) -> list[Kind]:
    """Those that there is something to write about."""
    found = []
    if inputs.behaviours:
        found.append(statements(inputs.behaviours, rounds=settings.rounds, count=settings.count))
    if inputs.gold:
        found.append(multiple_choice(inputs.gold, tries=settings.tries, seed=run.seed))
    if inputs.topics:
        found.append(biographies(inputs.topics, rounds=settings.rounds, count=settings.count, seed=run.seed))
    if inputs.occupations:

        def make(some: Sequence[Occupation]) -> list[dict[str, Any]]:
            return [
                {"other": name} for name in beside(inputs.writer, inputs.score, some, count=4, seed=run.seed)
            ]

        others = [
            row["other"]
            for row in run.rows("beside", inputs.occupations, lambda own: own.name, make, size=16)
        ]
        paired = [(own, other) for own, other in zip(inputs.occupations, others, strict=True) if other]
        counts["occupations for which the writer named nobody met at work"] = len(inputs.occupations) - len(
            paired
        )
        if paired:
            found.append(
                sentences(
                    [own for own, _ in paired],
                    [other for _, other in paired],
                    rounds=settings.rounds,
                    count=settings.count,
                )
            )
    for kind in found:
        counts |= Counter(kind.left_out)
    return found


def wrote(run: Run, kind: Kind, settings: Settings, inputs: Inputs, found: Findings) -> list[Item]:
    """What the writer wrote, each text once."""

    def make(some: Sequence[Brief]) -> list[dict[str, Any]]:
        words = written(
            inputs.writer,
            kind,
            some,
            max_tokens=settings.writer_tokens,
            temperature=settings.temperature,
            seed=run.seed,
        )
        return [{"words": own} for own in words]

    rows = run.rows(
        f"written_{slug(kind.name)}",
        kind.briefs,
        lambda own: f"{own.round} {own.label} {own.prompt.key}",
        make,
        size=16,
    )
    items: list[Item] = []
    for brief, row in zip(kind.briefs, rows, strict=True):
        own, reasons = tidied(kind, brief, row["words"])
        items += own
        for reason in reasons:
            name = f"{kind.name}: left out, {reason}"
            found.counts[name] = found.counts.get(name, 0) + 1
    once, repeats, several = without_repeats(items)
    found.counts |= {
        f"{kind.name}: left out, repeats another": repeats,
        f"{kind.name}: left out, written for several labels": several,
    }
    if not once:
        raise InputError(
            f"the writer wrote no {kind.name} that can be used; its words are in "
            f"{run.folder / f'written_{slug(kind.name)}.jsonl'}"
        )
    return once


def judgements(run: Run, kind: Kind, items: Sequence[Item], inputs: Inputs) -> list[Item]:
    def make(some: Sequence[Item]) -> list[dict[str, Any]]:
        return [asdict(own) for own in judged(kind, inputs.score, some)]

    rows = run.rows(
        f"judged_{slug(kind.name)}",
        items,
        lambda own: f"{own.label} {kind.check(own.subject, own.text).prompt.key}",
        make,
        size=64,
    )
    return [Item(row["subject"], row["label"], row["text"], row["confidence"]) for row in rows]


def exported(run: Run, kind: Kind, kept: Sequence[Item], found: Findings) -> list[tuple[str, Evaluation]]:
    """A file in the published form for each subject (one for all occupations), read back as anybody would."""
    files: dict[str, list[Item]] = {}
    for item in kept:
        files.setdefault("occupations" if kind.name == "sentence" else item.subject, []).append(item)
    evaluations = []
    for name, own in files.items():
        path = run.folder / "evaluations" / plain(kind.name) / f"{plain(name)}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, "".join(json.dumps(kind.row(item), ensure_ascii=False) + "\n" for item in own))
        evaluation = read_evaluation(path)
        found.counts |= {
            f"written {kind.name} {name}: {reason}": n for reason, n in evaluation.reading.counts().items()
        }
        if evaluation.measure == "pronouns" and len({item.subject for item in own}) < 4:
            found.counts["written sentences of fewer than four occupations, not measured"] = len(own)
        else:
            evaluations.append((f"written {kind.name}", evaluation))
    return evaluations


def plain(name: str) -> str:
    """
    >>> plain("multiple choice")
    'multiple-choice'
    """
    return re.sub(r"[^\w-]", "-", name)


def validated(run: Run, kind: Kind, settings: Settings, inputs: Inputs, found: Findings) -> list[Checked]:
    """Labels that a stronger model and people give, blind, to items drawn alike among kept and dropped
    ones.
    """
    kept = set(found.kept[kind.name])
    drawn: list[Item] = []
    for part in (True, False):
        some = [item for item in found.items[kind.name] if (item in kept) == part]
        drawn += sorted(some, key=lambda item: derive(run.seed, "validated", item.text))[
            : settings.validated // 2
        ]
    drawn.sort(key=lambda item: derive(run.seed, "blind", item.text))
    questions = [kind.check(item.subject, item.text) for item in drawn]
    checked: list[Checked] = []
    if inputs.validator is not None:
        validator = inputs.validator

        def make(some: Sequence[Question]) -> list[dict[str, Any]]:
            pairs = zip(some, choose(validator, some), strict=True)
            return [
                {"label": labels_of(question)[int(np.argmax(own.belief))], "mass": own.mass}
                for question, own in pairs
            ]

        rows = run.rows(f"validated_{slug(kind.name)}", questions, lambda own: own.prompt.key, make, size=64)
        found.masses[kind.name] = [row["mass"] for row in rows]
        checked += [
            Checked(item, item in kept, inputs.validator.name, row["label"])
            for item, row in zip(drawn, rows, strict=True)
        ]
    for item, question in zip(drawn, questions, strict=True):
        asked = question.prompt.turns[0].text
        found.blind.append((kind.name, asked, tuple(labels_of(question))))
        # one of several people each
        checked += [
            Checked(item, item in kept, "people", label) for words, label in inputs.people if words == asked
        ]
    return checked


def to_label(run: Run, inputs: Inputs, found: Findings) -> None:
    """The same items for people, without any label; filled in, they are read by --labels. Raises InputError
    where none of people's labels is of one.
    """
    asked = {words for _, words, _ in found.blind}
    strangers = sum(words not in asked for words, _ in inputs.people)
    if inputs.people and strangers == len(inputs.people):
        raise InputError(
            f"none of {strangers} labels is of an item of this run; fill in its own "
            f"{run.folder / 'to_label.jsonl'}"
        )
    found.counts["people's labels of items that were not drawn here"] = strangers
    rows = [
        {"kind": name, "question": asked, "choices": list(choices), "label": ""}
        for name, asked, choices in found.blind
    ]
    write_text(
        run.folder / "to_label.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    )


def maps(run: Run, settings: Settings, inputs: Inputs, found: Findings) -> list[Mapped]:
    """What was kept of each subject beside the published set of its name, on a plane."""
    published = {evaluation.name: evaluation for _, evaluation in inputs.published}
    made = []
    for kind, items in found.kept.items():
        for subject in dict.fromkeys(item.subject for item in items if kind != "sentence"):
            own = [("written", item.label, item.text) for item in items if item.subject == subject][
                : settings.map_rows
            ]
            twin = published.get(subject)
            labels = {label for _, label, _ in own}
            problems = (
                ()
                if twin is None or not labels & {own.answers[0] for own in twin.problems if own.answers}
                else sorted(twin.problems, key=lambda one: derive(run.seed, "map", one.text))[
                    : settings.map_rows
                ]
            )
            own += [
                ("published", problem.answers[0], bare(problem.text) if kind == "statement" else problem.text)
                for problem in problems
                if problem.answers
            ]
            if len(own) < 10:
                found.counts["subjects with fewer than 10 texts, not on a map"] = (
                    found.counts.get("subjects with fewer than 10 texts, not on a map", 0) + 1
                )
                continue
            vectors_NC = standardised(
                np.asarray(inputs.embed([text for _, _, text in own]), dtype=np.float64)
            )
            plane = map_attacks(vectors_NC, clusters=1, seed=run.seed, layout=inputs.layout)
            spreads = {}
            for origin in ("written", "published") if problems else ():
                places = [float(place) for place, (of, _, _) in enumerate(own) if of == origin]
                if len(places) > 9:
                    spreads[origin] = bootstrap(places, spread(vectors_NC), resamples=300, seed=run.seed)
            made.append(
                Mapped(
                    f"{kind}, {subject}",
                    tuple((origin, label) for origin, label, _ in own),
                    plane.positions_N2,
                    spreads,
                )
            )
    return made


def bare(text: str) -> str:
    """A published statement without the question around it."""
    return text.partition('"')[2].rpartition('"')[0] or text


def standardised(vectors_NC: np.ndarray) -> np.ndarray:
    """Every dimension at mean 0 and deviation 1; one in which nothing differs is left out."""
    deviation_C = vectors_NC.std(axis=0)
    return np.asarray(
        (vectors_NC - vectors_NC.mean(axis=0))[:, deviation_C > 0] / deviation_C[deviation_C > 0]
    )


def answered(run: Run, name: str, model: LanguageModel, problems: Sequence[Problem]) -> list[Outcome]:
    rows = run.rows(
        slug(f"{name} {model.name}"),
        problems,
        key_of,
        lambda some: [row_of(own) for own in choice_outcomes(model, some)],
        size=128,
    )
    return [own for own in map(read, rows) if isinstance(own, Outcome)]
