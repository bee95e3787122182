"""What HH-RLHF's study works on: comparisons and prompts from files, or the toy world's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from solon.alignment.feedback import ReplyPair
from solon.data import packaged, toy_world
from solon.data.published import first_human_text, read_comparisons, read_prompts, split_by_opening
from solon.errors import InputError
from solon.models.pooled import load_open_pooled
from solon.models.torch_model import TorchModel
from solon.records.run import digest
from solon.studies.helpful_harmless.settings import Settings, quick
from solon.study.conduct import TOY, is_toy, open_model, skipped_counts
from solon.study.console import say
from solon.study.fingerprint import Keyed
from solon.study.options import Model, StudyOptions
from solon.study.stages import LABELLERS
from solon.study.toy_models import planted, speaker
from solon.training.fit import shuffled_batch
from solon.words.comparison import Comparison
from solon.words.constitution import read_constitution
from solon.words.conversation import Conversation

NOISE = 0.1  # of the toy world's labels
QUESTION = 300  # tokens that a comparison needs beside the prompt and both replies: a principle, the frame
FEWEST = 8  # prompts of reinforcement, and held out
Prompts = tuple[Conversation, ...]
Annotate = Callable[[Sequence[ReplyPair]], list[Comparison]]


@dataclass(frozen=True)
class Options(StudyOptions):
    """Study preference models and a policy that climbs one of them, and report it."""

    model: Model = TOY
    """smollm2, gemma3-270m, a model folder, or a hub id; toy: a small transformer and planted comparisons,
    offline
    """
    comparisons: Path | None = None
    """people's comparisons, as hh-rlhf pairs or rows of prompt, first, second, p_first; those without an axis
    are taken as harmless ones
    """
    helpful_comparisons: Path | None = None
    """the same for helpfulness; with both, mixtures and weights are studied"""
    prompts: Path | None = None
    """prompts for reinforcement and, by dialogue, for the evidence; without it, those of the comparisons"""
    in_distribution: Path | None = None
    """prompts that the model is for, where others are to be told apart from them; without it, our own helpful
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
    """how many prompts to reinforce on; 0: 64 in quick (128 of the toy world), 1,000 in full, or what is
    there
    """
    held_out: int = 0
    """how many prompts to hold out; 0: 32 in quick (96 of the toy world), 200 in full, or a quarter of what
    is there
    """
    workers: str = "here"
    """where the annotator works: here, processes:N, ray, ray:N or ray:ADDRESS"""
    settings: Settings = field(default_factory=quick)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What the study works on. `prompts` are for reinforcement and `held_out` for the evidence;
    `in_distribution` and `out_of_distribution` prompts are told apart by activations. `annotate`, where there
    is one, compares replies made during the study; `annotator` is its name.
    """

    start: TorchModel
    comparisons: tuple[Comparison, ...]
    prompts: Prompts
    held_out: Prompts
    in_distribution: Prompts = ()
    out_of_distribution: Prompts = ()
    annotate: Annotate | None = None
    annotator: str = ""
    counts: tuple[tuple[str, int], ...] = ()


def read(options: Options) -> Inputs:
    """What the flags name; everything left out is counted. Raises InputError on files that cannot be read or
    give too few prompts.
    """
    if is_toy(options):
        return toy(options)
    counts: dict[str, int] = {}
    comparisons: list[Comparison] = []
    for path, axis in ((options.comparisons, "harmless"), (options.helpful_comparisons, "helpful")):
        if path is not None:
            reading = read_comparisons(path, axis=axis)
            counts |= skipped_counts(reading, f"{axis} comparisons")
            comparisons += reading.rows
    start = open_model(options.model, options.precision)
    judge = open_annotator(options, start) if options.annotator else None
    prompts, held_out = split_prompts(options, comparisons, start, judge, counts)
    plain = [packaged.HELPFUL, packaged.HELPFUL_HELD_OUT]
    near = [options.in_distribution] if options.in_distribution else plain
    inputs = partial(
        Inputs,
        start=start,
        comparisons=tuple(comparisons),
        prompts=prompts,
        held_out=held_out,
        in_distribution=fitting_prompts("in-distribution", near, start, counts),
        out_of_distribution=fitting_prompts(
            "out-of-distribution", [options.out_of_distribution or packaged.RED_TEAM], start, counts
        ),
        counts=tuple(counts.items()),
    )
    if judge is None:
        return inputs()
    constitution = read_constitution(options.constitution)
    annotate = partial(LABELLERS[options.label], judge, constitution=constitution, seed=options.seed)
    key = f"{judge.fingerprint} {digest(asdict(constitution))} {options.label} {options.seed}"
    return inputs(
        annotate=Keyed(key, annotate), annotator=f"{judge.name} ({options.label.replace('_', ' ')})"
    )


def open_annotator(options: Options, start: TorchModel) -> TorchModel:
    """The annotator: the start where it is that and works here, else over the workers."""
    if options.workers == "here" and options.annotator == options.model:
        return start
    if isinstance(options.annotator, TorchModel):
        return options.annotator
    return load_open_pooled(options.workers, options.annotator, precision=options.precision, say=say)


def fitting_prompts(
    role: str, paths: Sequence[Path], model: TorchModel, counts: dict[str, int]
) -> tuple[Conversation, ...]:
    """The prompts of files that fit the model's context; the others are counted."""
    rows: list[Conversation] = []
    for path in paths:
        reading = read_prompts(path)
        counts |= skipped_counts(reading, f"{role} prompts")
        rows += reading.rows
    kept = tuple(prompt for prompt in rows if model.fits(prompt, max_tokens=0))
    counts[f"{role} prompts too long for the context, left out"] = len(rows) - len(kept)
    return kept


def split_prompts(
    options: Options,
    comparisons: Sequence[Comparison],
    model: TorchModel,
    judge: TorchModel | None,
    counts: dict[str, int],
) -> tuple[Prompts, Prompts]:
    """Prompts to reinforce on and to hold out, from dialogues that they do not share; the held-out ones are
    drawn first.
    """
    if options.prompts is not None:
        reading = read_prompts(options.prompts)
        counts |= skipped_counts(reading, "prompts")
        rows = list(reading.rows)
    else:
        rows = list({comparison.prompt.key: comparison.prompt for comparison in comparisons}.values())
    most = options.settings.max_tokens
    fitting = [
        p
        for p in rows
        if model.fits(p, max_tokens=most) and (judge is None or judge.fits(p, max_tokens=2 * most + QUESTION))
    ]
    counts["prompts too long for the context, left out"] = len(rows) - len(fitting)
    order = shuffled_batch(fitting, size=len(fitting), seed=options.seed, number=1)
    held_out = options.held_out or min(32 if options.preset == "quick" else 200, len(fitting) // 4)
    testing = next(split_by_opening(order, first_human_text, [held_out]))
    apart = {first_human_text(prompt) for prompt in testing}
    rest = [prompt for prompt in order if first_human_text(prompt) not in apart]
    train = options.train or min(64 if options.preset == "quick" else 1000, len(rest))
    if train > len(rest) or min(train, held_out) < FEWEST:
        raise InputError(
            f"{len(fitting)} prompts give {held_out} to hold out and {len(rest)} of other dialogues to "
            f"reinforce on; at least {FEWEST} of each are needed, and {train} to reinforce on were asked for"
        )
    counts["prompts not used"] = len(fitting) - held_out - train
    return tuple(rest[:train]), tuple(testing)


def toy(options: Options) -> Inputs:
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
    requests = toy_world.requests((*toy_world.FORBIDDEN, *toy_world.EVERYDAY))
    order = shuffled_batch(requests, size=len(requests), seed=options.seed, number=1)
    train, held_out = options.train or 128, options.held_out or 96
    comparisons = toy_world.comparisons(options.seed, 1600, noise=NOISE)
    among = {first_human_text(prompt) for prompt in order[: train + held_out]}
    inside, outside = (
        tuple(shuffled_batch(toy_world.requests(things), size=120, seed=options.seed, number=1))
        for things in (toy_world.EVERYDAY, toy_world.FORBIDDEN)
    )
    return Inputs(
        start=speaker(options.seed),
        comparisons=tuple(c for c in comparisons if first_human_text(c.prompt) not in among),
        prompts=tuple(order[:train]),
        held_out=tuple(order[train : train + held_out]),
        in_distribution=inside,
        out_of_distribution=outside,
        annotate=Keyed("planted", planted),
        annotator="the planted truth",
    )
