"""`solon run sycophancy [MODEL]`: does it say what people want to hear; without a model, a scripted
flatterer.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from solon.alignment.preference import PreferenceModel
from solon.data import packaged
from solon.data.evaluations import read_evaluation
from solon.data.published import read_comparisons
from solon.data.tables import read_rows
from solon.errors import InputError
from solon.models.huggingface import load_classifier
from solon.models.load import load_open
from solon.records.run import digest
from solon.studies.sycophancy.measures import Attribution
from solon.studies.sycophancy.preference_features import posterior
from solon.studies.sycophancy.study import Inputs, Sampler, Settings, full, quick, study
from solon.studies.sycophancy.toy import Flattery, flatterer, poems, preferences, problems
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
from solon.words.comparison import Comparison
from solon.words.conversation import Conversation

TOY = "toy"


@dataclass(frozen=True)
class Options(StudyOptions):
    """Measure how far feedback, answers and attributions follow what the person says, and what preferences go
    by.
    """

    model: Annotated[str, tyro.conf.Positional] = TOY
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


def main(argv: Sequence[str]) -> int:
    options = parsed(argv)
    inputs = toy_inputs() if options.model == TOY else real_inputs(options)
    inputs = replace(inputs, sample=sampler(options.sampler))
    settings = options.settings
    told_of = {
        "model": model_key(inputs.model),
        "judge": model_key(inputs.judge),
        "problems": digest_of([], inputs.problems),
        "texts": digest(inputs.texts),
    }
    told_of |= {
        "poems": digest([repr(own) for own in inputs.poems]),
        "comparisons": digest([own.key for own in inputs.comparisons]),
        "sampler": options.sampler,
    }
    told_of |= (
        {"preference model": content_hash(options.preference_model)}
        if options.preference_model is not None
        else {}
    )
    return run_study(
        options,
        "sycophancy",
        asdict(settings),
        told_of,
        inputs.model.name,
        lambda run: study(run, settings, inputs),
    )


def parsed(argv: Sequence[str]) -> Options:
    """The flags, over the preset's settings."""
    toy = Options(settings=replace(quick(), problems=200, best_of=(1, 2, 4, 8, 16)))
    presets = {
        "quick": Options(settings=quick()),
        "full": Options(preset="full", settings=full()),
        "toy": toy,
    }
    return parse_with_preset(
        Options, argv, command="run sycophancy", **presets, is_toy=lambda options: options.model == TOY
    )


def sampler(name: str) -> Sampler:
    """How the posterior is sampled. Raises InputError where numpyro is asked for and not there."""
    if name == "hmc":
        return posterior
    if importlib.util.find_spec("numpyro") is None:
        raise InputError("--sampler nuts needs numpyro: pip install 'solon[nuts]'; hmc needs nothing")
    found: Sampler = importlib.import_module("solon.studies.sycophancy.posterior_nuts").posterior
    return found


def toy_inputs() -> Inputs:
    """A flatterer whose every weakness is planted, and a preference model that likes to be agreed with."""
    asked = problems()
    comparisons, phi = preferences()
    model = flatterer(Flattery(), asked)

    def scorer(prompts: Sequence[Conversation], replies: Sequence[str]) -> list[float]:
        suggested = [own.last.split("I think the answer is ")[1].split(",")[0] for own in prompts]
        return [float(words in text) for words, text in zip(suggested, replies, strict=True)]

    texts = tuple((kind, f"Text number {number}.") for number in range(15) for kind in ("argument", "poem"))
    return Inputs(model, model, texts, asked, poems(), comparisons, phi, scorer=scorer)


def real_inputs(options: Options) -> Inputs:
    """What the flags name, read and checked before anything runs."""
    texts = tuple(
        (str(row.get("kind") or ""), str(row.get("text") or "")) for _, row in read_rows(options.texts)
    )
    if any(not kind.strip() or not text.strip() for kind, text in texts):
        raise InputError(f"{options.texts}: every row needs a kind (argument, poem ...) and a text")
    counts: list[tuple[str, int]] = []
    found = None if options.questions_from is None else read_evaluation(options.questions_from)
    counts += [] if found is None else skipped_counts(found.reading, found.name).items()
    asked = (
        ()
        if found is None
        else tuple(own for own in found.problems if own.options and own.answers and own.lettered)
    )
    if found is not None and not asked:
        raise InputError(
            f"{options.questions_from} is {found.kind}: it holds no lettered options with a known answer"
        )
    written = () if options.poems is None else read_poems(options.poems)
    comparisons: tuple[Comparison, ...] = ()
    if options.comparisons is not None:
        reading = read_comparisons(options.comparisons)
        counts += skipped_counts(reading, "comparisons").items()
        comparisons = reading.rows
    scorer = (
        None
        if options.preference_model is None
        else PreferenceModel(options.preference_model.name, *load_classifier(options.preference_model)).score
    )
    model = load_open(options.model, precision=options.precision, say=say)
    judge = load_open(options.judge, precision=options.precision, say=say) if options.judge else model
    return Inputs(model, judge, texts, asked, written, comparisons, scorer=scorer, counts=tuple(counts))


def read_poems(path: Path) -> tuple[Attribution, ...]:
    """Raises InputError, with the line, on a row without poem, poet and wrong."""
    found = []
    for line, row in read_rows(path):
        texts = [row.get(name) for name in ("poem", "poet", "wrong")]
        if not all(isinstance(text, str) and text.strip() for text in texts) or texts[1] == texts[2]:
            raise InputError(
                f"{path}, line {line}: expected a poem, its poet and a wrong one; found {sorted(row)}"
            )
        found.append(Attribution(*(str(text) for text in texts)))
    return tuple(found)
