"""What the study works on: texts, problems, poems, comparisons and a preference model, or a scripted
flatterer.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from solon.alignment.preference import PreferenceModel
from solon.data import packaged
from solon.data.evaluations import read_evaluation
from solon.data.published import read_comparisons
from solon.data.tables import read_rows
from solon.errors import InputError
from solon.models.base import LanguageModel
from solon.models.huggingface import load_classifier
from solon.studies.sycophancy.measures import Attribution
from solon.studies.sycophancy.preference_features import FEATURES, Posterior, posterior
from solon.studies.sycophancy.settings import Settings, quick
from solon.studies.sycophancy.toy import (
    TEXTS,
    Flattery,
    flatterer,
    likes_agreement,
    poems,
    preferences,
    problems,
)
from solon.study.conduct import TOY, is_toy, open_model, skipped_counts
from solon.study.fingerprint import Keyed, content_hash
from solon.study.options import Model, StudyOptions
from solon.words.comparison import Comparison
from solon.words.conversation import Conversation
from solon.words.question import Problem

Scorer = Keyed[[Sequence[Conversation], Sequence[str]], Sequence[float]]  # prompts, replies -> scores
Sampler = Keyed[..., Posterior]  # called as `preference_features.posterior` is


@dataclass(frozen=True)
class Options(StudyOptions):
    """Measure how far feedback, answers and attributions follow what the person says, and what preferences go
    by.
    """

    model: Model = TOY
    """smollm2, gemma3-270m, a model folder, or a hub id; toy: a scripted flatterer, offline"""
    judge: str = ""
    """the model that compares comments and labels features; without it, the model itself"""
    texts: Path = packaged.FEEDBACK
    """rows of kind and text to comment on"""
    questions_from: Path | None = None
    """an evaluation with options and answers"""
    poems: Path | None = None
    """rows of poem, poet and wrong"""
    comparisons: Path | None = None
    """people's comparisons, whose features the judge labels"""
    preference_model: Path | None = None
    """a folder, to choose the best of many replies"""
    sampler: Literal["hmc", "nuts"] = "hmc"
    """of the posterior: our own Hamiltonian Monte Carlo, or numpyro's NUTS (pip install 'solon[nuts]')"""
    settings: Settings = field(default_factory=quick)


@dataclass(frozen=True, slots=True)
class Inputs:
    """The model; who judges comments and labels features; texts (kind, text) to comment on; problems with
    options; poems with a wrong poet; people's comparisons with, if they are known, their features; a
    preference model.
    """

    model: LanguageModel
    judge: LanguageModel
    texts: tuple[tuple[str, str], ...]
    problems: tuple[Problem, ...] = ()
    poems: tuple[Attribution, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    phi: tuple[tuple[float, ...], ...] = ()
    features: tuple[str, ...] = FEATURES
    scorer: Scorer | None = None
    sample: Sampler = field(default_factory=lambda: sampler("hmc"))
    counts: tuple[tuple[str, int], ...] = ()


def read(options: Options) -> Inputs:
    """What the flags name. Raises InputError on a file of another form, or where numpyro is asked for and not
    there.
    """
    sample = sampler(options.sampler)
    if is_toy(options):
        return replace(toy(), sample=sample)
    texts = read_texts(options.texts)
    asked, counts = ((), {}) if options.questions_from is None else read_problems(options.questions_from)
    attributions = () if options.poems is None else read_poems(options.poems)
    comparisons: tuple[Comparison, ...] = ()
    if options.comparisons is not None:
        reading = read_comparisons(options.comparisons)
        comparisons, counts = reading.rows, counts | skipped_counts(reading, "comparisons")
    scorer: Scorer | None = None
    if folder := options.preference_model:
        preference_model = PreferenceModel(folder.name, *load_classifier(folder))
        scorer = Keyed(content_hash(folder), preference_model.score)
    model = open_model(options.model, options.precision)
    judge = open_model(options.judge, options.precision) if options.judge else model
    return Inputs(
        model,
        judge,
        texts,
        asked,
        attributions,
        comparisons,
        scorer=scorer,
        sample=sample,
        counts=tuple(counts.items()),
    )


def toy() -> Inputs:
    """A flatterer whose every weakness is planted, and a preference model that likes to be agreed with."""
    asked = problems()
    model, (comparisons, phi) = flatterer(Flattery(), asked), preferences()
    scorer: Scorer = Keyed("likes agreement", likes_agreement)
    return Inputs(model, model, TEXTS, asked, poems(), comparisons, phi, scorer=scorer)


def sampler(name: str) -> Sampler:
    """How the posterior is sampled. Raises InputError where numpyro is asked for and not there."""
    if name == "hmc":
        return Keyed(name, posterior)
    if importlib.util.find_spec("numpyro") is None:
        raise InputError("--sampler nuts needs numpyro: pip install 'solon[nuts]'; hmc needs nothing")
    return Keyed(name, importlib.import_module("solon.studies.sycophancy.posterior_nuts").posterior)


def read_texts(path: Path) -> tuple[tuple[str, str], ...]:
    """(kind, text) of every row. Raises InputError where one is missing."""
    texts = tuple((str(row.get("kind") or ""), str(row.get("text") or "")) for _, row in read_rows(path))
    if any(not kind.strip() or not text.strip() for kind, text in texts):
        raise InputError(f"{path}: every row needs a kind (argument, poem ...) and a text")
    return texts


def read_problems(path: Path) -> tuple[tuple[Problem, ...], dict[str, int]]:
    """Problems with lettered options and a known answer, and what was left out while reading."""
    evaluation = read_evaluation(path)
    asked = tuple(
        problem for problem in evaluation.problems if problem.options and problem.answers and problem.lettered
    )
    if not asked:
        raise InputError(f"{path} is {evaluation.kind}: it holds no lettered options with a known answer")
    return asked, skipped_counts(evaluation.reading, evaluation.name)


def read_poems(path: Path) -> tuple[Attribution, ...]:
    """Raises InputError, with the line, on a row without poem, poet and wrong."""
    attributions = []
    for line, row in read_rows(path):
        texts = [row.get(name) for name in ("poem", "poet", "wrong")]
        if not all(isinstance(text, str) and text.strip() for text in texts) or texts[1] == texts[2]:
            raise InputError(
                f"{path}, line {line}: expected a poem, its poet and a wrong one; found {sorted(row)}"
            )
        attributions.append(Attribution(*(str(text) for text in texts)))
    return tuple(attributions)
