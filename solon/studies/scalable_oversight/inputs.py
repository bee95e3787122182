"""`solon run scalable_oversight [MODEL]`: sandwiching with people's answers or a weak model; without a model,
scripted ones.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro

from solon.alignment.preference import PreferenceModel
from solon.data.evaluations import read_evaluation
from solon.data.tables import read_rows
from solon.errors import InputError
from solon.models.huggingface import load_classifier
from solon.models.load import load_open
from solon.models.scripted import ScriptedModel
from solon.records.run import digest
from solon.studies.scalable_oversight.oversight import LEVELS, Given, Person, question_of
from solon.studies.scalable_oversight.study import Inputs, Settings, full, quick, study
from solon.study.legacy import (
    StudyOptions,
    content_hash,
    model_key,
    parse_with_preset,
    run_study,
    say,
    skipped_counts,
)
from solon.study.outcomes import digest_of
from solon.words.conversation import Conversation
from solon.words.question import Problem, choice_label

TOY = "toy"
KNOWS = {"weak": 0.4, "strong": 0.7}  # the share of toy questions that each scripted model has right


@dataclass(frozen=True)
class Options(StudyOptions):
    """Measure what help from a model is worth to those who know little: simulated by a weak model, or people,
    never together.
    """

    model: Annotated[str, tyro.conf.Positional] = TOY
    """the assistant: smollm2, gemma3-270m, a model folder, or a hub id; toy: scripted models, offline"""
    weak: str = ""
    """a model that stands in for people"""
    questions_from: Path | None = None
    """an evaluation with options and answers"""
    examples_from: Path | None = None
    """another, that the assistant's worked examples are drawn from"""
    people: Path | None = None
    """people's answers: rows of participant, condition (assisted, unassisted), question, options, answer,
    chosen and confidence (25 to 100)
    """
    judge: Path | None = None
    """a preference model's folder, to choose among chains of thought"""
    settings: Settings = field(default_factory=quick)


def main(argv: Sequence[str]) -> int:
    options = parsed(argv)
    inputs = toy_inputs() if options.model == TOY else real_inputs(options)
    settings = options.settings
    told_of = {
        "strong": model_key(inputs.strong),
        "questions": digest_of(inputs.examples, inputs.problems),
        "people": digest([repr(own) for own in inputs.people]),
    }
    told_of |= {"weak": model_key(inputs.weak)} if inputs.weak is not None else {}
    told_of |= {"judge": content_hash(options.judge)} if options.judge is not None else {}
    return run_study(
        options,
        "scalable_oversight",
        asdict(settings),
        told_of,
        inputs.strong.name,
        lambda run: study(run, settings, inputs),
    )


def parsed(argv: Sequence[str]) -> Options:
    """The flags, over the preset's settings."""
    toy = Options(settings=replace(full(), questions=200, best_of=8, participants=5, turns=1, shots=0))
    presets = {
        "quick": Options(settings=quick()),
        "full": Options(preset="full", settings=full()),
        "toy": toy,
    }
    return parse_with_preset(
        Options,
        argv,
        command="run scalable_oversight",
        **presets,
        is_toy=lambda options: options.model == TOY,
    )


# the toy world: what a scripted model has right is drawn once for each question


def toy_problems(count: int = 200) -> tuple[Problem, ...]:
    rng = random.Random("oversight")
    options = [
        tuple(f"{word} {number}" for word in ("amber", "beryl", "coral", "delft")) for number in range(count)
    ]
    return tuple(
        Problem(f"Question: what is case {number} ?", own, (rng.choice(own),))
        for number, own in enumerate(options)
    )


def _thinks(name: str, problem: Problem) -> str:
    rng = random.Random(f"{name} {problem.text}")
    wrong = rng.choice([own for own in problem.options if own != problem.answers[0]])
    return problem.answers[0] if rng.random() < KNOWS[name] else wrong


def toy_model(name: str, problems: Sequence[Problem]) -> ScriptedModel:
    """Chooses what it thinks; after what an assistant said, that. Of a question it is asked about it says
    what it thinks.
    """
    by_case = {problem.text.split()[4]: problem for problem in problems}

    def case(text: str) -> Problem:
        words = text.split()
        return by_case[
            next(after for word, after in itertools.pairwise(words) if word == "case" and after in by_case)
        ]

    def reply(talk: Conversation, rng: random.Random) -> str:
        if talk.last.startswith("My question"):
            return f" Do you know about case {case(talk.turns[0].text).text.split()[4]} ?"
        problem = case(talk.turns[0].text)
        return f" I think {_thinks(name, problem) if rng.random() < 0.8 else rng.choice(problem.options)}"

    def likes(talk: Conversation, given: str) -> float:
        problem = case(talk.turns[0].text)
        shown = [choice_label(place) for place in range(len(problem.options))]
        said = next(
            (
                own
                for own in problem.options
                if f"I think {own}" in talk.turns[0].text
                or f"I think {own}" in talk.turns[min(1, len(talk.turns) - 1)].text
            ),
            None,
        )
        sure = 0.8 if said else 0.42 if name == "weak" else 0.6
        meant = said or _thinks(name, problem)
        return math.log(
            sure
            if problem.options[shown.index(given.strip())] == meant
            else (1 - sure) / (len(problem.options) - 1)
        )

    return ScriptedModel(name, reply, likes)


def toy_inputs() -> Inputs:
    """A weak model that takes a stronger one's word, and a judge that likes right thoughts a little."""
    problems = toy_problems()
    answers = {problem.text: problem.answers[0] for problem in problems}

    def judge(prompts: Sequence[Conversation], replies: Sequence[str]) -> list[float]:
        return [
            float(answers[own.last.split("\n")[0]] in text)
            for own, text in zip(prompts, replies, strict=True)
        ]

    return Inputs(toy_model("strong", problems), toy_model("weak", problems), problems, judge=judge)


def real_inputs(options: Options) -> Inputs:
    """What the flags name, read and checked before anything runs."""
    if options.questions_from is None:
        raise InputError("give --questions-from with an evaluation that has options and answers")
    found = read_evaluation(options.questions_from)
    problems = tuple(own for own in found.problems if own.options and own.answers)
    if not problems:
        raise InputError(f"{options.questions_from} is {found.kind}: it holds no options with a known answer")
    shown = (
        ()
        if options.examples_from is None
        else tuple(
            own for own in read_evaluation(options.examples_from).problems if own.options and own.answers
        )
    )
    free = not_asked(shown, problems)
    counts = skipped_counts(found.reading, found.name) | {
        "examples that are questions too, or of their template, not shown": len(shown) - len(free)
    }
    people = () if options.people is None else read_people(options.people)
    if not people and not options.weak:
        raise InputError(
            "nobody takes part: give --weak with a model that stands in for people, or --people with their "
            "answers"
        )
    judge = (
        None
        if options.judge is None
        else PreferenceModel(options.judge.name, *load_classifier(options.judge)).score
    )
    strong = load_open(options.model, precision=options.precision, say=say)
    weak = load_open(options.weak, precision=options.precision, say=say) if options.weak else None
    return Inputs(strong, weak, problems, free, people, judge, tuple(counts.items()))


def not_asked(shown: Sequence[Problem], problems: Sequence[Problem]) -> tuple[Problem, ...]:
    """Examples that are no question, nor of the template of one: none is asked with its answer in view."""
    asked_of, templates = (
        {(own.text, own.options) for own in problems},
        {own.cluster for own in problems} - {""},
    )
    return tuple(
        own for own in shown if (own.text, own.options) not in asked_of and own.cluster not in templates
    )


def read_people(path: Path) -> tuple[Given, ...]:
    """People's answers, as the web app will write them. Raises InputError, with the line, on a row that is
    not one.
    """
    found = []
    for line, row in read_rows(path):
        try:
            options = [str(own) for own in row["options"]]
            place = options.index(str(row["chosen"]))
            stated = float(row["confidence"])
            confidence = stated / 100 if stated > 1 else stated
            if row["condition"] not in ("assisted", "unassisted"):
                raise InputError(f"condition is assisted or unassisted; found {row['condition']!r}")
            nearest = min(LEVELS, key=lambda own: abs(own - confidence))
            if abs(nearest - confidence) > 1e-6:
                raise InputError(f"confidence is 25, 42, 60, 80 or 100; found {row['confidence']!r}")
            given = Given(
                Person(str(row["participant"])),
                _question(str(row["question"]), options),
                row["condition"],
                place,
                nearest,
                options[place] == str(row["answer"]),
                len(options),
            )
        except InputError as error:
            raise InputError(f"{path}, line {line}: {error}") from error
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{path}, line {line}: not an answer of a person ({error}); its fields are {sorted(row)}"
            ) from error
        found.append(given)
    return tuple(found)


def _question(text: str, options: Sequence[str]) -> str:
    """The question as the evaluation has it: read with or without the word that begins it."""
    return question_of(Problem(text if text.startswith("Question:") else f"Question: {text}", tuple(options)))
