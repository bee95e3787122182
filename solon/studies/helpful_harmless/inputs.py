"""`solon run helpful_harmless [MODEL]`: HH-RLHF's study from files to a report; without a model, on the toy
world.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from solon.alignment.feedback import ReplyPair, label_contrastive, label_multiple_choice
from solon.data import packaged, toy_world
from solon.data.published import first_human_text, read_comparisons, read_prompts, split_by_opening
from solon.data.rows import comparison_to_row
from solon.errors import InputError
from solon.models.load import load_open
from solon.models.pooled import load_open_pooled
from solon.models.torch_model import TorchModel
from solon.records.run import digest
from solon.studies.helpful_harmless.settings import Annotate, Inputs, Settings, full, quick, toy
from solon.studies.helpful_harmless.study import study
from solon.study.legacy import StudyOptions, parse_with_preset, run_study, say, skipped_counts
from solon.study.toy_models import planted, speaker
from solon.training.fit import shuffled_batch
from solon.words.comparison import Comparison
from solon.words.constitution import Constitution, read_constitution
from solon.words.conversation import Conversation

TOY = "toy"
NOISE = 0.1  # of the toy world's labels


@dataclass(frozen=True)
class Options(StudyOptions):
    """Study preference models and a policy that climbs one of them, and report it."""

    model: Annotated[str, tyro.conf.Positional] = TOY
    """smollm2, gemma3-270m, a model folder, or a hub id; toy: a small transformer and planted comparisons,
    offline
    """
    comparisons: Path | None = None
    """people's comparisons, as hh-rlhf pairs or own rows; those without an axis are taken as harmless ones"""
    helpful_comparisons: Path | None = None
    """the same for helpfulness; with both, mixtures and weights are studied"""
    prompts: Path | None = None
    """prompts for reinforcement and, by dialogue, for the evidence; without it, those of the comparisons"""
    in_distribution: Path | None = None
    """prompts that the model is for, where strange ones are to be told apart; without it, our own helpful
    ones
    """
    out_of_distribution: Path | None = None
    """prompts unlike those; without it, our own red-team ones"""
    annotator: str = ""
    """the model that compares replies for iterated training and the tournament; without it, neither is
    studied
    """
    label: Literal["multiple_choice", "contrastive"] = "contrastive"
    """how it is asked"""
    constitution: Path = packaged.CONSTITUTION
    """the principles under which it compares"""
    train: int = 0
    """how many prompts to practise on; 0: 64 in quick (128 of the toy world), 1,000 in full, or what is there
    """
    held_out: int = 0
    """how many prompts to hold out; 0: 32 in quick (96 of the toy world), 200 in full, or a quarter of what
    is there
    """
    workers: str = "here"
    """where the annotator works: here, processes:N, ray, ray:N or ray:ADDRESS"""
    settings: Settings = field(default_factory=quick)


def main(argv: Sequence[str]) -> int:
    options = parsed(argv)
    start, inputs = toy_inputs(options) if options.model == TOY else real_inputs(options)
    settings = options.settings
    return run_study(
        options,
        "helpful_harmless",
        asdict(settings),
        hashes(start, inputs),
        start.name,
        lambda run: study(run, settings, inputs, start=start),
    )


def parsed(argv: Sequence[str]) -> Options:
    """The flags, over the preset's settings."""
    presets = {
        "quick": Options(settings=quick()),
        "full": Options(preset="full", settings=full()),
        "toy": Options(settings=toy()),
    }
    return parse_with_preset(
        Options, argv, command="run helpful_harmless", **presets, is_toy=lambda options: options.model == TOY
    )


def toy_inputs(options: Options) -> tuple[TorchModel, Inputs]:
    """A speaker trained from scratch, and planted comparisons of which a tenth are turned round."""
    files = (
        options.comparisons,
        options.helpful_comparisons,
        options.prompts,
        options.in_distribution,
        options.out_of_distribution,
    )
    if any(files) or options.annotator:
        raise InputError(
            "the toy world brings its own comparisons, prompts and annotator; name a model to use others"
        )
    say("training the toy world's speaker")
    start = speaker(options.seed)
    asked = toy_world.requests((*toy_world.FORBIDDEN, *toy_world.EVERYDAY))
    order = shuffled_batch(asked, size=len(asked), seed=options.seed, number=1)
    train, held_out = options.train or 128, options.held_out or 96
    comparisons = toy_world.comparisons(options.seed, 1600, noise=NOISE)
    among = {first_human_text(prompt) for prompt in order[: train + held_out]}
    in_distribution, out_of_distribution = (
        tuple(shuffled_batch(toy_world.requests(things), size=120, seed=options.seed, number=1))
        for things in (toy_world.EVERYDAY, toy_world.FORBIDDEN)
    )
    return start, Inputs(
        tuple(c for c in comparisons if first_human_text(c.prompt) not in among),
        tuple(order[:train]),
        tuple(order[train : train + held_out]),
        in_distribution,
        out_of_distribution,
        planted,
        "the planted truth",
    )


def real_inputs(options: Options) -> tuple[TorchModel, Inputs]:
    """Files to words. Everything left out is counted."""
    if options.comparisons is None:
        raise InputError(
            f"give --comparisons, a file of hh-rlhf pairs or own rows, to study {options.model}; or no "
            "model, for the toy world"
        )
    counts: dict[str, int] = {}
    comparisons: list[Comparison] = []
    for path, axis in ((options.comparisons, "harmless"), (options.helpful_comparisons, "helpful")):
        if path is not None:
            reading = read_comparisons(path, axis=axis)
            counts |= skipped_counts(reading, f"{axis} comparisons")
            comparisons += reading.rows
    model = load_open(options.model, precision=options.precision, say=say)
    judge = None
    if options.annotator:
        here = options.workers == "here" and options.annotator == options.model
        judge = (
            model
            if here
            else load_open_pooled(options.workers, options.annotator, precision=options.precision, say=say)
        )
    training, testing = prompts_of(options, comparisons, model, judge, counts)
    near, far = told_apart(options, model, counts)
    if judge is None:
        return model, Inputs(tuple(comparisons), training, testing, near, far, counts=tuple(counts.items()))
    constitution = read_constitution(options.constitution)
    return model, Inputs(
        tuple(comparisons),
        training,
        testing,
        near,
        far,
        annotator_of(options, judge, constitution),
        f"{options.annotator} ({options.label.replace('_', ' ')})",
        digest(judge.fingerprint, asdict(constitution), options.label),
        tuple(counts.items()),
    )


def told_apart(
    options: Options, model: TorchModel, counts: dict[str, int]
) -> tuple[tuple[Conversation, ...], tuple[Conversation, ...]]:
    """Ordinary and strange prompts that fit the context; without files, our own."""
    files = {
        "ordinary": [options.in_distribution]
        if options.in_distribution
        else [packaged.HELPFUL, packaged.HELPFUL_HELD_OUT]
    }
    files["strange"] = [options.out_of_distribution or packaged.RED_TEAM]
    found = []
    for role, paths in files.items():
        rows: list[Conversation] = []
        for path in paths:
            reading = read_prompts(path)
            counts |= skipped_counts(reading, f"{role} prompts")
            rows += reading.rows
        found.append(tuple(prompt for prompt in rows if model.fits(prompt, max_tokens=0)))
        counts[f"{role} prompts too long for the context, left out"] = len(rows) - len(found[-1])
    return found[0], found[1]


# tokens that a comparison needs beside the prompt and both replies: a principle and the frame around them
QUESTION = 300


def prompts_of(
    options: Options,
    comparisons: Sequence[Comparison],
    model: TorchModel,
    judge: TorchModel | None,
    counts: dict[str, int],
) -> tuple[tuple[Conversation, ...], tuple[Conversation, ...]]:
    """Prompts to practise on and to hold out, from dialogues that they do not share; the held-out ones are
    drawn first.
    """
    if options.prompts is not None:
        reading = read_prompts(options.prompts)
        counts |= skipped_counts(reading, "prompts")
        rows = list(reading.rows)
    else:
        rows = list({comparison.prompt.key: comparison.prompt for comparison in comparisons}.values())
    said = options.settings.max_tokens
    fitting = [
        p
        for p in rows
        if model.fits(p, max_tokens=said) and (judge is None or judge.fits(p, max_tokens=2 * said + QUESTION))
    ]
    counts["prompts too long for the context, left out"] = len(rows) - len(fitting)
    drawn = shuffled_batch(fitting, size=len(fitting), seed=options.seed, number=1)
    held_out = options.held_out or min(32 if options.preset == "quick" else 200, len(fitting) // 4)
    testing = next(split_by_opening(drawn, first_human_text, [held_out]))
    apart = {first_human_text(prompt) for prompt in testing}
    rest = [prompt for prompt in drawn if first_human_text(prompt) not in apart]
    train = options.train or min(64 if options.preset == "quick" else 1000, len(rest))
    if train > len(rest) or min(train, held_out) < 8:
        found = f"{held_out} to hold out and {len(rest)} of other dialogues to practise on"
        raise InputError(
            f"{len(fitting)} prompts give {found}; at least 8 of each are needed, and {train} to practise "
            "on were asked for"
        )
    counts["prompts not used"] = len(fitting) - held_out - train
    return tuple(rest[:train]), tuple(testing)


def annotator_of(options: Options, judge: TorchModel, constitution: Constitution) -> Annotate:
    """A model's choices under the constitution."""

    def annotate(pairs: Sequence[ReplyPair]) -> list[Comparison]:
        if options.label == "multiple_choice":
            return label_multiple_choice(judge, pairs, constitution, seed=options.seed)
        return label_contrastive(judge, pairs, constitution, seed=options.seed)

    return annotate


def hashes(start: TorchModel, inputs: Inputs) -> dict[str, str]:
    """What the run's name depends on beside settings and seed."""
    found = {
        "model": start.fingerprint,
        "annotator": f"{inputs.annotator} {inputs.annotator_key}",
        "comparisons": digest([comparison_to_row(c) for c in inputs.comparisons]),
    }
    for name in ("prompts", "held_out", "in_distribution", "out_of_distribution"):
        found[name] = digest([value.key for value in getattr(inputs, name)])
    return found
