"""What the study works on: models by size, people's and public comparisons; or the toy world, offline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from solon.data import packaged, toy_world
from solon.data.exchange import Answer, answer_score, exchange_comparisons, read_public_comparisons
from solon.data.published import (
    first_human_text,
    read_comparisons,
    read_dialogues,
    read_prompts,
    split_by_opening,
)
from solon.errors import InputError
from solon.models.torch_model import TorchModel
from solon.studies.general_assistant.settings import Settings, quick
from solon.study.conduct import TOY, is_toy, open_models, readable, skipped_counts
from solon.study.console import say
from solon.study.fingerprint import Keyed
from solon.study.options import Models, StudyOptions
from solon.study.toy_models import speaker
from solon.training.fit import shuffled_batch
from solon.words.comparison import Comparison
from solon.words.conversation import Conversation

NOISE = 0.1  # of the toy world's labels


@dataclass(frozen=True)
class Options(StudyOptions):
    """Study a prompt and its distillate, three objectives, and preference-model pretraining, and report
    it.
    """

    models: Models = (TOY,)
    """smollm2, gemma3-270m, model folders or hub ids, the largest last; toy: small transformers and planted
    comparisons, offline
    """
    comparisons: Path | None = None
    """people's comparisons, as hh-rlhf pairs or own rows"""
    public: tuple[Path, ...] = ()
    """public comparisons to pretrain on: questions with votes, edits, or annotations"""
    ranked_task: Path | None = None
    """comparisons by degrees that the objectives are compared on; without it, people's"""
    binary_task: Path | None = None
    """comparisons of right and wrong for the same"""
    context: Path = packaged.ASSISTANT
    """the conversations that the prompt is made of"""
    prompts: tuple[Path, ...] = (packaged.HELPFUL, packaged.RED_TEAM)
    """what the prompted model replies to, to be distilled; a part is held out by dialogue"""
    held_out: int = 0
    """how many prompts to hold out; 0: 32 in quick (96 of the toy world), 200 in full, or a quarter of what
    is there
    """
    settings: Settings = field(default_factory=quick)


@dataclass(frozen=True, slots=True)
class Task:
    """Comparisons of one kind: `ranked` where replies are better and worse by degrees, else right and
    wrong.
    """

    name: str
    ranked: bool
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the study works on. `models` rise in size; the last is the one that is distilled, and that
    preference models stand on. `texts` are distilled on; without them, the replies of the prompted model to
    `prompts` are. `worth`, where there is one, is the truth of a reply to a held-out prompt; without it a
    preference model of people's comparisons says.
    """

    models: tuple[TorchModel, ...]
    context: Conversation
    texts: tuple[tuple[Conversation, str], ...]
    prompts: tuple[Conversation, ...]
    held_out: tuple[Conversation, ...]
    tasks: tuple[Task, ...]
    public: tuple[Comparison, ...]
    human: tuple[Comparison, ...]
    worth: Keyed[[Conversation, str], float] | None = None
    counts: tuple[tuple[str, int], ...] = ()


def read(options: Options) -> Inputs:
    """What the flags name. Everything left out is counted."""
    if is_toy(options):
        return toy_inputs(options)
    counts: dict[str, int] = {}
    files = {
        "people's comparisons": options.comparisons,
        "ranked task": options.ranked_task,
        "binary task": options.binary_task,
    }
    readings = {name: read_comparisons(path, axis="") for name, path in files.items() if path is not None}
    public: list[Comparison] = []
    for path in options.public:
        reading = read_public_comparisons(path, seed=options.seed)
        counts |= skipped_counts(reading, f"public comparisons of {path.parent.name}/{path.name}")
        public += reading.rows
    for name, kept in readings.items():
        counts |= skipped_counts(kept, name)
    human = readings["people's comparisons"].rows
    ranked = readings.get("ranked task")
    tasks = [Task("people", True, human) if ranked is None else Task("ranked", True, ranked.rows)]
    if "binary task" in readings:
        tasks.append(Task("binary", False, readings["binary task"].rows))
    rows: list[Conversation] = []
    for path in options.prompts:
        prompts = read_prompts(path)
        counts |= skipped_counts(prompts, f"prompts of {path.name}")
        rows += prompts.rows
    context = read_dialogues(options.context)
    models = open_models(options.models, options.precision)
    training, testing = prompts_of(options, rows, context, models[-1], counts)
    return Inputs(
        models=models,
        context=context,
        texts=(),
        prompts=training,
        held_out=testing,
        tasks=tuple(tasks),
        public=tuple(public),
        human=human,
        counts=tuple(counts.items()),
    )


def prompts_of(
    options: Options,
    rows: Sequence[Conversation],
    context: Conversation,
    model: TorchModel,
    counts: dict[str, int],
) -> tuple[tuple[Conversation, ...], tuple[Conversation, ...]]:
    """Prompts to distil on and to hold out, of dialogues that they do not share; all fit behind the
    context.
    """
    fitting = [p for p in rows if readable(model, p.after(context), max_tokens=options.settings.max_tokens)]
    counts["prompts too long to stand behind the context, left out"] = len(rows) - len(fitting)
    drawn = shuffled_batch(fitting, size=len(fitting), seed=options.seed, number=1)
    held_out = options.held_out or min(32 if options.preset == "quick" else 200, len(fitting) // 4)
    if held_out < 8 or len(fitting) - held_out < 16:
        raise InputError(
            f"{len(fitting)} prompts fit behind the context; at least 8 to hold out and 16 to distil on "
            f"are needed, {held_out} were asked for"
        )
    testing = next(split_by_opening(drawn, first_human_text, [held_out]))
    apart = {first_human_text(prompt) for prompt in testing}
    return tuple(prompt for prompt in drawn if first_human_text(prompt) not in apart), tuple(testing)


def toy_inputs(options: Options) -> Inputs:
    """Speakers of three sizes, who go on as the dialogues before them do; people who err now and then, and a
    public that votes.
    """
    if options.comparisons or options.public or options.ranked_task or options.binary_task:
        raise InputError("the toy world brings its own comparisons; name a model to use others")
    say("training the toy world's speakers")
    speak = partial(
        speaker, options.seed, steps=400, words=("GOOD:", "BAD:"), shown=0.3, blank=0.05, named=0.1
    )
    models = tuple(speak(width=width, layers=layers) for width, layers in ((16, 1), (32, 2), (80, 2)))
    asked = toy_world.requests((*toy_world.FORBIDDEN, *toy_world.EVERYDAY))
    order = shuffled_batch(asked, size=len(asked), seed=options.seed, number=1)
    held_out = tuple(order[: options.held_out or 96])
    among = {first_human_text(prompt) for prompt in held_out}
    texts = tuple(
        (p, toy_world.helpful_reply(p) if number % 2 else toy_world.refusal(p))
        for number, p in enumerate(order[len(held_out) :][:1400])
    )
    human = tuple(
        c
        for c in toy_world.comparisons(options.seed, 16_000, noise=NOISE)
        if first_human_text(c.prompt) not in among
    )
    public = tuple(public_comparisons(options.seed, 2000))
    tasks = (
        Task("votes", True, tuple(public_comparisons(options.seed + 1, 800))),
        Task("tools", False, tuple(toy_world.tool_comparisons(options.seed + 1, 2400))),
    )
    return Inputs(
        models=models,
        context=toy_world.example_dialogues(options.seed),
        texts=texts,
        prompts=(),
        held_out=held_out,
        tasks=tasks,
        public=public,
        human=human,
        worth=Keyed("the planted truth", toy_world.gold_reward),
    )


def public_comparisons(seed: int, questions: int) -> list[Comparison]:
    """The toy public's votes, made into comparisons as StackExchange's are."""
    comparisons = []
    for prompt, answers in toy_world.voted_answers(seed, questions):
        rows = [Answer(text, answer_score(votes, accepted=False)) for text, votes in answers]
        comparisons += exchange_comparisons(prompt.last, rows, seed=seed)
    return comparisons
