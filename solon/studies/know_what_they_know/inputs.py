"""`solon run know_what_they_know [MODEL]`: the study of self-knowledge; without a model, on a toy world of
planted facts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from solon.data.evaluations import read_evaluation
from solon.errors import InputError
from solon.evaluation.self_knowledge import addition
from solon.models.load import load_open
from solon.models.torch_model import TorchModel
from solon.records.run import digest
from solon.studies.know_what_they_know import toy_facts
from solon.studies.know_what_they_know.settings import Inputs, Settings, Task, full, quick, toy
from solon.studies.know_what_they_know.study import study
from solon.studies.know_what_they_know.toy_models import knower, sharpened
from solon.study.legacy import StudyOptions, open_models, parse_with_preset, run_study, say, skipped_counts
from solon.study.outcomes import digest_of
from solon.words.question import Problem

TOY = "toy"


@dataclass(frozen=True)
class Options(StudyOptions):
    """Ask a model whether it is right, and whether it will be, and report how far it knows."""

    model: Annotated[str, tyro.conf.Positional] = TOY
    """smollm2, gemma3-270m, a model folder, or a hub id; toy: a small transformer that was taught half of
    some facts, offline
    """
    tasks: tuple[Path, ...] = ()
    """evaluations with free replies, the first being the one that P(IK) is also learned from alone; sums are
    always asked
    """
    choice_sets: tuple[Path, ...] = ()
    """evaluations with options"""
    others: tuple[str, ...] = ()
    """more models, which judge each other's samples and are crossed in P(IK)"""
    temper: str = ""
    """a model whose calibration one temperature should repair, such as one after reinforcement"""
    settings: Settings = field(default_factory=quick)


def main(argv: Sequence[str]) -> int:
    options = parsed(argv)
    inputs = toy_inputs(options.seed) if options.model == TOY else real_inputs(options)
    settings = options.settings
    return run_study(
        options,
        "know_what_they_know",
        asdict(settings),
        hashes(inputs),
        inputs.models[0].name,
        lambda run: study(run, settings, inputs),
    )


def parsed(argv: Sequence[str]) -> Options:
    """The flags, over the preset's settings."""
    presets = {
        "quick": Options(settings=quick()),
        "full": Options(preset="full", settings=full()),
        "toy": Options(settings=toy()),
    }
    return parse_with_preset(
        Options,
        argv,
        command="run know_what_they_know",
        **presets,
        is_toy=lambda options: options.model == TOY,
    )


def toy_inputs(seed: int, *, steps: int = 2000, make: Callable[..., TorchModel] = knower) -> Inputs:
    """Two models that were taught different halves of the same facts, and the first one sharpened, whose
    temperature is planted.
    """
    say("training two toy models")
    models = tuple(make(seed, known=known, steps=steps) for known in (0, 1))
    tasks = tuple(
        Task(name, tuple(problems), {own.text: (toy_facts.source(own),) for own in problems})
        for name, problems in ((task, toy_facts.questions(task)) for task in toy_facts.TASKS)
    )
    choices = tuple(
        (task.name, tuple(toy_facts.with_options(own) for own in task.problems)) for task in tasks
    )
    return Inputs(models, tasks, choices, sharpened(models[0], toy_facts.SHARPNESS), fixed_prompt=False)


def real_inputs(options: Options) -> Inputs:
    """What the flags name, read and checked before anything runs."""
    counts: list[tuple[str, int]] = []
    tasks, sets = [], []
    for path, free in [
        *((path, True) for path in options.tasks),
        *((path, False) for path in options.choice_sets),
    ]:
        found = read_evaluation(path)
        counts += skipped_counts(found.reading, found.name).items()
        usable = [own for own in found.problems if own.answers and bool(own.options) != free]
        if not usable:
            raise InputError(
                f"{path} holds no "
                f"{'questions with free replies' if free else 'multiple choice with answers'}; it is "
                f"{found.kind}"
            )
        if free:
            tasks.append(
                Task(
                    found.name,
                    tuple(usable),
                    {own.text: hints(own) for own in usable if own.tags.get("worked")},
                )
            )
        else:
            sets.append((found.name, tuple(usable)))
    settings = options.settings
    tasks.append(
        Task(
            "sums",
            tuple(addition(min(settings.questions, 600) + settings.shots, operands=(2,), seed=options.seed)),
        )
    )
    models = open_models([options.model, *options.others], options.precision)
    temper = load_open(options.temper, precision=options.precision, say=say) if options.temper else None
    lengths = {kind for task in tasks for kind in {(own.max_tokens, own.grade) for own in task.problems}}
    if any(len({(own.max_tokens, own.grade) for own in task.problems}) > 1 for task in tasks):
        raise InputError(
            f"a task mixes kinds of reply: {sorted(lengths)}; give each kind in a file of its own"
        )
    return Inputs(models, tuple(tasks), tuple(sets), temper, counts=tuple(counts))


def hints(problem: Problem, *, parts: int = 4) -> tuple[str, ...]:
    """A quarter, a half ... of the words of a worked solution."""
    words = problem.tags["worked"].split()
    return tuple(
        f"Hint: {' '.join(words[: max(1, len(words) * part // parts)])}" for part in range(1, parts + 1)
    )


def hashes(inputs: Inputs) -> dict[str, str]:
    """What names a run: the content of everything that it works on."""
    named = {f"model {place}": model.fingerprint for place, model in enumerate(inputs.models)}
    named |= {"temper": inputs.temper.fingerprint} if inputs.temper is not None else {}
    tasks = [(task.name, digest_of([], task.problems), sorted(task.sources.items())) for task in inputs.tasks]
    return named | {
        "tasks": digest(tasks),
        "choices": digest([(name, digest_of([], some)) for name, some in inputs.choices]),
    }
