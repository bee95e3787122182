"""What the study works on: files of BBQ's and Winogender's forms, or scripted models with a planted bias."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from solon.data.evaluations import read_evaluation
from solon.errors import InputError
from solon.models.base import LanguageModel
from solon.studies.self_correction.paper import PAPER
from solon.studies.self_correction.settings import Settings, quick
from solon.studies.self_correction.toy import Planted, planted, pronouns, questions
from solon.study.conduct import TOY, is_toy, open_models, skipped_counts
from solon.study.options import Models, StudyOptions
from solon.study.paper import missing
from solon.words.question import Problem

# the scripted model before training and after, which makes it follow the instruction
WORLD = {
    "before": {
        "Q": Planted(0.7, 0.8, -0.2),
        "Q+IF": Planted(0.65, 0.7, -0.2),
        "Q+IF+CoT": Planted(0.6, 0.7, -0.15),
        "Q+Match": Planted(0.7, 0.9),
    },
    "after": {
        "Q": Planted(0.7, 0.8, -0.2),
        "Q+IF": Planted(0.35, 0.3, 0.0),
        "Q+IF+CoT": Planted(0.05, 0.02, 0.1),
        "Q+Match": Planted(0.7, 0.9),
    },
}


@dataclass(frozen=True)
class Options(StudyOptions):
    """Measure social bias plainly, with an instruction, and with reasoning about it, over models or training
    steps.
    """

    models: Models = (TOY,)
    """smollm2, gemma3-270m, model folders or hub ids, in the order of size or of training; toy: scripted
    models with a planted bias, offline
    """
    bias: tuple[Path, ...] = ()
    """BBQ files; additional_metadata.csv is read where it lies beside them"""
    pronouns: tuple[Path, ...] = ()
    """Winogender's templates.tsv (occupations-stats.tsv beside it), or Winogenerated sentences"""
    settings: Settings = field(default_factory=quick)


@dataclass(frozen=True, slots=True)
class Inputs:
    """Models in the order of their size or of their training; bias sets in BBQ's form; pronouns in
    Winogender's. `world` names the planted truth where models are scripted.
    """

    models: tuple[LanguageModel, ...]
    bias: tuple[tuple[str, tuple[Problem, ...]], ...]
    pronouns: tuple[tuple[str, tuple[Problem, ...]], ...]
    counts: tuple[tuple[str, int], ...] = ()
    world: str = ""


def read(options: Options) -> Inputs:
    """What the flags name. Raises InputError on a file of another form, or where there is none."""
    if is_toy(options):
        return toy()
    if not options.bias and not options.pronouns:
        raise missing(PAPER.needs)
    bias, left_out = read_sets(options.bias, "bbq", "BBQ")
    sentences, more = read_sets(options.pronouns, "pronouns", "Winogender or Winogenerated")
    models = open_models(options.models, options.precision)
    return Inputs(models, bias, sentences, tuple((left_out | more).items()))


def read_sets(
    paths: Sequence[Path], measure: str, expected: str
) -> tuple[tuple[tuple[str, tuple[Problem, ...]], ...], dict[str, int]]:
    """(name, problems) of each file, and what was left out of them."""
    counts: dict[str, int] = {}
    sets = []
    for path in paths:
        evaluation = read_evaluation(path)
        if evaluation.measure != measure:
            raise InputError(f"{path} is {evaluation.kind}; {expected} is expected here")
        counts |= skipped_counts(evaluation.reading, evaluation.name)
        sets.append((evaluation.name, evaluation.problems))
    return tuple(sets), counts


def toy() -> Inputs:
    """A scripted model before and after training, on questions about invented peoples and occupations."""
    models = tuple(planted(name, conditions) for name, conditions in WORLD.items())
    peoples = (("invented peoples", tuple(questions())),)
    occupations = (("invented occupations", tuple(pronouns())),)
    return Inputs(models, peoples, occupations, world=repr(WORLD))
