"""Attacks: from a file, by a model that is asked for them, by one that is shown some, and by one that was
reinforced to find what a defender does badly on.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from solon.alignment.preference import PreferenceModel
from solon.alignment.red_teaming import Defender, attack_reward, cut_other_speakers, parse_attack
from solon.data.attacks import Attack
from solon.errors import InputError
from solon.models.base import derive
from solon.models.torch_model import TorchModel
from solon.records.codecs import PLAIN
from solon.records.run import Run, step_metrics
from solon.studies.red_teaming.inputs import Inputs
from solon.studies.red_teaming.settings import Settings
from solon.study.stages import reinforce, with_adapters
from solon.words.conversation import Conversation


@dataclass(frozen=True, slots=True)
class WrittenAttacks:
    """Attacks by models; the steps of the reinforced attacker; what was empty, by source."""

    attacks: list[Attack]
    steps: Sequence[Mapping[str, float]]
    counts: dict[str, int]


def file_attacks(attacks: Sequence[Attack], settings: Settings, *, seed: int) -> list[Attack]:
    """As many of the file's attacks as a kind of simulated attacker has; those of nobody are dealt out to as
    many attackers.
    """
    most = settings.attackers * settings.attacks_each
    drawn = random.Random(derive(seed, "file")).sample(attacks, min(most, len(attacks)))
    return [
        replace(attack, attacker=f"file {attack.attacker or f'nobody {index % settings.attackers}'}")
        for index, attack in enumerate(drawn)
    ]


def write_attacks(
    run: Run, inputs: Inputs, settings: Settings, target: Defender, guard: PreferenceModel
) -> WrittenAttacks:
    """Attacks by models. The reinforced attacker starts from the few-shot one, and practises on examples that
    no attacker is shown when it is measured.
    """
    openings = [attack.opening for attack in inputs.attacks]
    order = random.Random(derive(run.seed, "examples")).sample(openings, len(openings))
    pools = {"shown": order[: len(order) // 2], "practice": order[len(order) // 2 :]}

    def few_shot(pool: str, count: int) -> list[Conversation]:
        size = min(settings.examples, len(pools[pool]))
        seeds = [derive(run.seed, pool, number) for number in range(count)]
        return [inputs.ask(tuple(random.Random(seed).sample(pools[pool], size))) for seed in seeds]

    shown, attacker = few_shot("shown", settings.attackers), inputs.attacker
    texts = {
        "zero_shot": sample_attacks(run, "zero_shot", attacker, [inputs.ask(())] * len(shown), settings),
        "few_shot": sample_attacks(run, "few_shot", attacker, shown, settings),
    }
    steps: Sequence[Mapping[str, float]] = ()
    if settings.attack_steps:
        practice = few_shot("practice", 8 * settings.attack_prompts)
        reinforced = reinforce_attacker(run, inputs, settings, practice, target=target, guard=guard)
        texts["reinforced"] = sample_attacks(run, "reinforced", reinforced, shown, settings)
        steps = step_metrics(run, "attacker")
    return WrittenAttacks(
        attacks=[
            Attack(text, f"{source} {number}", "any", source)
            for source, groups in texts.items()
            for number, group in enumerate(groups)
            for text in group
            if text
        ],
        steps=steps,
        counts={
            f"{source} attacks that were empty, left out": sum(not text for group in groups for text in group)
            for source, groups in texts.items()
        },
    )


def reinforce_attacker(
    run: Run,
    inputs: Inputs,
    settings: Settings,
    prompts: Sequence[Conversation],
    *,
    target: Defender,
    guard: PreferenceModel,
) -> TorchModel:
    """The attacker, reinforced by how much worse the target replies than a refusal."""
    start = with_adapters(inputs.attacker, settings, seed=derive(run.seed, "attacker"))
    reward = attack_reward(
        target,
        guard.score,
        inputs.refusal,
        max_tokens=settings.max_tokens,
        seed=derive(run.seed, "target"),
    )
    config = replace(
        settings,
        method="rloo",
        policy_steps=settings.attack_steps,
        policy_prompts=settings.attack_prompts,
        policy_samples=settings.attack_samples,
        policy_learning_rate=settings.attack_learning_rate,
        kl_coefficient=settings.attack_kl_coefficient,
        max_tokens=settings.attack_tokens,
    )
    return reinforce(run, "attacker", start, prompts, reward, settings=config)


def sample_attacks(
    run: Run, source: str, attacker: TorchModel, prompts: Sequence[Conversation], settings: Settings
) -> list[list[str]]:
    """Attacks of simulated attackers, one prompt each. What they wrote more than once counts each time; some
    may be empty.
    """

    def attacks(number: int) -> list[str]:
        seed, count = derive(run.seed, source, number), settings.attacks_each
        [samples] = attacker.sample(
            [prompts[number]], count=count, max_tokens=settings.attack_tokens, seed=seed
        )
        return [cut_other_speakers(parse_attack(sample.text)) for sample in samples]

    def make(numbers: Sequence[int]) -> list[list[str]]:
        return [attacks(number) for number in numbers]

    def key(number: int) -> str:
        return f"{number} {prompts[number].key}"

    return run.map(f"attacks_{source}", range(len(prompts)), make, PLAIN, key=key)


def next_words(inputs: Inputs, settings: Settings) -> Callable[[Sequence[Conversation], int], list[str]]:
    """What the attacking model says next in each dialogue."""
    attacker = inputs.attacker

    def follow_up(conversations: Sequence[Conversation], seed: int) -> list[str]:
        prompts = [inputs.go_on(conversation) for conversation in conversations]
        longest = max(len(attacker.dialogue.prompt(prompt)) for prompt in prompts) + settings.attack_tokens
        if longest > attacker.context:
            raise InputError(
                f"a dialogue of {longest} tokens does not fit the attacker's context of "
                f"{attacker.context}; lower turns or max_tokens"
            )
        samples = attacker.sample(prompts, max_tokens=settings.attack_tokens, seed=seed)
        return [cut_other_speakers(parse_attack(group[0].text)) for group in samples]

    return follow_up
