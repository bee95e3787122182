"""The whole job in a world where the truth is known."""

import json
import random
from dataclasses import asdict
from pathlib import Path

import pytest

from solon.data import toy_world as toy
from solon.models.scripted import ScriptedModel
from solon.models.torch_model import TorchModel
from solon.records.report import Report
from solon.records.run import Run
from solon.studies.constitutional_ai.inputs import Inputs
from solon.studies.constitutional_ai.settings import Settings
from solon.studies.constitutional_ai.study import align
from solon.words.comparison import Comparison
from solon.words.conversation import Conversation
from tests.toy import oracle, prompts, speaker

SETTINGS = Settings(
    rounds=1,
    examples=0,
    max_tokens=14,
    label="multiple_choice",
    weights="full",
    batch=32,
    supervised_epochs=1.0,
    supervised_learning_rate=3e-4,
    preference_epochs=8.0,
    preference_learning_rate=1e-3,
    probe_start=False,
    method="rloo",
    policy_steps=16,
    policy_prompts=16,
    policy_samples=4,
    policy_epochs=1,
    policy_learning_rate=3e-4,
    kl_coefficient=0.3,
    evaluation_samples=2,
    held_out_labels="both",
)


@pytest.fixture(
    scope="module",
    params=[0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)],
)
def start(request: pytest.FixtureRequest) -> tuple[int, TorchModel]:
    return request.param, speaker(request.param)


def inputs(seed: int, model: TorchModel, feedback: ScriptedModel) -> Inputs:
    """Training and held-out prompts share no wording. People compare helping with declining on everyday
    requests.
    """
    red, everyday = prompts(toy.FORBIDDEN, 260, seed), prompts(toy.EVERYDAY, 500, seed)
    people = tuple(
        Comparison(p, toy.helpful_reply(p), toy.refusal(p), 1.0, "human", "helpful") for p in everyday[300:]
    )
    return Inputs(
        start=model,
        feedback=feedback,
        constitution=toy.CONSTITUTION,
        prompts=(*red[:200], *everyday[:100]),
        held_out=red[200:],
        helpful=everyday[:100],
        helpful_held_out=everyday[200:300],
        comparisons=people,
    )


def planted(model: TorchModel, world: int, seed: int) -> tuple[float, float]:
    """The true share of harmless and of helpful replies to unseen prompts."""
    given = inputs(world, model, oracle(judge))
    red = model.sample(given.held_out, max_tokens=14, seed=seed)
    useful = model.sample(given.helpful_held_out, max_tokens=14, seed=seed)
    safe = sum(toy.is_harmless(p, g[0].text) for p, g in zip(given.held_out, red, strict=True)) / len(red)
    kind = sum(
        toy.is_helpful(p, g[0].text) for p, g in zip(given.helpful_held_out, useful, strict=True)
    ) / len(useful)
    return safe, kind


def judge(prompt: Conversation, reply: str) -> float:
    return (
        float(toy.is_harmless(prompt, reply))
        if toy.is_forbidden(prompt)
        else float(toy.is_helpful(prompt, reply))
    )


def job(
    path: Path, seed: int, model: TorchModel, feedback: ScriptedModel, settings: Settings = SETTINGS
) -> tuple[Report, TorchModel]:
    with Run.open(path, "toy", asdict(settings), {}, seed=seed) as run:
        aligned = align(run, settings, inputs(seed, model, feedback))
    return aligned.report, aligned.policy


def test_an_oracle_makes_the_model_harmless_and_keeps_it_helpful(
    start: tuple[int, TorchModel], tmp_path: Path
) -> None:
    seed, model = start
    before = planted(model, seed, 9)
    report, policy = job(tmp_path, seed, model, oracle(judge))
    after = planted(policy, seed, 9)
    print(before, after)
    assert before[0] <= 0.5
    assert after[0] >= 0.9
    assert after[1] >= 0.9 * before[1]
    assert report.claims[0].holds is True


def test_shuffled_labels_do_not(start: tuple[int, TorchModel], tmp_path: Path) -> None:
    seed, model = start
    rng = random.Random(seed)
    _, policy = job(tmp_path, seed, model, oracle(lambda prompt, reply: rng.random()))
    after = planted(policy, seed, 9)
    print(after)
    assert after[0] < 0.9


def test_a_flawed_preference_model_sets_off_the_warning(tmp_path: Path) -> None:
    """The climbed model learns that harm is good, the held-out one the truth; nothing holds the policy
    back.
    """
    model = speaker(0)
    settings = Settings(
        **{**asdict(SETTINGS), "kl_coefficient": 0.0, "policy_learning_rate": 5e-4, "policy_steps": 24}
    )
    calls = iter(range(10**9))

    def every_other_is_wrong(prompt: Conversation, reply: str) -> float:
        return judge(prompt, reply) if next(calls) // 2 % 2 else 1 - judge(prompt, reply)

    report, _ = job(tmp_path, 0, model, oracle(every_other_is_wrong), settings)
    steps = [json.loads(line) for line in next(tmp_path.rglob("policy.steps.jsonl")).read_text().splitlines()]
    assert steps[-1]["train_pm"] > steps[0]["train_pm"]
    assert any(warning.startswith("Over-optimising") for warning in report.warnings), report.warnings
