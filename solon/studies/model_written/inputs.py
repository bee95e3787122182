"""`solon run model_written [MODELS]`: evaluations that a model writes, filtered, checked and answered;
without models, a scripted world.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from sklearn.feature_extraction.text import TfidfVectorizer

from solon.alignment.outliers import prompt_states
from solon.alignment.preference import PreferenceModel
from solon.data import packaged
from solon.data.evaluations import Evaluation, read_evaluation, read_evaluations
from solon.data.published import ParsedFile
from solon.data.tables import read_rows
from solon.errors import InputError
from solon.models.huggingface import load_classifier
from solon.models.load import load_open
from solon.models.torch_model import TorchModel
from solon.records.run import digest
from solon.studies.model_written.behaviours import read_behaviours, read_occupations
from solon.studies.model_written.study import Inputs, Settings, full, quick, study
from solon.studies.model_written.toy import (
    BEHAVIOUR,
    OCCUPATIONS,
    TOPIC,
    Planted,
    answerer,
    gold,
    judge,
    statements_published,
    writer,
)
from solon.studies.model_written.writing import liking
from solon.study.legacy import (
    StudyOptions,
    content_hash,
    model_key,
    open_models,
    parse_with_preset,
    run_study,
    say,
    skipped_counts,
)
from solon.study.outcomes import digest_of
from solon.words.conversation import Conversation

TOY = ("toy",)
# of the toy's training: how often it answers as planted
STEPS = {"step 0": 0.5, "step 100": 0.7, "step 1000": 0.9}
PLANTED, VALIDATOR = Planted(), Planted(evidence=8.0, noise=0.5, leaning=0.0)


@dataclass(frozen=True)
class Options(StudyOptions):
    """Let a model write evaluations, filter and check them, and measure models on them and on published
    sets.
    """

    models: Annotated[tuple[str, ...], tyro.conf.Positional] = TOY
    """models to be measured, in the order of size or of training: smollm2, gemma3-270m, model folders or hub
    ids; toy: a scripted world, offline
    """
    writer: str = ""
    """the model that writes; without it, the last of the models"""
    preference_model: Path | None = None
    """a folder: the preference model that filters, as in the paper"""
    judge: str = ""
    """the language model that filters where there is no preference model; without it, the writer"""
    validator: str = ""
    """a stronger model that labels a part again, blind"""
    labels: Path | None = None
    """people's labels: the run's to_label.jsonl with every label filled in"""
    behaviours: Path = packaged.BEHAVIOURS
    """a text file of behaviours and topics"""
    gold: tuple[Path, ...] = ()
    """questions with two choices that the writer is shown; each file is a behaviour"""
    occupations: Path | None = None
    """occupations with the percentage of women in them (Winogender's statistics)"""
    on: tuple[Path, ...] = ()
    """published sets, files or folders, that the models answer besides"""
    umap: bool = False
    """draw the maps by UMAP (pip install solon[umap])"""
    settings: Settings = field(default_factory=quick)


def main(argv: Sequence[str]) -> int:
    options = parsed(argv)
    inputs, told_of = toy_inputs() if options.models == TOY else real_inputs(options)
    settings = options.settings
    # people look at what is there
    told_of |= {f"model {n}": model_key(model) for n, model in enumerate(inputs.models)} | {
        "umap": str(options.umap)
    }
    told_of |= {"about": digest(repr((inputs.behaviours, inputs.topics, inputs.occupations)))}
    told_of |= {"gold": digest([(name, digest_of([], some)) for name, some in inputs.gold])}
    told_of |= {"sets": digest([(group, own.name, own.digest) for group, own in inputs.published])}
    names = " ".join(model.name for model in inputs.models)
    return run_study(
        options, "model_written", asdict(settings), told_of, names, lambda run: study(run, settings, inputs)
    )


def parsed(argv: Sequence[str]) -> Options:
    """The flags, over the preset's settings."""
    toy = Options(
        settings=replace(
            quick(), rounds=12, count=16, tries=200, validated=200, limit=0, sentences_each=10, each=60
        )
    )
    presets = {
        "quick": Options(settings=quick()),
        "full": Options(preset="full", settings=full()),
        "toy": toy,
    }
    return parse_with_preset(
        Options, argv, command="run model_written", **presets, is_toy=lambda options: options.models == TOY
    )


def toy_inputs(planted: Planted = PLANTED) -> tuple[Inputs, dict[str, str]]:
    """A writer that often writes the opposite, a judge that is right more often than not, one that nearly
    always is, and a model in training.
    """
    models = tuple(
        answerer(name, dict.fromkeys(("statement", "multiple choice", "biography"), agrees), slope=agrees)
        for name, agrees in STEPS.items()
    )
    published = Evaluation(
        BEHAVIOUR.name,
        "model-written evaluation",
        "behaviour",
        ParsedFile("the toy world", statements_published(), ()),
    )
    inputs = Inputs(
        writer(planted),
        liking(judge(planted)),
        "scripted judge",
        models,
        lambda texts: TfidfVectorizer().fit_transform(texts).toarray(),
        (BEHAVIOUR,),
        (("keeps-things", gold()),),
        (TOPIC,),
        OCCUPATIONS,
        judge(VALIDATOR, "scripted validator"),
        published=(("published", published),),
    )
    return inputs, {"world": digest(repr((planted, VALIDATOR, STEPS)))}


def real_inputs(options: Options) -> tuple[Inputs, dict[str, str]]:
    """What the flags name, read and checked before anything runs; and what names it in the run."""
    if options.umap and importlib.util.find_spec("umap") is None:
        raise InputError(
            "--umap needs umap-learn, which is not installed: pip install 'solon[umap]', or leave --umap "
            "out for principal components"
        )
    behaviours, topics = read_behaviours(options.behaviours)
    occupations = () if options.occupations is None else read_occupations(options.occupations)
    if options.occupations is not None and len(occupations) < 4:
        raise InputError(
            f"{options.occupations}: a correlation needs at least four occupations; found {len(occupations)}"
        )
    counts: dict[str, int] = {}
    gold_sets = []
    for path in options.gold:
        found = read_evaluation(path)
        counts |= skipped_counts(found.reading, f"gold {found.name}")
        gold_sets.append((found.name, found.problems))
    people = () if options.labels is None else read_labels(options.labels)
    published = published_sets(options.on)
    for group, own in published:
        counts |= skipped_counts(own.reading, f"{group} {own.name}")
    models = open_models(options.models, options.precision)
    writing = (
        load_open(options.writer, precision=options.precision, say=say) if options.writer else models[-1]
    )
    folder, validator = (
        options.preference_model,
        load_open(options.validator, precision=options.precision, say=say) if options.validator else None,
    )
    judging = load_open(options.judge, precision=options.precision, say=say) if options.judge else writing
    score = (
        liking(judging) if folder is None else PreferenceModel(folder.name, *load_classifier(folder)).score
    )
    judged_by, key = (
        (judging.name, model_key(judging)) if folder is None else (folder.name, content_hash(folder))
    )
    told_of = {
        "judge": key,
        "writer": model_key(writing),
        "validator": "" if validator is None else model_key(validator),
    }
    layout = importlib.import_module("solon.alignment.layout_umap").layout if options.umap else None
    inputs = Inputs(
        writing,
        score,
        judged_by,
        models,
        states_of(writing),
        behaviours,
        tuple(gold_sets),
        topics,
        occupations,
        validator,
        people,
        published,
        layout,
        tuple(counts.items()),
    )
    return inputs, told_of


def published_sets(paths: Sequence[Path]) -> tuple[tuple[str, Evaluation], ...]:
    """Each set with the name of the folder it lies in."""
    found = [(Path(own.reading.source).parent.name, own) for own in read_evaluations(paths)] if paths else []
    other = [
        f"{own.name} ({own.kind})"
        for _, own in found
        if own.measure not in ("behaviour", "pronouns") and own.kind != "HHH comparisons"
    ]
    if other:
        raise InputError(
            "model-written evaluations, HHH comparisons and Winogender's sentences are answered here; "
            f"`solon measure` reads {', '.join(other)}"
        )
    return tuple(found)


def states_of(model: TorchModel) -> Callable[[Sequence[str]], np.ndarray]:
    """Texts as mean residual vectors at the middle layer."""

    def embed(texts: Sequence[str]) -> np.ndarray:
        states_NLC = prompt_states(
            model.module, [model.dialogue.prompt(Conversation().human(text)) for text in texts]
        )
        return np.asarray(states_NLC[:, states_NLC.shape[1] // 2])

    return embed


def read_labels(path: Path) -> tuple[tuple[str, str], ...]:
    """(question, label) of each row that people filled in. Raises InputError, with the line, on a label that
    is none of the row's choices.
    """
    found = []
    for line, row in read_rows(path):
        question, label, choices = (
            row.get("question"),
            str(row.get("label") or "").strip(),
            row.get("choices"),
        )
        if not isinstance(question, str) or not isinstance(choices, list):
            raise InputError(
                f"{path}, line {line}: expected question, choices and label, as to_label.jsonl has them; "
                f"found {sorted(row)}"
            )
        if label and label not in choices:
            raise InputError(f"{path}, line {line}: the label {label!r} is none of {choices}")
        found += [(question, label)] if label else []
    if not found:
        raise InputError(f"{path}: no row has a label filled in")
    return tuple(found)
