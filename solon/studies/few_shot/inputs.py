"""`solon run few_shot [MODELS]`: zero, one and few examples; without models, scripted ones that learn from
examples as planted.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from solon.data.evaluations import read_evaluation
from solon.data.tables import read_rows
from solon.errors import InputError
from solon.models.scripted import ScriptedModel
from solon.records.run import digest
from solon.studies.few_shot.study import Inputs, Settings, Task, full, quick, study
from solon.study.legacy import (
    StudyOptions,
    content_hash,
    model_key,
    open_models,
    parse_with_preset,
    run_study,
    skipped_counts,
)
from solon.study.outcomes import digest_of, form_of_dialogue
from solon.words.conversation import Conversation
from solon.words.question import Problem

TOY = ("toy",)
# how much more often an option is told from the others with each example, up to four
LEARNS = {"small": 0.0, "large": 0.9}
LONGEST = 13  # words of the longest N-gram
SEEN = 40  # of the toy task's problems that its corpus holds


@dataclass(frozen=True)
class Options(StudyOptions):
    """Measure what worked examples in the context are worth, with four scores side by side and what a corpus
    holds of the tasks.
    """

    models: Annotated[tuple[str, ...], tyro.conf.Positional] = TOY
    """smollm2, gemma3-270m, model folders or hub ids, in the order of size; toy: scripted models, offline"""
    tasks: tuple[Path, ...] = ()
    """evaluations with options; examples are drawn from the same file unless --examples names another for
    each
    """
    examples: tuple[Path, ...] = ()
    """one file for each task"""
    corpus: tuple[Path, ...] = ()
    """texts that the models may have seen: .txt, or rows with text"""
    settings: Settings = field(default_factory=quick)


def main(argv: Sequence[str]) -> int:
    options = parsed(argv)
    inputs = toy_inputs() if options.models == TOY else real_inputs(options)
    settings = options.settings
    told_of = {f"model {n}": model_key(model) for n, model in enumerate(inputs.models)}
    told_of |= {"tasks": digest([(own.name, digest_of(own.examples, own.problems)) for own in inputs.tasks])}
    told_of |= {"corpus": digest([content_hash(path) for path in options.corpus])}
    names = " ".join(model.name for model in inputs.models)
    return run_study(
        options, "few_shot", asdict(settings), told_of, names, lambda run: study(run, settings, inputs)
    )


def parsed(argv: Sequence[str]) -> Options:
    """The flags, over the preset's settings."""
    presets = {
        "quick": Options(settings=quick()),
        "full": Options(preset="full", settings=full()),
        "toy": Options(settings=Settings(shots=(0, 1, 4))),
    }
    return parse_with_preset(
        Options, argv, command="run few_shot", **presets, is_toy=lambda options: options.models == TOY
    )


# the toy task: the right option is the one with the word that the question names, and long options are
# unlikely as such


def toy_problems(count: int, *, seed: int) -> tuple[Problem, ...]:
    rng = random.Random(f"few shot {seed}")
    stems = ("river", "market", "garden", "harbour", "library", "station", "orchard", "meadow")
    found = []
    for number in range(count):
        place, other, third = rng.sample(stems, 3)
        options = [
            f"the {place}",
            f"the {other} behind the old {rng.choice(stems)} wall",
            f"the {third} road",
        ]
        answer = rng.choice(options)
        rng.shuffle(options)
        day, house, hour = f"d{seed}n{number}", 7 * number + seed, f"{number % 24}h{number}"
        text = (
            f"Question: On day {day} the baker left at {hour} and went by house {house}. Where did he "
            f"go after {hour} on day {day}?"
        )
        found.append(Problem(text, tuple(options), (answer,)))
    return tuple(found)


def toy_model(name: str, gain: float, problems: Sequence[Problem]) -> ScriptedModel:
    """Likes an option the less the longer it is, and the right one the more, the more examples it was shown;
    one that its corpus holds at once.
    """
    answers = {own.text: own.answers[0] for own in problems}
    seen = {own.text for own in problems[:SEEN]}

    def likes(talk: Conversation, reply: str) -> float:
        asked = next((turn.text for turn in reversed(talk.turns) if turn.role == "human"), "")
        shots = sum(turn.role == "assistant" for turn in talk.turns) - 1
        known = reply.strip() == answers.get(asked)
        luck = random.Random(f"{name} {asked} {reply}").gauss(0, 1.0) if asked else 0.0
        return (
            -0.25 * len(reply)
            + luck
            + (12.0 if known and asked in seen else gain * min(shots, 4) if known else 0.0)
        )

    return ScriptedModel(name, lambda talk, rng: "", likes)


def toy_inputs() -> Inputs:
    """A small model that learns nothing from examples and a large one that does; of a part of the problems
    both have seen the answers.
    """
    problems, examples = toy_problems(240, seed=0), toy_problems(40, seed=1)
    models = tuple(toy_model(name, gain, (*problems, *examples)) for name, gain in LEARNS.items())
    return Inputs(models, (Task("walks", problems, examples),), lambda: (own.text for own in problems[:SEEN]))


def real_inputs(options: Options) -> Inputs:
    """What the flags name, read and checked before anything runs."""
    if not options.tasks or (options.examples and len(options.examples) != len(options.tasks)):
        raise InputError(
            f"give --tasks, and no --examples or one for each; found {len(options.tasks)} and "
            f"{len(options.examples)}"
        )
    counts: list[tuple[str, int]] = []
    tasks = []
    most = max(options.settings.shots)
    for place, path in enumerate(options.tasks):
        found = read_evaluation(path)
        counts += skipped_counts(found.reading, found.name).items()
        problems = _usable(found.problems, path)
        if options.examples:
            pool = _usable(read_evaluation(options.examples[place]).problems, options.examples[place])
            shown = {(own.text, own.options) for own in pool}
            counts.append(
                (
                    f"{found.name}: problems that stand among the examples, not asked",
                    sum((p.text, p.options) in shown for p in problems),
                )
            )
            problems = tuple(own for own in problems if (own.text, own.options) not in shown)
        else:
            rng = random.Random(f"{options.seed} {found.name}")
            held = set(rng.sample(range(len(problems)), min(max(4 * most, 16), len(problems) // 2)))
            pool = tuple(own for number, own in enumerate(problems) if number in held)
            problems = tuple(own for number, own in enumerate(problems) if number not in held)
            counts.append((f"{found.name}: problems kept for examples, not asked", len(held)))
        tasks.append(Task(found.name, problems, pool))
    for path in options.corpus:
        if not path.exists():
            raise InputError(f"the corpus {path} does not exist")

    def corpus() -> Iterator[str]:
        for path in options.corpus:
            before: list[str] = []  # of a text file, so that no run of words is lost where a line ends
            for _, row in read_rows(path):
                text = " ".join(str(value) for value in row.values() if isinstance(value, str))
                yield " ".join([*before, text])
                before = [*before, *text.split()][-LONGEST:] if set(row) == {"text"} else []

    models = tuple(
        model.plain() if form_of_dialogue(model, "auto") == "text" else model
        for model in open_models(options.models, options.precision)
    )
    return Inputs(models, tuple(tasks), corpus if options.corpus else None, tuple(counts))


def _usable(problems: Sequence[Problem], path: Path) -> tuple[Problem, ...]:
    kept = tuple(own for own in problems if own.options and own.answers)
    if not kept:
        raise InputError(f"{path} holds no problem with options and a known answer")
    return kept
