"""Training: exact resumption, exact accumulation, divergence kept out, and losses equal to the peer's."""

import itertools
import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from solon.alignment.overoptimisation import overoptimisation_warning
from solon.alignment.preference import PreferenceModel, fit_preference_model, init_head
from solon.errors import InputError
from solon.models.adapters import Lora
from solon.models.base import Sample
from solon.models.scalar import ScalarModel
from solon.models.torch_model import TorchModel
from solon.training.fit import fit, micro_batches, reply_cross_entropy, shuffled_batch, steps_for
from solon.training.improve import RLConfig, improve, policy_loss
from solon.training.losses import (
    LossTotal,
    clipped_loss,
    generalised_advantages,
    kl_k1,
    kl_k3,
    leave_one_out,
    preference_loss,
)
from solon.training.optimiser import Plan
from solon.training.steps import Diverged, State
from solon.words.comparison import Comparison
from solon.words.conversation import Conversation
from tests.models.test_models import WORDS, asked, model

Example = tuple[tuple[int, ...], tuple[int, ...]]


def rows(count: int = 64) -> list[Example]:
    rng = random.Random(0)
    return [
        (
            tuple(rng.choices(range(5, 45), k=rng.randint(1, 9))),
            (*rng.choices(range(5, 45), k=rng.randint(1, 6)), 3),
        )
        for _ in range(count)
    ]


def batch(examples: Sequence[Example], tokens: int = 10**6) -> Callable[[int], list[list[Example]]]:
    return lambda number: micro_batches(
        shuffled_batch(examples, size=8, seed=0, number=number),
        lambda e: len(e[0]) + len(e[1]),
        tokens=tokens,
    )


def parameters(speaker: TorchModel) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in speaker.module.parameters()]


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def saved(state: State) -> State:
    return {name: tensor.clone() for name, tensor in state.items()}


@pytest.mark.parametrize("lora", [False, True])
def test_going_on_equals_never_stopping(lora: bool) -> None:
    plan = Plan(12, 1e-2, warmup=3, schedule="cosine", weight_decay=0.01)
    whole, first, second = (model().adapted(Lora(4), seed=0) if lora else model() for _ in range(3))
    for _ in fit(whole.module, batch(rows()), reply_cross_entropy(whole.module), plan=plan):
        pass
    state: State = {}
    for step in fit(first.module, batch(rows()), reply_cross_entropy(first.module), plan=plan):
        if step.number == 5:
            state = saved(step.state())
            break
    for _ in fit(second.module, batch(rows()), reply_cross_entropy(second.module), plan=plan, state=state):
        pass
    assert same(parameters(whole), parameters(second))
    assert not same(parameters(whole), parameters(model() if not lora else model().adapted(Lora(4), seed=0)))


def test_accumulation_does_not_change_the_step() -> None:
    one, many = model(scale=2.0), model(scale=2.0)
    losses = []
    for speaker, tokens in ((one, 10**6), (many, 20)):
        losses.append(
            [
                step.metrics["loss"]
                for step in fit(
                    speaker.module,
                    batch(rows(), tokens),
                    reply_cross_entropy(speaker.module),
                    plan=Plan(4, 1e-3),
                )
            ]
        )
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    for a, b in zip(parameters(one), parameters(many), strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)


def test_only_reply_tokens_teach() -> None:
    speaker = model(scale=2.0)
    total = reply_cross_entropy(speaker.module)([((7, 8, 9), (10, 3))])
    tokens = torch.tensor([[7, 8, 9, 10, 3]])
    logprobs = speaker.module.logits(speaker.module.hidden(tokens))[0].log_softmax(-1)
    assert total.weight == 2
    assert total.loss.item() == pytest.approx(-(logprobs[2, 10] + logprobs[3, 3]).item(), abs=1e-4)


def test_it_learns_what_it_is_shown() -> None:
    speaker = model(scale=1.0)
    steps = list(
        fit(
            speaker.module,
            lambda n: [[((5, 6), (7, 8, 3))]],
            reply_cross_entropy(speaker.module),
            plan=Plan(80, 1e-2),
        )
    )
    assert steps[-1].metrics["loss"] < 0.05 < steps[0].metrics["loss"]


def test_a_loss_that_is_not_a_number_stops_before_it_moves_anything() -> None:
    speaker = model()
    inner = reply_cross_entropy(speaker.module)

    def broken(examples: Sequence[Example]) -> LossTotal:
        total = inner(examples)
        return LossTotal(total.loss * (math.nan if len(seen) == 3 else 1.0), total.weight)

    seen: list[list[Tensor]] = []
    with pytest.raises(Diverged, match="step 4"):
        for _ in fit(speaker.module, batch(rows()), broken, plan=Plan(9, 1e-3)):
            seen.append(parameters(speaker))
    assert same(parameters(speaker), seen[-1])


def test_half_precision_weights_are_not_trained() -> None:
    speaker = model()
    speaker.module.to(torch.bfloat16)
    with pytest.raises(InputError, match="float32"):
        next(fit(speaker.module, batch(rows()), reply_cross_entropy(speaker.module), plan=Plan(1, 1e-3)))


def test_every_pass_sees_every_row_once() -> None:
    seen = [row for number in range(1, 6) for row in shuffled_batch(range(10), size=4, seed=1, number=number)]
    assert sorted(seen[:10]) == sorted(seen[10:20]) == list(range(10))
    assert seen[:10] != seen[10:20]
    assert steps_for(10, size=4, epochs=1.0) == 3
    assert steps_for(10, size=4, epochs=0.0) == 0


@pytest.mark.parametrize("most", [5, 2, 1])
def test_running_out_of_memory_makes_batches_smaller_and_changes_nothing(most: int) -> None:
    calm, tight = model(), model()
    plan, rows_ = Plan(4, 1e-3), rows()
    wanted = [
        step.metrics["loss"]
        for step in fit(calm.module, batch(rows_), reply_cross_entropy(calm.module), plan=plan)
    ]
    real = reply_cross_entropy(tight.module)

    def loss(some: Sequence[Example]) -> LossTotal:
        if len(some) > most:
            raise torch.OutOfMemoryError("out of memory")
        return real(some)

    with pytest.warns(RuntimeWarning, match="out of memory: step 1"):
        found = [step.metrics["loss"] for step in fit(tight.module, batch(rows_), loss, plan=plan)]
    assert found == pytest.approx(wanted, abs=1e-5)
    with pytest.raises(torch.OutOfMemoryError), pytest.warns(RuntimeWarning):
        list(
            fit(
                model().module,
                batch(rows_),
                lambda some: (_ for _ in ()).throw(torch.OutOfMemoryError()),
                plan=plan,
            )
        )


def test_computing_activations_again_changes_no_gradient() -> None:
    kept, again = model(), model()
    again.module.recompute()
    for speaker in (kept, again):
        reply_cross_entropy(speaker.module)(rows(8)).loss.backward()
    for first, second in zip(kept.module.parameters(), again.module.parameters(), strict=True):
        assert (first.grad is None) == (second.grad is None)
        if first.grad is not None and second.grad is not None:
            torch.testing.assert_close(first.grad, second.grad)


# reinforcement


def wants(word: str) -> Callable[[Sequence[Conversation], Sequence[Sample]], list[float]]:
    return lambda prompts, samples: [
        sample.text.split().count(word) / max(len(sample.text.split()), 1) for sample in samples
    ]


def config(method: str, steps: int, **more: object) -> RLConfig:
    ppo = {"epochs": 2, "minibatches": 2, "value_learning_rate": 1e-2} if method == "ppo" else {}
    return RLConfig(Plan(steps, 1e-2), method=method, prompts=4, samples=4, max_tokens=6, **(ppo | more))  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["rloo", "ppo"])
def test_the_policy_climbs_its_reward_and_the_reference_stays(method: str) -> None:
    policy, reference = model(scale=1.0), model(scale=1.0)
    critic = ScalarModel(model(scale=1.0).module) if method == "ppo" else None
    before = reference.fingerprint
    steps = list(
        improve(
            policy,
            asked(16),
            wants("w7"),
            reference=reference,
            config=config(method, 25),
            seed=0,
            critic=critic,
        )
    )
    assert steps[-1].metrics["reward"] > 0.5 > steps[0].metrics["reward"]
    assert reference.fingerprint == before
    assert steps[0].metrics["kl_k1"] == pytest.approx(0.0, abs=1e-4)
    assert steps[-1].metrics["kl_k3"] > 1
    for step, following in itertools.pairwise(steps):
        moved = step.rollouts[0].sample.weights != following.rollouts[0].sample.weights
        assert moved or step.metrics["gradient_norm"] == 0  # every rollout names the weights that made it


@pytest.mark.parametrize("method", ["rloo", "ppo"])
def test_reinforcement_goes_on_bit_for_bit(method: str) -> None:
    def run(stop: int, state: State | None, policy: TorchModel, critic: ScalarModel | None) -> State:
        for step in improve(
            policy,
            asked(16),
            wants("w7"),
            reference=model(scale=1.0),
            config=config(method, 6),
            seed=0,
            critic=critic,
            state=state,
        ):
            if step.number == stop:
                return saved(step.state())
        raise AssertionError

    def fresh() -> tuple[TorchModel, ScalarModel | None]:
        return model(scale=1.0), ScalarModel(model(scale=1.0).module) if method == "ppo" else None

    whole = run(6, None, *fresh())
    again = run(6, run(3, None, *fresh()), *fresh())
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)


@pytest.mark.parametrize("method", ["rloo", "ppo"])
def test_reinforcement_goes_on_where_memory_runs_out(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def climbed() -> list[float]:
        policy, critic = model(scale=1.0), ScalarModel(model(scale=1.0).module) if method == "ppo" else None
        done = improve(
            policy,
            asked(16),
            wants("w7"),
            reference=model(scale=1.0),
            config=config(method, 3),
            seed=0,
            critic=critic,
        )
        return [
            step.metrics["loss"] + step.metrics["gradient_norm"] + step.metrics["reward"] for step in done
        ]

    wanted = climbed()

    def tight(policy: TorchModel, trials: Sequence[Any], config: RLConfig) -> tuple[Tensor, float]:
        if len(trials) > 1:
            raise torch.OutOfMemoryError("out of memory")
        return policy_loss(policy, trials, config)

    monkeypatch.setattr("solon.training.improve.policy_loss", tight)
    with pytest.warns(RuntimeWarning, match="out of memory: step 1 goes on"):
        assert climbed() == pytest.approx(wanted, abs=1e-4)


def test_a_strong_kl_term_holds_the_policy() -> None:
    far = []
    for coefficient in (0.0, 3.0):
        policy = model(scale=1.0)
        *_, last = improve(
            policy,
            asked(16),
            wants("w7"),
            reference=model(scale=1.0),
            config=config("rloo", 25, kl_coefficient=coefficient),
            seed=0,
        )
        far.append(last.metrics["kl_k3"])
    assert far[1] < 0.3 * far[0]


def test_what_could_only_go_wrong_later_is_refused() -> None:
    policy = model()
    with pytest.raises(InputError, match="share weights"):
        next(improve(policy, asked(4), wants("w7"), reference=policy, config=config("rloo", 1), seed=0))
    with pytest.raises(InputError, match="critic"):
        next(improve(policy, asked(4), wants("w7"), reference=model(), config=config("ppo", 1), seed=0))
    with pytest.raises(InputError, match="at least 2"):
        RLConfig(Plan(1, 1e-3), samples=1)
    with pytest.raises(Diverged, match="not finite"):
        next(
            improve(
                policy,
                asked(4),
                lambda p, s: [math.nan] * len(s),
                reference=model(),
                config=config("rloo", 1),
                seed=0,
            )
        )


def test_divergence_in_a_later_pass_takes_back_the_whole_round(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, critic = model(scale=1.0), ScalarModel(model(scale=1.0).module)
    steps = improve(
        policy,
        asked(16),
        wants("w7"),
        reference=model(scale=1.0),
        config=config("ppo", 9),
        seed=0,
        critic=critic,
    )
    for _ in range(3):
        step = next(steps)
    good = saved(step.state())
    calls: list[int] = []

    def breaks(*given: Any) -> tuple[Tensor, float]:
        calls.append(1)
        loss, clipped = policy_loss(*given)
        return (loss * math.nan if len(calls) == 3 else loss), clipped

    monkeypatch.setattr("solon.training.improve.policy_loss", breaks)
    with pytest.raises(Diverged, match="step 4"):
        next(steps)
    assert len(calls) == 3  # two passes had moved the weights
    assert all(torch.equal(good[name], tensor) for name, tensor in step.state().items())


def test_kl_estimators_are_those_of_their_names() -> None:
    a, b = torch.tensor([-1.0, -2.0]), torch.tensor([-1.5, -1.0])
    assert kl_k1(a, b) == pytest.approx(-0.5)
    assert kl_k3(a, b) == pytest.approx((math.exp(-0.5) - 1 + 0.5) + (math.exp(1.0) - 1 - 1.0))


# preference models


def comparisons(count: int, seed: int) -> list[Comparison]:
    """People who like w1 and dislike w2."""
    rng = random.Random(seed)
    found = []
    for prompt in asked(count, seed):
        filler = rng.choices(WORDS[5:], k=3)
        pair = (" ".join([*filler, "w1"]), " ".join([*filler, "w2"]))
        found.append(
            Comparison(prompt, *pair, 1.0, "planted")
            if rng.random() < 0.5
            else Comparison(prompt, *pair[::-1], 0.0, "planted")
        )
    return found


@pytest.mark.parametrize("probe", [False, True])
def test_a_preference_model_recovers_a_planted_preference(probe: bool) -> None:
    start = model(scale=2.0)
    pm = PreferenceModel("pm", ScalarModel(start.module), start.dialogue)
    if probe:
        init_head(pm, comparisons(100, 0), penalties=(1.0, 10.0))
    else:
        for _ in fit_preference_model(pm, comparisons(200, 0), plan=Plan(40, 3e-3), size=16, seed=0):
            pass
    unseen = comparisons(100, 1)
    right = sum((d > 0) == (c.p_first > 0.5) for d, c in zip(pm.differences(unseen), unseen, strict=True))
    assert right >= 90
    samples = [Sample(pm.dialogue.reply(c.prompt, c.first), c.first, (), None, "") for c in unseen]  # type: ignore[arg-type]
    assert pm([c.prompt for c in unseen], samples) == pytest.approx(
        pm.score([c.prompt for c in unseen], [c.first for c in unseen]), abs=1e-4
    )


def test_the_soft_label_loss_is_least_at_its_label() -> None:
    p = torch.tensor([0.7])
    best = math.log(0.7 / 0.3)
    losses = [preference_loss(torch.tensor([d]), p).item() for d in (best - 0.5, best, best + 0.5)]
    assert losses[1] < min(losses[0], losses[2])
    assert losses[1] == pytest.approx(-(0.7 * math.log(0.7) + 0.3 * math.log(0.3)), abs=1e-6)


def test_noise_alone_sets_off_no_warning() -> None:
    fired = 0
    for seed in range(200):
        rng = random.Random(seed)
        fired += (
            overoptimisation_warning(
                [rng.gauss(0, 1) for _ in range(30)], [rng.gauss(0, 1) for _ in range(30)]
            )
            is not None
        )
    assert fired <= 4
    rise = [0.1 * step for step in range(30)]
    assert (
        overoptimisation_warning(rise, [2 - own if step > 10 else own for step, own in enumerate(rise)])
        is not None
    )


def test_leave_one_out_by_its_definition() -> None:
    rewards = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    for p in range(5):
        for k in range(4):
            others = [rewards[p, j] for j in range(4) if j != k]
            assert leave_one_out(rewards)[p, k].item() == pytest.approx(
                float(rewards[p, k] - sum(others) / 3), abs=1e-5
            )


def test_the_clipped_loss_and_advantages_by_their_definitions() -> None:
    generator = torch.Generator().manual_seed(0)
    new, old, advantage = (torch.randn(200, generator=generator) for _ in range(3))
    for n, o, a, found in zip(new, old, advantage, clipped_loss(new, old, advantage, 0.2), strict=True):
        ratio = math.exp(n - o)
        assert found.item() == pytest.approx(
            max(-a.item() * ratio, -a.item() * min(max(ratio, 0.8), 1.2)), rel=1e-4, abs=1e-5
        )
    rewards, values = torch.randn(7, generator=generator), torch.randn(7, generator=generator)
    deltas = [rewards[t] + 0.9 * (values[t + 1] if t < 6 else 0.0) - values[t] for t in range(7)]
    wanted = [float(sum((0.9 * 0.8) ** (s - t) * deltas[s] for s in range(t, 7))) for t in range(7)]
    assert generalised_advantages(rewards, values, discount=0.9, gae_lambda=0.8).tolist() == pytest.approx(
        wanted, abs=1e-5
    )
