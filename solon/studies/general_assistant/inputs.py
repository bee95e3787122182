"""`solon run general_assistant [MODELS]`: A General Language Assistant's study; without a model, on the toy
world.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro

from solon.data import packaged, toy_world
from solon.data.exchange import Answer, answer_score, exchange_comparisons, read_public_comparisons
from solon.data.published import (
    first_human_text,
    read_comparisons,
    read_dialogues,
    read_prompts,
    split_by_opening,
)
from solon.data.rows import comparison_to_row
from solon.errors import InputError
from solon.models.torch_model import TorchModel
from solon.records.run import digest
from solon.studies.general_assistant.settings import Inputs, Settings, Task, full, quick, toy
from solon.studies.general_assistant.study import study
from solon.study.legacy import (
    StudyOptions,
    open_models,
    parse_with_preset,
    readable,
    run_study,
    say,
    skipped_counts,
)
from solon.study.toy_models import speaker
from solon.training.fit import shuffled_batch
from solon.words.comparison import Comparison
from solon.words.conversation import Conversation

TOY = ("toy",)
NOISE = 0.1  # of the toy world's labels


@dataclass(frozen=True)
class Options(StudyOptions):
    """Study a prompt and its distillate, three objectives, and preference-model pretraining, and report
    it.
    """

    models: Annotated[tuple[str, ...], tyro.conf.Positional] = TOY
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


def main(argv: Sequence[str]) -> int:
    options = parsed(argv)
    inputs = toy_inputs(options) if options.models == TOY else real_inputs(options)
    settings, name = options.settings, " ".join(model.name for model in inputs.models)
    return run_study(
        options,
        "general_assistant",
        asdict(settings),
        hashes(inputs),
        name,
        lambda run: study(run, settings, inputs),
    )


def parsed(argv: Sequence[str]) -> Options:
    """The flags, over the preset's settings."""
    presets = {
        "quick": Options(settings=quick()),
        "full": Options(preset="full", settings=full()),
        "toy": Options(settings=toy()),
    }
    return parse_with_preset(
        Options,
        argv,
        command="run general_assistant",
        **presets,
        is_toy=lambda options: options.models == TOY,
    )


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
        models,
        toy_world.example_dialogues(options.seed),
        texts,
        (),
        held_out,
        tasks,
        public,
        human,
        toy_world.gold_reward,
    )


def public_comparisons(seed: int, questions: int) -> list[Comparison]:
    """The toy public's votes, made into comparisons as StackExchange's are."""
    found = []
    for prompt, answers in toy_world.voted_answers(seed, questions):
        rows = [Answer(text, answer_score(votes, accepted=False)) for text, votes in answers]
        found += exchange_comparisons(prompt.last, rows, seed=seed)
    return found


def real_inputs(options: Options) -> Inputs:
    """Files to words. Everything left out is counted."""
    if options.comparisons is None or not options.public:
        raise InputError(
            f"give --comparisons and --public to study {' '.join(options.models)}; or no model, for the "
            "toy world"
        )
    counts: dict[str, int] = {}
    files = {
        "people's comparisons": options.comparisons,
        "ranked task": options.ranked_task,
        "binary task": options.binary_task,
    }
    read = {name: read_comparisons(path, axis="") for name, path in files.items() if path is not None}
    public: list[Comparison] = []
    for path in options.public:
        reading = read_public_comparisons(path, seed=options.seed)
        counts |= skipped_counts(reading, f"public comparisons of {path.parent.name}/{path.name}")
        public += reading.rows
    for name, own in read.items():
        counts |= skipped_counts(own, name)
    human = read["people's comparisons"].rows
    tasks = (
        [Task("people", True, human)]
        if "ranked task" not in read
        else [Task("ranked", True, read["ranked task"].rows)]
    )
    tasks += [Task("binary", False, read["binary task"].rows)] if "binary task" in read else []
    rows: list[Conversation] = []
    for path in options.prompts:
        prompts = read_prompts(path)
        counts |= skipped_counts(prompts, f"prompts of {path.name}")
        rows += prompts.rows
    context = read_dialogues(options.context)
    models = open_models(options.models, options.precision)
    training, testing = prompts_of(options, rows, context, models[-1], counts)
    return Inputs(
        models,
        context,
        (),
        training,
        testing,
        tuple(tasks),
        tuple(public),
        human,
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


def hashes(inputs: Inputs) -> dict[str, str]:
    """What the run's name depends on beside settings and seed."""
    found = {
        "models": digest([model.fingerprint for model in inputs.models]),
        "context": inputs.context.key,
        "texts": digest([(prompt.key, reply) for prompt, reply in inputs.texts]),
        "tasks": digest(
            [
                (task.name, task.ranked, [comparison_to_row(c) for c in task.comparisons])
                for task in inputs.tasks
            ]
        ),
    }
    for name in ("prompts", "held_out"):
        found[name] = digest([value.key for value in getattr(inputs, name)])
    for name in ("public", "human"):
        found[name] = digest([comparison_to_row(c) for c in getattr(inputs, name)])
    return found
