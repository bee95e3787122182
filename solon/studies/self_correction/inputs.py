"""`solon run self_correction [MODELS]`: bias in three conditions; without models, a scripted one whose bias
is planted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from solon.data.evaluations import read_evaluation
from solon.errors import InputError
from solon.records.run import digest
from solon.studies.self_correction.study import Inputs, Settings, full, quick, study
from solon.studies.self_correction.toy import Planted, planted, pronouns, questions
from solon.study.legacy import (
    StudyOptions,
    model_key,
    open_models,
    parse_with_preset,
    run_study,
    skipped_counts,
)
from solon.study.outcomes import digest_of

TOY = ("toy",)
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

    models: Annotated[tuple[str, ...], tyro.conf.Positional] = TOY
    """smollm2, gemma3-270m, model folders or hub ids, in the order of size or of training; toy: scripted
    models with a planted bias, offline
    """
    bias: tuple[Path, ...] = ()
    """BBQ files; additional_metadata.csv is read where it lies beside them"""
    pronouns: tuple[Path, ...] = ()
    """Winogender's templates.tsv (occupations-stats.tsv beside it), or Winogenerated sentences"""
    settings: Settings = field(default_factory=quick)


def main(argv: Sequence[str]) -> int:
    options = parsed(argv)
    inputs = toy_inputs() if options.models == TOY else real_inputs(options)
    settings = options.settings
    told_of = {f"model {n}": model_key(model) for n, model in enumerate(inputs.models)}
    told_of |= {
        "sets": digest([(name, digest_of([], some)) for name, some in (*inputs.bias, *inputs.pronouns)])
    }
    told_of |= {"world": digest(repr(WORLD))} if options.models == TOY else {}
    names = " ".join(model.name for model in inputs.models)
    return run_study(
        options, "self_correction", asdict(settings), told_of, names, lambda run: study(run, settings, inputs)
    )


def parsed(argv: Sequence[str]) -> Options:
    """The flags, over the preset's settings."""
    presets = {
        "quick": Options(settings=quick()),
        "full": Options(preset="full", settings=full()),
        "toy": Options(settings=full()),
    }
    return parse_with_preset(
        Options, argv, command="run self_correction", **presets, is_toy=lambda options: options.models == TOY
    )


def toy_inputs() -> Inputs:
    """A model before and after training that makes it follow the instruction, on questions about invented
    peoples and occupations.
    """
    models = tuple(planted(name, conditions) for name, conditions in WORLD.items())
    return Inputs(
        models, (("invented peoples", tuple(questions())),), (("invented occupations", tuple(pronouns())),)
    )


def real_inputs(options: Options) -> Inputs:
    """What the flags name, read and checked before anything runs."""
    if not options.bias and not options.pronouns:
        raise InputError("give --bias with BBQ files or --pronouns with Winogender's templates, or both")
    counts: list[tuple[str, int]] = []
    sets = []
    for paths, wanted in ((options.bias, "bbq"), (options.pronouns, "pronouns")):
        found = [read_evaluation(path) for path in paths]
        for own, path in zip(found, paths, strict=True):
            if own.measure != wanted:
                raise InputError(
                    f"{path} is {own.kind}; {'BBQ' if wanted == 'bbq' else 'Winogender or Winogenerated'} "
                    "is expected here"
                )
            counts += skipped_counts(own.reading, own.name).items()
        sets.append(tuple((own.name, own.problems) for own in found))
    return Inputs(open_models(options.models, options.precision), sets[0], sets[1], tuple(counts))
