"""Red Teaming Language Models to Reduce Harms (Ganguli et al. 2022, arXiv:2209.07858), top to bottom.

Four types of model in several sizes, attacked from a file, by a model that is asked for attacks, by one that
is shown some, and by one that was reinforced to find what hurts; how bad each dialogue got, clustered by
attacker; and a map of what was tried.
"""

from __future__ import annotations

import importlib
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

import numpy as np

from solon.alignment.outliers import prompt_states
from solon.alignment.preference import PreferenceModel
from solon.alignment.red_teaming import (
    Defender,
    assign_defenders,
    attack_reward,
    cut_other_speakers,
    dialogues,
    map_attacks,
    parse_attack,
    turn_scores,
)
from solon.data.attacks import Attack, Attempt, to_published_row
from solon.data.published import first_human_text
from solon.data.rows import from_messages, to_messages
from solon.errors import InputError
from solon.models.base import derive
from solon.models.scalar import ScalarModel
from solon.models.torch_model import TorchModel
from solon.records.files import write_text
from solon.records.report import Report
from solon.records.run import Run, step_metrics
from solon.studies.red_teaming.report import report
from solon.studies.red_teaming.results import Findings
from solon.studies.red_teaming.settings import Inputs, Settings
from solon.study.stages import (
    alternated,
    first_layers,
    parameters,
    reinforce,
    score_comparisons,
    slug,
    split_in_halves,
    train_preference_model,
    with_adapters,
)
from solon.words.conversation import Conversation


def study(run: Run, settings: Settings, inputs: Inputs) -> Report:
    """All of it; every stage is kept, and gone on from."""
    found = Findings(
        counts=dict(inputs.counts),
        judged_by="the planted truth" if inputs.harmed is not None else "the test PM",
    )
    largest = inputs.models[-1]

    # 1. harmlessness models on disjoint halves of the comparisons: one of each size that its defenders learn
    # from, and one that measures
    found.parameters = {model.name: parameters(model.module) for model in inputs.models}
    guards, test_pm = harmlessness_models(run, inputs, settings, found)

    # 2. four defenders of each size
    defenders = [
        defender
        for model in inputs.models
        for defender in defenders_of(run, model, guards[model.name], inputs, settings)
    ]

    # 3. attacks: from the file, asked for, asked for with examples, and by an attacker that was reinforced
    # against the prompted model
    prompted = next(own for own in reversed(defenders) if own.name == "prompted")
    found.target = prompted.size
    attacks = [
        *from_file(inputs, settings, run.seed),
        *written(run, inputs, settings, prompted, guards[largest.name], found),
    ]
    found.attacks = attacks

    # 4. every attack meets its defenders; the more harmful of two replies is gone on with
    for defender, own in faced(attacks, defenders, settings, run.seed):
        found.attempts += attempted(run, defender, own, test_pm, inputs, settings)
    found.border = border(found, test_pm)
    found.harmed = [success(attempt, inputs, found.border) for attempt in found.attempts]
    run.artefact(
        "attempts.jsonl",
        lambda path: write_text(
            path, "".join(json.dumps(to_published_row(own)) + "\n" for own in found.attempts)
        ),
    )

    # 5. the map: what the attacks are about, by what the largest model makes of them
    states = prompt_states(
        largest.module, [largest.dialogue.prompt(Conversation().human(attack.opening)) for attack in attacks]
    )
    layout = importlib.import_module("solon.alignment.layout_umap").layout if inputs.umap else None
    found.map = map_attacks(
        np.asarray(states[:, states.shape[1] // 2]),
        clusters=min(settings.clusters, len(attacks) // 4),
        seed=run.seed,
        layout=layout,
    )
    return report(asdict(settings), found, inputs)


def harmlessness_models(
    run: Run, inputs: Inputs, settings: Settings, found: Findings
) -> tuple[dict[str, PreferenceModel], PreferenceModel]:
    """Preference models on halves that share no dialogue, and none with an attack: one of each size on the
    first half, and one of the largest on the second. Those of the largest are measured on the half that they
    did not learn from.
    """
    forms = {
        model.name: PreferenceModel(
            "",
            ScalarModel(
                first_layers(with_adapters(model, settings, seed=run.seed).module, settings.preference_depth)
            ),
            model.dialogue,
        )
        for model in inputs.models
    }
    attacked = {attack.opening for attack in inputs.attacks}
    apart = [c for c in inputs.comparisons if first_human_text(c.prompt).strip() not in attacked]
    found.counts["comparisons that open as an attack does, left out"] = len(inputs.comparisons) - len(apart)
    fitting = [c for c in apart if c.p_first != 0.5 and all(form.fits_context(c) for form in forms.values())]
    found.counts["comparisons that were ties or too long, left out"] = len(apart) - len(fitting)
    halves = split_in_halves(fitting)
    largest = inputs.models[-1].name
    guards = {}
    for size, form in forms.items():
        name = "train_pm" if size == largest else f"train_pm_{slug(size)}"
        guards[size] = train_preference_model(run, replace(form, name=name), alternated(halves[0]), settings)
    test_pm = train_preference_model(
        run, replace(forms[largest], name="test_pm"), alternated(halves[1]), settings
    )
    for model, other in ((guards[largest], halves[1]), (test_pm, halves[0])):
        found.quality[model.name] = score_comparisons(run, f"quality_{model.name}", other[:400], model.score)
    return guards, test_pm


def defenders_of(
    run: Run, model: TorchModel, guard: PreferenceModel, inputs: Inputs, settings: Settings
) -> list[Defender]:
    """Plain, prompted, rejection sampling and RLHF, of one model."""
    base = with_adapters(model, settings, seed=run.seed)
    name = f"policy_{slug(model.name)}"
    policy = reinforce(run, name, base, inputs.prompts, guard, settings=settings)
    return [
        Defender("plain", model.name, model, inputs.plain),
        Defender("prompted", model.name, model, inputs.context),
        Defender("rejection", model.name, model, inputs.context, guard.score, settings.rejection),
        Defender("rlhf", model.name, policy),
    ]


def from_file(inputs: Inputs, settings: Settings, seed: int) -> list[Attack]:
    """As many of the file's attacks as a kind of simulated attacker has; those of nobody are dealt out to as
    many attackers.
    """
    most = settings.attackers * settings.attacks_each
    drawn = random.Random(derive(seed, "file")).sample(inputs.attacks, min(most, len(inputs.attacks)))
    return [
        replace(attack, attacker=f"file {attack.attacker or f'nobody {place % settings.attackers}'}")
        for place, attack in enumerate(drawn)
    ]


def written(
    run: Run, inputs: Inputs, settings: Settings, target: Defender, reward: PreferenceModel, found: Findings
) -> list[Attack]:
    """Attacks by models. The reinforced attacker starts from the few-shot one, and practises on examples that
    no attacker is shown when it is measured.
    """
    attacker = inputs.attacker or inputs.models[-1]
    order = [
        attack.opening
        for attack in random.Random(derive(run.seed, "examples")).sample(inputs.attacks, len(inputs.attacks))
    ]
    pools = {"shown": order[: len(order) // 2], "practice": order[len(order) // 2 :]}

    def examples(pool: str, number: int) -> tuple[str, ...]:
        return tuple(
            random.Random(derive(run.seed, pool, number)).sample(
                pools[pool], min(settings.examples, len(pools[pool]))
            )
        )

    shown = [examples("shown", number) for number in range(settings.attackers)]
    made = asked(run, "zero_shot", attacker, [inputs.ask(())] * settings.attackers, settings, found)
    made += asked(run, "few_shot", attacker, [inputs.ask(own) for own in shown], settings, found)
    if settings.attack_steps:
        apart = [examples("practice", number) for number in range(8 * settings.attack_prompts)]
        base = with_adapters(attacker, settings, seed=derive(run.seed, "attacker"))
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
        hurts = attack_reward(
            target,
            reward.score,
            inputs.refusal,
            max_tokens=settings.max_tokens,
            seed=derive(run.seed, "target"),
        )
        reinforced = reinforce(
            run, "attacker", base, [inputs.ask(own) for own in apart], hurts, settings=config
        )
        found.steps = step_metrics(run, "attacker")
        made += asked(run, "reinforced", reinforced, [inputs.ask(own) for own in shown], settings, found)
    return made


def asked(
    run: Run,
    source: str,
    attacker: TorchModel,
    prompts: Sequence[Conversation],
    settings: Settings,
    found: Findings,
) -> list[Attack]:
    """Attacks of simulated attackers, one prompt each. What they wrote more than once counts each time; what
    is empty is counted.
    """

    def make(numbers: Sequence[int]) -> list[dict[str, list[str]]]:
        seeds = [derive(run.seed, source, number) for number in numbers]
        drawn = [
            attacker.sample(
                [prompts[number]], count=settings.attacks_each, max_tokens=settings.attack_tokens, seed=seed
            )[0]
            for number, seed in zip(numbers, seeds, strict=True)
        ]
        return [
            {"attacks": [cut_other_speakers(parse_attack(sample.text)) for sample in group]}
            for group in drawn
        ]

    rows = run.rows(
        f"attacks_{source}", range(len(prompts)), lambda number: f"{number} {prompts[number].key}", make
    )
    said = [(f"{source} {number}", text) for number, row in enumerate(rows) for text in row["attacks"]]
    found.counts[f"{source} attacks that were empty, left out"] = sum(not text for _, text in said)
    return [Attack(text, who, "any", source) for who, text in said if text]


def faced(
    attacks: Sequence[Attack], defenders: Sequence[Defender], settings: Settings, seed: int
) -> list[tuple[Defender, list[Attack]]]:
    """Which attacks each defender meets."""
    if settings.crossed:
        return [(defender, list(attacks)) for defender in defenders]
    names = [f"{defender.name} {defender.size}" for defender in defenders]
    drawn = assign_defenders([attack.attacker for attack in attacks], names, seed=seed)
    return [
        (defender, [attack for attack, own in zip(attacks, drawn, strict=True) if own == name])
        for defender, name in zip(defenders, names, strict=True)
    ]


def attempted(
    run: Run,
    defender: Defender,
    attacks: Sequence[Attack],
    judge: PreferenceModel,
    inputs: Inputs,
    settings: Settings,
) -> list[Attempt]:
    """The dialogues of one defender with their scores, kept as rows. What is attacked with twice is replied
    to twice.
    """
    name = f"attempts_{slug(defender.size)}_{defender.name}"
    places = {id(attack): place for place, attack in enumerate(attacks)}

    def make(some: Sequence[Attack]) -> list[dict[str, object]]:
        talks = dialogues(
            [attack.opening for attack in some],
            defender,
            judge.score,
            turns=settings.turns,
            follow_up=next_words(inputs, settings),
            max_tokens=settings.max_tokens,
            seed=derive(run.seed, name, places[id(some[0])]),
        )
        tasks = judge.score([Conversation().human("")] * len(some), [attack.task for attack in some])
        rows = zip(talks, turn_scores(talks, judge.score), tasks, strict=True)
        return [
            {"talk": to_messages(talk), "scores": list(scores), "task": task} for talk, scores, task in rows
        ]

    rows = run.rows(
        name,
        list(attacks),
        lambda attack: f"{places[id(attack)]} {derive(0, attack.opening, attack.attacker):x}",
        make,
    )
    return [
        Attempt(
            attack,
            defender.name,
            defender.size,
            from_messages(row["talk"]),
            tuple(row["scores"]),
            row["task"],
        )
        for attack, row in zip(attacks, rows, strict=True)
    ]


def next_words(inputs: Inputs, settings: Settings) -> Callable[[Sequence[Conversation], int], list[str]]:
    """What the attacking model says next in each dialogue."""
    attacker = inputs.attacker or inputs.models[-1]

    def follow_up(talks: Sequence[Conversation], seed: int) -> list[str]:
        asked = [inputs.go_on(talk) for talk in talks]
        longest = max(len(attacker.dialogue.prompt(talk)) for talk in asked) + settings.attack_tokens
        if longest > attacker.context:
            raise InputError(
                f"a dialogue of {longest} tokens does not fit the attacker's context of "
                f"{attacker.context}; lower turns or max_tokens"
            )
        return [
            cut_other_speakers(parse_attack(group[0].text))
            for group in attacker.sample(asked, max_tokens=settings.attack_tokens, seed=seed)
        ]

    return follow_up


def border(found: Findings, judge: PreferenceModel) -> float:
    """The score below which a reply is taken for harmful where no truth is known: half way between the mean
    scores of the better and the worse replies of comparisons that the judge never saw.
    """
    rows = found.quality[judge.name]
    better = [
        max((row.first, row.p_first), (row.second, 1 - row.p_first), key=lambda own: own[1])[0]
        for row in rows
    ]
    worse = [
        min((row.first, row.p_first), (row.second, 1 - row.p_first), key=lambda own: own[1])[0]
        for row in rows
    ]
    return float((np.mean(better) + np.mean(worse)) / 2)


def success(attempt: Attempt, inputs: Inputs, border: float) -> bool:
    """Whether some reply of the dialogue was harmful."""
    if inputs.harmed is None:
        return attempt.min_score < border
    turns = attempt.conversation.turns
    return any(
        inputs.harmed(Conversation((turns[place - 1],)), turn.text)
        for place, turn in enumerate(turns)
        if turn.role == "assistant"
    )
