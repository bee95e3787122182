"""What the studies share: the model that is trained, replies kept as rows, preference models on one base."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

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
from solon.models.base import derive
from solon.models.scalar import ScalarModel
from solon.models.torch_model import TorchModel
from solon.records.codecs import from_replies, to_replies
from solon.records.run import Run
from solon.study.settings import RLSettings, TrainingSettings
from solon.training.fit import Example, fit, micro_batches, reply_cross_entropy, shuffled_batch, steps_for
from solon.training.improve import Reward, RLConfig, improve
from solon.training.optimiser import Plan
from solon.training.steps import State, Step
from solon.words.comparison import Comparison
from solon.words.conversation import Conversation


def key(prompt: Conversation) -> str:
    return prompt.key


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
    settings: TrainingSettings,
    *,
    count: int,
    temperature: float = 1.0,
) -> list[Any]:
    """`count` replies to each prompt, kept as rows."""

    def make(some: Sequence[Conversation]) -> list[dict[str, Any]]:
        drawn = model.sample(
            some,
            count=count,
            max_tokens=settings.max_tokens,
            temperature=temperature,
            seed=derive(run.seed, name),
        )
        return [from_replies(prompt, group) for prompt, group in zip(some, drawn, strict=True)]

    return [to_replies(row) for row in run.rows(name, prompts, key, make)]


def alternated(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Every other one swapped, so that the better reply is not always the first."""
    return [c.swapped() if place % 2 else c for place, c in enumerate(comparisons)]


def first_layers(body: Backbone, share: float) -> Backbone:
    """The first layers of a body, a share of them; the body itself where that is all."""
    layers = max(1, round(share * body.depth))
    return body if layers == body.depth else body.first_layers(layers)


def parameters(body: Backbone) -> int:
    """Those of the layers, embeddings left out, as the paper counts them."""
    known = dict(body.named_modules())
    return sum(parameter.numel() for name in layer_sites(body) for parameter in known[name].parameters())


def check_depths(base: TorchModel, depths: Sequence[float]) -> None:
    """Raises InputError where two depths are the same number of layers."""
    layers = [max(1, round(depth * base.module.depth)) for depth in depths]
    if len(set(layers)) < len(layers):
        raise InputError(f"of {base.module.depth} layers, depths {depths} are {layers}: give such as differ")


def split_in_halves(pool: Sequence[Comparison]) -> tuple[list[Comparison], list[Comparison]]:
    """Two halves that share no dialogue."""
    dialogues: dict[str, list[Comparison]] = {}
    for comparison in pool:
        dialogues.setdefault(first_human_text(comparison.prompt), []).append(comparison)
    halves: tuple[list[Comparison], list[Comparison]] = ([], [])
    for own in dialogues.values():
        min(halves, key=len).extend(own)
    if min(map(len, halves)) < 8:
        raise InputError(
            f"{len(pool)} comparisons of {len(dialogues)} dialogues give halves of {len(halves[0])} and "
            f"{len(halves[1])}; 8 in each are needed"
        )
    return halves


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

    def make(some: Sequence[Comparison]) -> list[dict[str, Any]]:
        scores = score(
            [c.prompt for c in some for _ in range(2)], [text for c in some for text in (c.first, c.second)]
        )
        return [
            {"first": first, "second": second}
            for first, second in zip(scores[::2], scores[1::2], strict=True)
        ]

    rows = run.rows(name, test, lambda comparison: comparison.key, make)
    return [
        scored_comparison(comparison, row["first"], row["second"])
        for comparison, row in zip(test, rows, strict=True)
    ]


def mean_reward(pm: PreferenceModel, prompts: Sequence[Conversation], groups: Sequence[Any]) -> float:
    """The preference model's mean on one fixed set, the supervised model's pairs: only differences mean
    anything.
    """
    flat = [(prompt, sample) for prompt, group in zip(prompts, groups, strict=True) for sample in group]
    return sum(pm([prompt for prompt, _ in flat], [sample for _, sample in flat])) / len(flat)


def reinforce(
    run: Run,
    name: str,
    policy: TorchModel,
    prompts: Sequence[Conversation],
    reward: PreferenceModel | Reward,
    settings: RLSettings,
    *,
    reference: TorchModel,
    state: State | None,
) -> Iterator[Step]:
    """Reinforcement of a policy on prompts against a reward. PPO's critic begins as the preference model that
    is the reward.
    """
    plan = Plan(
        settings.policy_steps,
        settings.policy_learning_rate,
        warmup=min(3, settings.policy_steps),
        bf16=settings.weights == "full" and policy.bf16_is_faster,
    )
    config = RLConfig(
        plan,
        method=settings.method,
        prompts=settings.policy_prompts,
        samples=settings.policy_samples,
        max_tokens=settings.max_tokens,
        epochs=settings.policy_epochs,
        kl_coefficient=settings.kl_coefficient,
    )
    critic = (
        ScalarModel(reward.copy().scalar.backbone)
        if settings.method == "ppo" and isinstance(reward, PreferenceModel)
        else None
    )
    seed = derive(run.seed, name)
    return improve(
        policy,
        prompts,
        reward,
        reference=reference,
        config=config,
        seed=seed,
        critic=critic,
        state=state,
        world=run.world,
    )
