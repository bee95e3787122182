"""What the main job would take, before it begins: replies, tokens, optimiser steps, memory, and a time from
the speed of this model on this machine. Counts are upper bounds: every reply is taken to be as long as it may
be. The time is an estimate.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import mean

from solon.models.backbones.backbone import Backbone
from solon.models.backbones.huggingface import HuggingFaceBackbone
from solon.models.backbones.small import SmallTransformer
from solon.models.torch_model import TorchModel
from solon.scaling.memory import GIB, Architecture, Layout, training_memory
from solon.studies.constitutional_ai.inputs import QUESTION, Inputs, Options, read
from solon.studies.constitutional_ai.settings import Settings
from solon.training.fit import steps_for
from solon.words.conversation import Conversation

MICRO_TOKENS = 2048  # of a micro-batch, as training cuts them
REQUEST = 60  # tokens of a critique or revision request, about
BACKWARD = 4.0  # a token that is learned from costs so many that are only read
ROWS, PROBE_TOKENS = 16, 8  # replies sampled at once to measure the speed, and their tokens


@dataclass(frozen=True, slots=True)
class Work:
    """One stage: replies to sample, their tokens at most, tokens that are only read (prompts and scored
    replies), tokens that are learned from, and optimiser steps.
    """

    stage: str
    replies: float = 0
    sampled: float = 0
    read: float = 0
    learned: float = 0
    steps: float = 0


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens a second, and the probe that says so."""

    sampling: float
    reading: float
    basis: str


@dataclass(frozen=True, slots=True)
class JobEstimate:
    """All stages, the peak of memory (bytes) and the speed that the time rests on."""

    stages: tuple[Work, ...]
    memory: float
    speed: Speed

    def seconds(self, work: Work) -> float:
        """How long a stage would take at the measured speed."""
        reading = work.read + BACKWARD * work.learned
        return work.sampled / self.speed.sampling + reading / self.speed.reading

    @property
    def total(self) -> Work:
        """The sum of all stages."""
        names = ("replies", "sampled", "read", "learned", "steps")
        return Work("in all", *(sum(getattr(work, name) for work in self.stages) for name in names))

    @property
    def line(self) -> str:
        """The whole job in one line."""
        total = self.total
        return (
            f"the whole job, at most: {total.replies:,.0f} replies of {total.sampled:,.0f} tokens, "
            f"{total.steps:,.0f} optimiser steps, {self.memory / GIB:.1f} GiB, about "
            f"{duration(self.seconds(total))} on this machine"
        )

    def __str__(self) -> str:
        rows = [["stage", "replies", "tokens sampled", "tokens read", "tokens learned", "steps", "time"]]
        for work in (*self.stages, self.total):
            numbers = (work.replies, work.sampled, work.read, work.learned, work.steps)
            cells = [f"{value:,.0f}" if value else "-" for value in numbers]
            rows.append([work.stage, *cells, duration(self.seconds(work))])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
        notes = (
            f"memory: {self.memory / GIB:.1f} GiB at the peak, beside about 0.5 GiB of libraries",
            f"time: an estimate, from {self.speed.basis}; a token that is learned from counts as "
            f"{BACKWARD:g} that are read",
            "tokens are upper bounds: every reply as long as max_tokens allows",
        )
        return "\n".join([*lines, "", *notes])


def duration(seconds: float) -> str:
    """
    >>> duration(40), duration(600), duration(9000)
    ('40 s', '10 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def dry_run(options: Options) -> str:
    """What the flags' job would take, where --dry-run asks for it; "" where it does not."""
    return str(estimate(options.settings, read(options))) if options.dry_run else ""


def estimate(settings: Settings, inputs: Inputs) -> JobEstimate:
    """Counts every stage's work, and measures the speed of the start (about three seconds at most)."""
    layout = Layout(
        devices=1,
        weights=settings.weights,
        tokens=MICRO_TOKENS,
        length=round(prompt_tokens(inputs.start, inputs.prompts)) + 2 * settings.max_tokens,
        rank=settings.rank,
        recompute=False,  # training begins so, and recomputes where memory runs out
        models=3 + (settings.method == "ppo"),  # policy, both preference models, a critic
    )
    memory = training_memory(architecture_of(inputs.start.module), layout)["total"]
    if settings.weights == "lora":  # the formulas take a frozen base for bfloat16
        weights = list(inputs.start.module.parameters())
        memory += sum((weight.element_size() - 2) * weight.numel() for weight in weights)
    speed = measure_speed(inputs.start, inputs.prompts)
    if inputs.feedback is not inputs.start:
        speed = replace(speed, basis=f"{speed.basis} ({inputs.feedback.name} is taken for as fast)")
    stages = (
        *supervised_work(settings, inputs),
        *preference_work(settings, inputs),
        *evidence_work(settings, inputs),
    )
    return JobEstimate(stages, memory, speed)


def prompt_tokens(model: TorchModel, prompts: Sequence[Conversation]) -> float:
    """The mean number of tokens of a prompt; 0 of no prompts."""
    return mean(len(model.dialogue.prompt(prompt)) for prompt in prompts) if prompts else 0.0


def supervised_work(settings: Settings, inputs: Inputs) -> list[Work]:
    """Drafts, critiques, revisions, helpful replies, and learning them."""
    n, helpful, most = len(inputs.prompts), len(inputs.helpful), settings.max_tokens
    prompt, ask = prompt_tokens(inputs.start, inputs.prompts), prompt_tokens(inputs.start, inputs.helpful)
    turns = settings.rounds * (2 if settings.critique else 1)
    before = prompt + 2 * most + 2 * REQUEST  # worked examples are read once for all prompts
    rows = n * settings.rounds + helpful
    tokens = n * settings.rounds * (prompt + most) + helpful * (ask + most)
    return [
        Work("drafts", n * (1 + turns), n * (1 + turns) * most, n * (prompt + turns * before)),
        Work("helpful", helpful, helpful * most, helpful * ask),
        Work(
            "supervised",
            learned=tokens * settings.supervised_epochs,
            steps=steps_for(rows, size=settings.batch, epochs=settings.supervised_epochs),
        ),
    ]


def label_work(stage: str, pairs: int, prompt: float, settings: Settings, ways: Sequence[str]) -> Work:
    """AI feedback on pairs of replies: two orders by letter, a thought in each where it is reasoned, both
    replies behind two prefaces where it is contrastive. What replies share is read once.
    """
    most = settings.max_tokens
    question = prompt + 2 * most + QUESTION / 2
    read = {
        "multiple_choice": 2 * question,
        "reasoned": 4 * question + 2 * most,
        "contrastive": 2 * (prompt + REQUEST + 2 * most),
    }
    thoughts = 2 * pairs * ("reasoned" in ways)
    return Work(stage, thoughts, thoughts * most, pairs * sum(read[way] for way in ways))


def preference_work(settings: Settings, inputs: Inputs) -> list[Work]:
    """Pairs, labels, both preference models, and the policy that climbs one."""
    n, most, depth = len(inputs.prompts), settings.max_tokens, settings.preference_depth
    prompt = prompt_tokens(inputs.start, inputs.prompts)
    people, ways = len(inputs.comparisons), tuple(dict.fromkeys(("multiple_choice", settings.label)))
    rows, epochs = n + people, settings.preference_epochs
    pair = depth * (prompt + 2 * most)
    groups = settings.policy_steps * settings.policy_prompts
    rollouts = groups * settings.policy_samples
    ask = prompt_tokens(inputs.start, (*inputs.prompts, *inputs.helpful))
    group = ask + settings.policy_samples * most
    passes = settings.policy_epochs * (1 + depth * (settings.method == "ppo"))
    work = [
        Work("pairs", 2 * n, 2 * n * most, n * prompt),
        label_work("labels", n, prompt, settings, ways),
        Work(
            "preference models",
            read=rows * pair * settings.probe_start + 2 * n * 2 * pair,
            learned=rows * pair * epochs,
            steps=steps_for(rows, size=settings.batch, epochs=epochs),
        ),
        Work(
            "policy",
            rollouts,
            rollouts * most,
            groups * (ask + group * (2 + 2 * depth)),
            groups * group * passes,
            settings.policy_steps * settings.policy_epochs,
        ),
    ]
    if people:
        checked = min(200, people // 5)
        work.insert(0, label_work("agreement with people", checked, prompt, settings, ways))
    return work


def evidence_work(settings: Settings, inputs: Inputs) -> list[Work]:
    """Three models on all held-out prompts, both preference models and the feedback model as judges."""
    prompts, most = (*inputs.held_out, *inputs.helpful_held_out), settings.max_tokens
    prompt, replies = prompt_tokens(inputs.start, prompts), 3 * len(prompts) * settings.evaluation_samples
    way = "contrastive" if settings.label == "contrastive" else "multiple_choice"
    judged = label_work("duels", 3 * len(prompts), prompt, settings, (way,))
    group = prompt + settings.evaluation_samples * most
    scored = 3 * len(prompts) * group * 2 * settings.preference_depth
    divergence = 3 * len(inputs.held_out) * 2 * (prompt + most)
    return [
        Work("held-out replies", replies, replies * most, 3 * len(prompts) * prompt + scored + divergence),
        judged,
    ]


def measure_speed(model: TorchModel, prompts: Sequence[Conversation]) -> Speed:
    """Tokens a second: of sampling, as what more tokens of as many replies take, so that the prompt does not
    count; and of reading a few prompts. About three seconds for a small model; the first call, which is
    slower, counts for neither.
    """
    began = time.monotonic()
    model.sample(prompts[:1], max_tokens=2, seed=0)
    rows = ROWS if time.monotonic() - began < 1 else 4
    seconds, tokens = [], []
    for most in (1, 1 + PROBE_TOKENS):
        began = time.monotonic()
        replies = model.sample(prompts[:1], count=rows, max_tokens=most, seed=0)[0]
        seconds.append(time.monotonic() - began)
        tokens.append(sum(len(reply.tokens) for reply in replies))
    sampling, sampled = max(seconds[1] - seconds[0], 1e-6), max(tokens[1] - tokens[0], 1)
    asked = prompts[:4]
    began = time.monotonic()
    scored = model.score(asked, [prompt.last or "yes" for prompt in asked], truncate=True)
    reading = max(time.monotonic() - began, 1e-6)
    read = sum(len(sample.tokens) - sample.cut for sample in scored)
    read += sum(len(model.dialogue.prompt(prompt)) for prompt in asked)
    basis = f"{sampled} tokens sampled in {sampling:.2g} s and {read} read in {reading:.2g} s just now"
    return Speed(sampled / sampling, read / reading, basis)


def architecture_of(backbone: Backbone) -> Architecture:
    """The sizes of a model as the formulas of memory need them; what has another shape is taken for the
    nearest Llama.
    """
    plain = Architecture(
        layers=backbone.depth,
        width=backbone.width,
        intermediate=4 * backbone.width,
        heads=1,
        kv_heads=1,
        vocabulary=backbone.vocabulary,
    )
    if isinstance(backbone, SmallTransformer):
        return replace(plain, heads=backbone.shape.heads, kv_heads=backbone.shape.heads)
    if not isinstance(backbone, HuggingFaceBackbone):
        return plain
    config = backbone.module.config.get_text_config()
    heads = int(config.num_attention_heads)
    return replace(
        plain,
        intermediate=int(getattr(config, "intermediate_size", None) or plain.intermediate),
        heads=heads,
        kv_heads=int(getattr(config, "num_key_value_heads", None) or heads),
        tied=bool(config.tie_word_embeddings),
    )
