"""`solon run global_opinions [MODELS]`: whose opinions answers resemble; without models, scripted ones on a
survey of invented countries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro

from solon.data.evaluations import read_evaluation
from solon.data.survey import OPENING
from solon.data.tables import read_rows
from solon.errors import InputError
from solon.evaluation.opinions import INVENTED_COUNTRIES, invented_survey, planted_opinions
from solon.records.run import digest
from solon.studies.global_opinions.study import Inputs, Settings, full, quick, study
from solon.study.legacy import (
    StudyOptions,
    model_key,
    open_models,
    parse_with_preset,
    run_study,
    skipped_counts,
)
from solon.study.outcomes import digest_of, key_of
from solon.words.question import Problem

TOY = ("toy",)


@dataclass(frozen=True)
class Options(StudyOptions):
    """Compare a model's answers to survey questions with those of people in each country."""

    models: Annotated[tuple[str, ...], tyro.conf.Positional] = TOY
    """smollm2, gemma3-270m, model folders or hub ids, in the order of size or of training; toy: scripted
    models with planted opinions, offline
    """
    survey: Path | None = None
    """GlobalOpinionQA rows"""
    translations: tuple[str, ...] = ()
    """LANGUAGE=FILE: rows of {original: {question, options}, question, options}, options in the same order"""
    settings: Settings = field(default_factory=quick)


def main(argv: Sequence[str]) -> int:
    options = parsed(argv)
    inputs = toy_inputs() if options.models == TOY else real_inputs(options)
    settings = options.settings
    told_of = {f"model {n}": model_key(model) for n, model in enumerate(inputs.models)} | {
        "survey": digest_of([], inputs.survey)
    }
    told_of |= {
        f"in {name}": digest(sorted((k, p.text, p.options) for k, p in own.items()))
        for name, own in inputs.translations.items()
    }
    names = " ".join(model.name for model in inputs.models)
    return run_study(
        options, "global_opinions", asdict(settings), told_of, names, lambda run: study(run, settings, inputs)
    )


def parsed(argv: Sequence[str]) -> Options:
    """The flags, over the preset's settings."""
    toy = Options(settings=replace(full(), countries=INVENTED_COUNTRIES[1:2]))
    presets = {
        "quick": Options(settings=quick()),
        "full": Options(preset="full", settings=full()),
        "toy": toy,
    }
    return parse_with_preset(
        Options, argv, command="run global_opinions", **presets, is_toy=lambda options: options.models == TOY
    )


def toy_inputs() -> Inputs:
    """One model that answers as Orinia does whatever it is asked, and one that follows who it is asked to
    be.
    """
    survey = tuple(invented_survey())
    models = (
        planted_opinions("stubborn", survey, INVENTED_COUNTRIES[0], follows=False),
        planted_opinions("pliant", survey, INVENTED_COUNTRIES[0], follows=True),
    )
    return Inputs(models, survey)


def real_inputs(options: Options) -> Inputs:
    """What the flags name, read and checked before anything runs."""
    if options.survey is None:
        raise InputError("give --survey with GlobalOpinionQA rows")
    found = read_evaluation(options.survey)
    if found.measure != "opinions":
        raise InputError(f"{options.survey} is {found.kind}; GlobalOpinionQA rows are expected")
    by_words = {(own.text, own.options): own for own in found.problems}
    translations = dict(_translated(words, by_words) for words in options.translations)
    return Inputs(
        open_models(options.models, options.precision),
        found.problems,
        translations,
        tuple(skipped_counts(found.reading, found.name).items()),
    )


def _translated(
    words: str, survey: dict[tuple[str, tuple[str, ...]], Problem]
) -> tuple[str, dict[str, Problem]]:
    language, sign, file = words.partition("=")
    if not sign or not language or not file:
        raise InputError(f"--translations takes LANGUAGE=FILE; found {words!r}")
    kept = {}
    for line, row in read_rows(Path(file)):
        original, options = row.get("original"), row.get("options")
        if (
            not isinstance(original, dict)
            or not isinstance(options, list)
            or not isinstance(row.get("question"), str)
        ):
            raise InputError(
                f"{file}, line {line}: expected original (question, options), question and options; found "
                f"{sorted(row)}"
            )
        own = survey.get(
            (
                str(original.get("question")).strip(),
                tuple(str(option).strip() for option in original.get("options", ())),
            )
        )
        if own is None:
            continue
        if len(options) != len(own.options):
            raise InputError(
                f"{file}, line {line}: {len(options)} options for a question that has {len(own.options)}"
            )
        kept[key_of(own)] = replace(
            own,
            text=row["question"].strip(),
            options=tuple(str(option).strip() for option in options),
            opening=OPENING,
        )
    return language, kept
