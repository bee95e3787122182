"""What the main job works on: models, a constitution, prompts to train on and to hold out, from files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from solon.alignment.critique import CritiqueExample
from solon.data import packaged
from solon.data.published import first_human_text, read_comparisons, read_prompts, split_by_opening
from solon.data.tables import read_rows
from solon.errors import InputError
from solon.models.base import LanguageModel
from solon.models.pooled import load_open_pooled
from solon.models.torch_model import TorchModel
from solon.studies.constitutional_ai.settings import Settings, quick
from solon.study.conduct import skipped_counts
from solon.study.console import say
from solon.study.options import Model, StudyOptions
from solon.training.fit import shuffled_batch
from solon.words.comparison import Comparison
from solon.words.constitution import Constitution, Principle, read_constitution
from solon.words.conversation import Conversation

FEWEST = 4  # prompts of any kind
QUESTION = 300  # tokens that a feedback question needs beside the prompt and the replies
Prompts = tuple[Conversation, ...]


@dataclass(frozen=True)
class Options(StudyOptions):
    """Align a model to a written constitution, and report what changed on prompts that nothing was trained
    on.
    """

    model: Model = "smollm2"
    """smollm2, gemma3-270m, a model folder, or a hub id"""
    constitution: Path = packaged.CONSTITUTION
    """a text file of principles (see docs/tutorial.md)"""
    prompts: Path = packaged.RED_TEAM
    """red-team prompts: text, JSONL, CSV or Parquet, hh-rlhf among them"""
    held_out_prompts: Path | None = None
    """prompts for the evidence; without it, part of --prompts is held out by dialogue"""
    helpful: Path = packaged.HELPFUL
    """prompts that keep the model helpful; a quarter is held out"""
    comparisons: Path | None = None
    """people's comparisons, as hh-rlhf pairs or rows of prompt, first, second, p_first: mixed into the
    preference model, and into a judge apart
    """
    feedback: str = ""
    """the model that gives AI feedback; by default the one that is aligned"""
    train: int = 0
    """how many prompts to train on; 0: 32 in quick, all in full"""
    held_out: int = 0
    """how many prompts to hold out; 0: 32 in quick, a quarter in full"""
    workers: str = "here"
    """where drafts and labels are made: here, processes:N, ray, ray:N or ray:ADDRESS; labels may differ in
    rounding
    """
    dry_run: bool = False
    """say what the job would take (steps, rows, tokens, memory, time), and do none of it"""
    settings: Settings = field(default_factory=quick)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What the job works on. `start` is aligned, `feedback` labels. `helpful` prompts keep the model useful;
    `comparisons` are people's, where there are any. `text` is the constitution as it was read.
    """

    start: TorchModel
    feedback: LanguageModel
    constitution: Constitution
    prompts: Prompts
    held_out: Prompts
    helpful: Prompts = ()
    helpful_held_out: Prompts = ()
    comparisons: tuple[Comparison, ...] = ()
    examples: tuple[CritiqueExample, ...] = ()
    counts: tuple[tuple[str, int], ...] = ()  # what was left out while reading, for the report
    text: str = field(default="", metadata={"fingerprint": False})


def read(options: Options) -> Inputs:
    """Files to words, names to models. Everything left out is counted.

    Raises InputError on files that cannot be read or give too few prompts, and where a dialogue would be both
    trained on and held out.
    """
    prompts, held_out, counts = red_team_prompts(options)
    helpful, helpful_held_out, more = helpful_prompts(options)
    trained_on = {first_human_text(prompt) for prompt in (*prompts, *helpful)}
    both = sorted(trained_on & {first_human_text(prompt) for prompt in (*held_out, *helpful_held_out)})
    if both:
        raise InputError(f"{len(both)} dialogues are both trained on and held out, {both[0]!r} among them")
    counts |= more
    comparisons: tuple[Comparison, ...] = ()
    if options.comparisons is not None:
        reading = read_comparisons(options.comparisons, axis="harmless")
        comparisons, counts = reading.rows, counts | skipped_counts(reading, "comparisons")
    constitution = read_constitution(options.constitution)
    start = open_pooled(options.model, options)
    inputs = Inputs(
        start=start,
        feedback=open_pooled(options.feedback, options) if options.feedback else start,
        constitution=constitution,
        prompts=prompts,
        held_out=held_out,
        helpful=helpful,
        helpful_held_out=helpful_held_out,
        comparisons=comparisons,
        examples=read_examples(),
        counts=tuple(counts.items()),
        text=options.constitution.read_text(encoding="utf-8"),
    )
    return without_too_long(inputs, options.settings)


def open_pooled(name: str | TorchModel, options: Options) -> TorchModel:
    """A model by its name, its sampling and scoring spread over the workers, or as it is where it is open."""
    if isinstance(name, TorchModel):
        return name
    return load_open_pooled(options.workers, name, precision=options.precision, say=say)


def red_team_prompts(options: Options) -> tuple[Prompts, Prompts, dict[str, int]]:
    """Prompts to train on and to hold out, of different dialogues, and what was left out."""
    reading = read_prompts(options.prompts)
    counts = skipped_counts(reading, "prompts")
    apart = options.held_out_prompts
    if apart is None and options.prompts == packaged.RED_TEAM:
        apart = packaged.RED_TEAM_HELD_OUT
    order = shuffled_batch(reading.rows, size=len(reading.rows), seed=options.seed, number=1)
    if apart is None:
        train, held_out = sizes(options, len(order), None)
        first, second = split_by_opening(order, first_human_text, [train, held_out])
        return tuple(first), tuple(second), counts
    others = read_prompts(apart)
    train, held_out = sizes(options, len(order), len(others.rows))
    drawn = shuffled_batch(others.rows, size=held_out, seed=options.seed, number=1)
    return tuple(order[:train]), tuple(drawn), counts | skipped_counts(others, "held-out prompts")


def sizes(options: Options, prompts: int, apart: int | None) -> tuple[int, int]:
    """How many prompts to train on and to hold out. Raises InputError where there are not that many."""
    is_quick = options.preset == "quick"
    held_out = options.held_out or (min(32, apart or prompts // 3) if is_quick else apart or prompts // 4)
    room = prompts if apart is not None else prompts - held_out
    train = options.train or (min(32, room) if is_quick else room)
    if train > room or (apart is not None and held_out > apart) or min(train, held_out) < FEWEST:
        raise InputError(
            f"{prompts} prompts do not give {train} to train on and {held_out} to hold out (at least "
            f"{FEWEST} of each)"
        )
    return train, held_out


def helpful_prompts(options: Options) -> tuple[Prompts, Prompts, dict[str, int]]:
    """Helpful prompts to train on and to hold out, at most 20 of each in quick, and what was left out."""
    reading = read_prompts(options.helpful)
    if options.helpful == packaged.HELPFUL:
        train, test = reading.rows, read_prompts(packaged.HELPFUL_HELD_OUT).rows
    else:
        names = sorted({first_human_text(row) for row in reading.rows})
        kept = set(shuffled_batch(names, size=max(1, len(names) // 4), seed=options.seed, number=1))
        train = tuple(row for row in reading.rows if first_human_text(row) not in kept)
        test = tuple(row for row in reading.rows if first_human_text(row) in kept)
    most = 20 if options.preset == "quick" else max(len(train), len(test))
    first, second = (
        tuple(shuffled_batch(rows, size=len(rows), seed=options.seed, number=1)[:most])
        for rows in (train, test)
    )
    return first, second, skipped_counts(reading, "helpful prompts")


def read_examples() -> tuple[CritiqueExample, ...]:
    """The packaged worked critiques."""
    return tuple(
        CritiqueExample(
            row["request"],
            row["reply"],
            Principle(row["name"], row["critique_request"], row["revision_request"]),
            row["critique"],
            row["revision"],
        )
        for _, row in read_rows(packaged.CRITIQUE_EXAMPLES)
    )


def examples_tokens(model: TorchModel, examples: Sequence[CritiqueExample]) -> int:
    """About how many tokens worked examples take before a critique."""
    texts = [example.reply + example.critique + example.revision for example in examples]
    return sum(len(model.dialogue.reply(Conversation(), text)) + 150 for text in texts)


def without_too_long(inputs: Inputs, settings: Settings) -> Inputs:
    """Inputs whose prompts and comparisons leave room in the contexts of both models; the others are counted,
    never cut.

    A critique contains the prompt, a reply, a critique and two requests, and the worked examples before it; a
    question by letter the prompt, two replies, a principle and perhaps a thought. A feedback model elsewhere
    refuses for itself. Raises InputError where fewer than four prompts of a kind are left.
    """
    model, most = inputs.start, settings.max_tokens
    judges = list(dict.fromkeys(j for j in (model, inputs.feedback) if isinstance(j, TorchModel)))
    room = 4 * most + QUESTION + examples_tokens(model, inputs.examples[: settings.examples])
    counts = dict(inputs.counts)

    def fitting(kind: str, prompts: Prompts) -> Prompts:
        kept = tuple(
            prompt
            for prompt in prompts
            if model.fits(prompt, max_tokens=room)
            and all(judge.fits(prompt, max_tokens=3 * most + QUESTION) for judge in judges)
        )
        counts[f"{kind} prompts too long for the context, left out"] = len(prompts) - len(kept)
        if len(kept) < FEWEST and len(kept) < len(prompts):
            contexts = " and ".join(f"{judge.name}'s context of {judge.context}" for judge in judges)
            raise InputError(f"only {len(kept)} {kind} prompts fit {contexts} with {room} tokens of room")
        return kept

    comparisons = tuple(
        c
        for c in inputs.comparisons
        if all(model.fits(c.prompt.assistant(reply), max_tokens=20) for reply in (c.first, c.second))
    )
    left_out = len(inputs.comparisons) - len(comparisons)
    counts["comparisons too long for the context, left out"] = left_out
    return replace(
        inputs,
        prompts=fitting("red-team", inputs.prompts),
        held_out=fitting("held-out", inputs.held_out),
        helpful=fitting("helpful", inputs.helpful),
        helpful_held_out=fitting("held-out helpful", inputs.helpful_held_out),
        comparisons=comparisons,
        counts=tuple(counts.items()),
    )
