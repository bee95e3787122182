"""What the studies share: the model that is trained, replies kept as rows, preference models on one base,
policies that are reinforced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import torch

from solon.alignment.feedback import ReplyPair, label_contrastive, label_multiple_choice
from solon.alignment.preference import (
    PairLoss,
    PreferenceModel,
    comparison_loss,
    fit_preference_model,
    init_head,
)
from solon.alignment.quality import ScoredComparison, scored_comparison
from solon.data.published import first_human_text
from solon.errors import InputError
from solon.models.activations import layer_sites
from solon.models.adapters import Lora
from solon.models.backbones.backbone import Backbone, fast_precision
from solon.models.base import Sample, derive
from solon.models.scalar import ScalarModel
from solon.models.torch_model import TorchModel
from solon.records.codecs import SAMPLES
from solon.records.files import Row
from solon.records.run import Run
from solon.study.settings import RLSettings, TrainingSettings
from solon.training.fit import Example, fit, micro_batches, reply_cross_entropy, shuffled_batch, steps_for
from solon.training.improve import RLConfig, improve
from solon.training.optimiser import Plan
from solon.training.rollouts import Reward
from solon.training.steps import State, Step
from solon.words.comparison import Comparison
from solon.words.conversation import Conversation

Reply = TypeVar("Reply", str, Sample)
Judge = Callable[[Sequence[Conversation], Sequence[Reply]], Sequence[float]]

# how a model is asked to compare, by the flag --label
LABELLERS: dict[str, Callable[..., list[Comparison]]] = {
    "contrastive": label_contrastive,
    "multiple_choice": label_multiple_choice,
}


def slug(name: str) -> str:
    """A name fit for a file; different names stay different.

    >>> slug("org/model") != slug("org_model"), "/" in slug("org/model")
    (True, False)
    """
    plain = "".join(letter if letter.isalnum() else "_" for letter in name)[:40]
    return f"{plain}_{derive(0, name) % 16**6:06x}"


def with_adapters(start: TorchModel, settings: TrainingSettings, *, seed: int) -> TorchModel:
    """The model that is trained: the start with adapters that change nothing yet, or a copy with all weights
    free.
    """
    if settings.weights == "lora":
        return start.adapted(Lora(settings.rank, 2.0 * settings.rank), seed=derive(seed, "adapters"))
    return start.unfrozen()


def replies(
    run: Run,
    name: str,
    model: TorchModel,
    prompts: Sequence[Conversation],
    *,
    count: int,
    max_tokens: int,
    temperature: float = 1.0,
) -> list[list[Sample]]:
    """`count` replies to each prompt, kept as rows."""

    def make(batch: Sequence[Conversation]) -> list[list[Sample]]:
        seed = derive(run.seed, name)
        return model.sample(batch, count=count, max_tokens=max_tokens, temperature=temperature, seed=seed)

    return run.map(name, prompts, make, SAMPLES)


def score_groups(
    judge: Judge[Reply], prompts: Sequence[Conversation], groups: Sequence[Sequence[Reply]]
) -> list[list[float]]:
    """What `judge` gives every reply to every prompt, in one call; groups may differ in length.

    >>> hi, bye = Conversation().human("Hi"), Conversation().human("Bye")
    >>> score_groups(lambda prompts, replies: [float(len(r)) for r in replies], [hi, bye], [["a", "bb"], []])
    [[1.0, 2.0], []]
    """
    pairs = [(prompt, reply) for prompt, group in zip(prompts, groups, strict=True) for reply in group]
    scores = iter(judge([prompt for prompt, _ in pairs], [reply for _, reply in pairs]))
    return [[next(scores) for _ in group] for group in groups]


def comparable(pair: ReplyPair) -> bool:
    """Whether there is anything to compare: both replies say something, and not the same."""
    return bool(pair.first.strip() and pair.second.strip()) and pair.first != pair.second


def alternated(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Every other one swapped, so that the better reply is not always the first."""
    return [c.swapped() if index % 2 else c for index, c in enumerate(comparisons)]


def by_dialogue(comparisons: Sequence[Comparison]) -> dict[str, list[Comparison]]:
    """Comparisons by how their dialogue opens."""
    dialogues: dict[str, list[Comparison]] = {}
    for comparison in comparisons:
        dialogues.setdefault(first_human_text(comparison.prompt), []).append(comparison)
    return dialogues


def first_layers(backbone: Backbone, share: float) -> Backbone:
    """The first layers, a share of them; the backbone itself where that is all."""
    layers = max(1, round(share * backbone.depth))
    return backbone if layers == backbone.depth else backbone.first_layers(layers)


def parameters(backbone: Backbone) -> int:
    """Those of the layers, embeddings left out, as the paper counts them."""
    known = dict(backbone.named_modules())
    return sum(parameter.numel() for name in layer_sites(backbone) for parameter in known[name].parameters())


def check_depths(base: TorchModel, depths: Sequence[float]) -> None:
    """Raises InputError where two depths are the same number of layers."""
    layers = [max(1, round(depth * base.module.depth)) for depth in depths]
    if len(set(layers)) < len(layers):
        raise InputError(f"of {base.module.depth} layers, depths {depths} are {layers}: give such as differ")


def split_in_halves(pool: Sequence[Comparison]) -> tuple[list[Comparison], list[Comparison]]:
    """Two halves that share no dialogue."""
    dialogues = by_dialogue(pool)
    halves: tuple[list[Comparison], list[Comparison]] = ([], [])
    for dialogue in dialogues.values():
        min(halves, key=len).extend(dialogue)
    if min(map(len, halves)) < 8:
        raise InputError(
            f"{len(pool)} comparisons of {len(dialogues)} dialogues give halves of {len(halves[0])} and "
            f"{len(halves[1])}; 8 in each are needed"
        )
    return halves


def new_preference_model(base: TorchModel, depth: float, *, name: str = "") -> PreferenceModel:
    """One that has learned nothing, on the first layers (a share) of a copy of a base."""
    return PreferenceModel(name, ScalarModel(first_layers(base.copy().module, depth)), base.dialogue)


def train_preference_model(
    run: Run,
    unlearned: PreferenceModel,
    rows: Sequence[Comparison],
    settings: TrainingSettings,
    *,
    loss: PairLoss = comparison_loss,
) -> PreferenceModel:
    """A preference model on its own adapters over the base that all share."""
    bf16 = settings.weights == "full" and fast_precision() is torch.bfloat16
    steps = steps_for(len(rows), size=settings.batch, epochs=settings.preference_epochs)

    def loop(fresh: PreferenceModel, state: State | None) -> Iterator[Step]:
        if settings.probe_start and state is None:
            init_head(fresh, rows)
        plan = Plan(
            steps, settings.preference_learning_rate, warmup=min(5, steps), schedule="linear", bf16=bf16
        )
        return fit_preference_model(
            fresh,
            rows,
            plan=plan,
            size=settings.batch,
            seed=derive(run.seed, unlearned.name),
            loss=loss,
            state=state,
            world=run.world,
        )

    return run.trained(unlearned.name, unlearned, loop, steps=steps)


def fine_tune(
    run: Run,
    name: str,
    start: TorchModel,
    examples: Sequence[Example],
    settings: TrainingSettings,
    *,
    epochs: float,
    learning_rate: float,
) -> TorchModel:
    """A model that has imitated replies: cross-entropy of their tokens alone."""
    steps = steps_for(len(examples), size=settings.batch, epochs=epochs)

    def size(example: Example) -> int:
        return len(example[0]) + len(example[1])

    def loop(model: TorchModel, state: State | None) -> Iterator[Step]:
        def batch(number: int) -> list[list[Example]]:
            return micro_batches(
                shuffled_batch(examples, size=settings.batch, seed=derive(run.seed, name), number=number),
                size,
                tokens=2048,
            )

        plan = Plan(
            steps,
            learning_rate,
            warmup=min(3, steps),
            bf16=settings.weights == "full" and model.bf16_is_faster,
        )
        return fit(
            model.module, batch, reply_cross_entropy(model.module), plan=plan, state=state, world=run.world
        )

    return run.trained(name, start, loop, steps=steps)


def score_comparisons(
    run: Run,
    name: str,
    test: Sequence[Comparison],
    score: Callable[[Sequence[Conversation], Sequence[str]], Sequence[float]],
) -> list[ScoredComparison]:
    """What `score` gives both sides of every held-out comparison, kept as rows."""

    def make(batch: Sequence[Comparison]) -> list[Row]:
        prompts, sides = [c.prompt for c in batch], [(c.first, c.second) for c in batch]
        scores = score_groups(score, prompts, sides)
        return [{"first": first, "second": second} for first, second in scores]

    rows = run.rows(name, test, lambda comparison: comparison.key, make)
    return [scored_comparison(c, row["first"], row["second"]) for c, row in zip(test, rows, strict=True)]


def score_replies(
    run: Run,
    name: str,
    judges: Mapping[str, Reward],
    prompts: Sequence[Conversation],
    groups: Sequence[Sequence[Sample]],
) -> dict[str, list[list[float]]]:
    """Each judge's score of every reply to every prompt, kept as rows."""
    pairs = list(zip(prompts, groups, strict=True))

    def make(batch: Sequence[tuple[Conversation, Sequence[Sample]]]) -> list[Row]:
        asked, replied = [prompt for prompt, _ in batch], [group for _, group in batch]
        scores = {judge: score_groups(reward, asked, replied) for judge, reward in judges.items()}
        return [{judge: scores[judge][index] for judge in judges} for index in range(len(batch))]

    rows = run.rows(name, pairs, lambda pair: pair[0].key, make)
    return {judge: [row[judge] for row in rows] for judge in judges}


def mean_reward(
    pm: PreferenceModel, prompts: Sequence[Conversation], groups: Sequence[Sequence[Sample]]
) -> float:
    """The preference model's mean on one fixed set, the supervised model's pairs: only differences mean
    anything.
    """
    scores = [score for group in score_groups(pm, prompts, groups) for score in group]
    return sum(scores) / len(scores)


def as_they_are(policy: TorchModel, steps: Iterator[Step]) -> Iterator[Step]:
    """Steps that nobody watches."""
    return steps


def no_rows(step: Step) -> Sequence[Row]:
    """Of a step that nothing is kept of but its metrics."""
    return ()


def reinforce(
    run: Run,
    name: str,
    start: TorchModel,
    prompts: Sequence[Conversation],
    reward: Reward,
    *,
    settings: RLSettings,
    seed: int | None = None,
    watch: Callable[[TorchModel, Iterator[Step]], Iterator[Step]] = as_they_are,
    record: Callable[[Step], Sequence[Row]] = no_rows,
) -> TorchModel:
    """A policy that was reinforced on prompts against a reward, kept as the stage `name`. `start` is what it
    starts from and the reference of the KL. PPO's critic begins as the preference model that is the reward.

    `watch` is given the policy and its steps, and yields the steps, with more metrics if it likes; `record`
    makes rows of each. The seed is the run's, derived by `name`, unless another is given.
    """
    config = RLConfig(
        Plan(
            settings.policy_steps,
            settings.policy_learning_rate,
            warmup=min(3, settings.policy_steps),
            bf16=settings.weights == "full" and start.bf16_is_faster,
        ),
        method=settings.method,
        prompts=settings.policy_prompts,
        samples=settings.policy_samples,
        max_tokens=settings.max_tokens,
        epochs=settings.policy_epochs,
        kl_coefficient=settings.kl_coefficient,
    )

    def loop(policy: TorchModel, state: State | None) -> Iterator[Step]:
        critic = (
            ScalarModel(reward.copy().scalar.backbone)
            if settings.method == "ppo" and isinstance(reward, PreferenceModel)
            else None
        )
        steps = improve(
            policy,
            prompts,
            reward,
            reference=start,
            config=config,
            seed=derive(run.seed, name) if seed is None else seed,
            critic=critic,
            state=state,
            world=run.world,
        )
        return watch(policy, steps)

    return run.trained(name, start, loop, steps=settings.policy_steps, record=record)
