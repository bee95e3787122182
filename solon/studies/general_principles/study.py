"""Specific versus General Principles for Constitutional AI (Kundu et al. 2023, arXiv:2310.13798), top to
bottom.

Questions that bring traits out, pairs of replies, and labels under principles that name the trait or under
one principle of being good for humanity; preference models of each, set against each other on persona sets;
and policies that climb them, measured in Elo over one fixed refusal at several steps.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

from solon.alignment.feedback import ReplyPair
from solon.alignment.preference import PreferenceModel
from solon.alignment.red_teaming import parse_attack
from solon.data.rows import comparison_from_row, comparison_to_row
from solon.errors import InputError
from solon.models.base import Stop, derive
from solon.models.scalar import ScalarModel
from solon.models.torch_model import TorchModel
from solon.records.report import Report
from solon.records.run import Run
from solon.studies.general_principles.report import Findings, Snapshot, report
from solon.studies.general_principles.settings import Inputs, Settings
from solon.studies.general_principles.traits import Trait
from solon.study.stages import (
    alternated,
    first_layers,
    reinforce,
    replies,
    score_comparisons,
    slug,
    train_preference_model,
    with_adapters,
)
from solon.training.steps import Step
from solon.words.comparison import Comparison
from solon.words.constitution import Constitution
from solon.words.conversation import Conversation


def study(run: Run, settings: Settings, inputs: Inputs) -> Report:
    """All of it; every stage is kept, and gone on from."""
    found = Findings(counts=dict(inputs.counts))
    base = with_adapters(inputs.model, settings, seed=run.seed)

    # 1. questions of each trait: the seeds, and those that a model writes when it is shown some; a part is
    # held out
    asked = {trait.name: questions(run, trait, inputs, settings, found) for trait in inputs.traits.traits}
    found.held_out = {name: own[: settings.held_out_each] for name, own in asked.items()}
    among = {prompt.key for own in found.held_out.values() for prompt in own}
    learned = {
        name: [prompt for prompt in own[settings.held_out_each :] if prompt.key not in among]
        for name, own in asked.items()
    }
    left = sum(len(own[settings.held_out_each :]) for own in asked.values()) - sum(map(len, learned.values()))
    found.counts["questions that are held out for another trait, not learned from"] = left

    # 2. pairs of replies, and labels under each trait's own principles and under the general one
    pairs = {
        name: paired(run, number, base, own, settings, found)
        for number, (name, own) in enumerate(learned.items())
    }
    specific = {
        trait.name: labelled(run, f"specific_{n}", pairs[trait.name], trait.principles, inputs)
        for n, trait in enumerate(inputs.traits.traits)
    }
    general = {
        name: labelled(run, f"general_{n}", own, inputs.traits.general, inputs)
        for n, (name, own) in enumerate(pairs.items())
    }
    found.labels = {name: list(zip(specific[name], general[name], strict=True)) for name in pairs}

    # 3. preference models of half the questions; one of the other half, by the specific principles, measures
    models = judges(run, base, specific, general, inputs, settings, found)
    for persona in inputs.personas:
        rows = sorted(persona.comparisons, key=lambda row: derive(run.seed, "persona", row.key))[
            : settings.persona_rows or None
        ]
        for name, model in ((name, models[name]) for name in found.quality):
            found.personas[persona.name, name] = score_comparisons(
                run, f"persona_{slug(persona.name)}_{name}", alternated(rows), model.score
            )

    # 4. policies that climb each, at several steps, against one fixed refusal
    prompts = practice_prompts(learned, inputs, among)
    steps = [
        *sorted({step for step in settings.snapshots if step < settings.policy_steps}),
        settings.policy_steps,
    ]
    found.snapshots["start", 0] = measured(run, "start", base, models["judge"], inputs, settings, found)
    for name in (name for name in models if name != "judge"):
        for step, policy in climbed(run, name, base, prompts, models[name], steps, settings):
            found.snapshots[name, step] = measured(
                run, f"{name}_{step}", policy, models["judge"], inputs, settings, found
            )
    return report(asdict(settings), found, inputs)


def questions(
    run: Run, trait: Trait, inputs: Inputs, settings: Settings, found: Findings
) -> list[Conversation]:
    """So many different questions of a trait, the seeds first; which of them are held out is drawn, by the
    question alone.
    """
    wanted = max(settings.questions_each - len(trait.questions), 0)
    tries = [
        tuple(_shots(trait, settings, derive(run.seed, trait.name, number))) for number in range(2 * wanted)
    ]
    prompts = [inputs.ask(trait.name, shots) for shots in tries]

    def make(numbers: Sequence[int]) -> list[dict[str, Any]]:
        seeds = [[derive(run.seed, "question", trait.name, number)] for number in numbers]
        drawn = inputs.writer.sample_with_seeds(
            [prompts[number] for number in numbers], seeds, max_tokens=settings.question_tokens
        )
        return [{"question": parse_attack(group[0].text)} for group in drawn]

    rows = run.rows(
        f"questions_{slug(trait.name)}",
        range(len(prompts)),
        lambda number: f"{number} {prompts[number].key}",
        make,
    )
    said = [*trait.questions, *(row["question"] for row in rows if row["question"])]
    talks = [Conversation().human(text) for text in dict.fromkeys(said)]
    fitting = [talk for talk in talks if inputs.model.fits(talk, max_tokens=2 * settings.max_tokens)]
    found.counts[f"questions of {trait.name} that were empty, repeated or too long, left out"] = (
        len(trait.questions) + len(rows) - len(fitting)
    )
    found.counts[f"questions of {trait.name} over questions_each, not used"] = max(
        len(fitting) - settings.questions_each, 0
    )
    kept = fitting[: settings.questions_each]
    if len(kept) < 2 * settings.held_out_each:
        raise InputError(
            f"{len(kept)} different questions of {trait.name} do not leave half beside "
            f"{settings.held_out_each} held out; raise shots or give seeds"
        )
    return sorted(kept, key=lambda talk: derive(run.seed, "order", talk.key))


def _shots(trait: Trait, settings: Settings, seed: int) -> list[str]:
    return sorted(trait.questions, key=lambda text: derive(seed, text))[: settings.shots]


def paired(
    run: Run,
    number: int,
    model: TorchModel,
    asked: Sequence[Conversation],
    settings: Settings,
    found: Findings,
) -> list[ReplyPair]:
    """Pairs of replies to each question; equal and empty ones say nothing, and are counted."""
    groups = replies(
        run,
        f"pairs_{number}",
        model,
        asked,
        count=2 * settings.pairs_each,
        max_tokens=settings.max_tokens,
    )
    drawn = [
        ReplyPair(prompt, a.text, b.text)
        for prompt, own in zip(asked, groups, strict=True)
        for a, b in zip(own[::2], own[1::2], strict=True)
    ]
    kept = {
        (pair.prompt.key, pair.first, pair.second): pair
        for pair in drawn
        if pair.first.strip() and pair.second.strip() and pair.first != pair.second
    }
    name = "pairs of replies that were equal, empty or repeated, not labelled"
    found.counts[name] = found.counts.get(name, 0) + len(drawn) - len(kept)
    return list(kept.values())


def labelled(
    run: Run, name: str, pairs: Sequence[ReplyPair], principles: Constitution, inputs: Inputs
) -> list[Comparison]:
    """The judge's soft labels, a principle drawn for each pair; kept as rows."""

    def key_of(pair: ReplyPair) -> str:
        return Comparison(pair.prompt, pair.first, pair.second, 0.5, "").key

    rows = run.rows(
        f"labels_{name}",
        pairs,
        key_of,
        lambda some: [comparison_to_row(label) for label in inputs.compare(some, principles)],
    )
    return [comparison_from_row(row) for row in rows]


def judges(
    run: Run,
    base: TorchModel,
    specific: dict[str, list[Comparison]],
    general: dict[str, list[Comparison]],
    inputs: Inputs,
    settings: Settings,
    found: Findings,
) -> dict[str, PreferenceModel]:
    """A preference model of each kind of label on the first half of every trait's questions, and the one that
    measures on the second. With people's comparisons a third learns the general labels, rounded as theirs
    are, and as many of people's.
    """
    unlearned = PreferenceModel(
        "", ScalarModel(first_layers(base.copy().module, settings.preference_depth)), base.dialogue
    )

    def half(labels: dict[str, list[Comparison]], which: int) -> list[Comparison]:
        return [
            label
            for own in labels.values()
            for label in own
            if derive(run.seed, "half", label.prompt.key) % 2 == which
        ]

    rows = {"specific": half(specific, 0), "general": half(general, 0), "judge": half(specific, 1)}
    people = [c for c in inputs.comparisons if c.p_first != 0.5 and unlearned.fits_context(c)]
    found.counts["people's comparisons that were ties or too long, left out"] = len(inputs.comparisons) - len(
        people
    )
    if people:
        decided = [hard for label in rows["general"] if (hard := label.hardened()).p_first != 0.5]
        most = min(len(decided), len(people))
        both = [
            random.Random(derive(run.seed, "mixed", kind)).sample(own, most)
            for kind, own in (("general", decided), ("people", people))
        ]
        rows["general_helpful"] = sorted(
            (c for own in both for c in own), key=lambda c: derive(run.seed, "order", c.key)
        )
        found.counts["general labels and people's comparisons over equal numbers of both, not mixed"] = (
            len(decided) + len(people) - 2 * most
        )
    if min(map(len, rows.values())) < 8:
        raise InputError(
            f"{', '.join(f'{len(own)} labels for {name}' for name, own in rows.items())}; at least 8 are "
            "needed: raise questions_each"
        )
    models = {
        name: train_preference_model(run, replace(unlearned, name=f"pm_{name}"), alternated(own), settings)
        for name, own in rows.items()
    }
    held = [label for label in rows["judge"] if label.p_first != 0.5]
    if not held:
        raise InputError(
            f"{inputs.judge} prefers neither reply in all {len(rows['judge'])} pairs that measure: nothing "
            "can be learned from it"
        )
    for name in (name for name in models if name != "judge"):
        found.quality[name] = score_comparisons(run, f"quality_{name}", held, models[name].score)
    return models


def practice_prompts(
    learned: dict[str, list[Conversation]], inputs: Inputs, among: set[str]
) -> list[Conversation]:
    """Half helpful prompts, a quarter red-team ones, a quarter questions of traits, as in the paper: what
    there is too few of is asked more often. None is `among` the questions that are held out.
    """
    traits = [prompt for own in learned.values() for prompt in own]
    parts = [
        ([prompt for prompt in own if prompt.key not in among], share)
        for own, share in ((inputs.helpful, 2), (inputs.red_team, 1), (traits, 1))
    ]
    unit = max(len(own) // share for own, share in parts if own)
    return [own[place % len(own)] for own, share in parts if own for place in range(share * unit)]


def climbed(
    run: Run,
    name: str,
    base: TorchModel,
    prompts: Sequence[Conversation],
    reward: PreferenceModel,
    steps: Sequence[int],
    settings: Settings,
) -> Iterator[tuple[int, TorchModel]]:
    """A policy that climbs a preference model, as it was after each of the steps."""

    def file(step: int) -> str:
        return f"policy_{name}-{step}.safetensors"

    def saving(policy: TorchModel, made: Iterator[Step]) -> Iterator[Step]:
        for step in made:
            if step.number in steps:
                run.artefact(file(step.number), policy.save)
            yield step

    last = reinforce(run, f"policy_{name}", base, prompts, reward, settings=settings, watch=saving)
    for step in steps:
        policy = last.copy()
        policy.load(run.folder / file(step))
        yield step, policy


def measured(
    run: Run,
    name: str,
    policy: TorchModel,
    judge: PreferenceModel,
    inputs: Inputs,
    settings: Settings,
    found: Findings,
) -> Snapshot:
    """The score of every reply to held-out questions over that of the fixed refusal to the same question, in
    nats, and the replies to held-out helpful prompts.
    """
    gains: dict[str, list[list[float]]] = {}
    for number, (trait, asked) in enumerate(found.held_out.items()):
        groups = replies(
            run,
            f"trait_{number}_{name}",
            policy,
            asked,
            count=settings.evaluation_samples,
            max_tokens=settings.max_tokens,
        )
        if name == "start":
            found.said[trait] = (asked[0], [])
        found.said[trait][1].append((name, groups[0][0].text))

        def make(
            places: Sequence[int], asked: Sequence[Conversation] = asked, groups: Sequence[Any] = groups
        ) -> list[dict[str, Any]]:
            refused = judge.score([asked[place] for place in places], [inputs.traits.refusal] * len(places))
            flat = [(asked[place], sample) for place in places for sample in groups[place]]
            scores = iter(judge([prompt for prompt, _ in flat], [sample for _, sample in flat]))
            return [
                {"over": [next(scores) - floor for _ in groups[place]]}
                for place, floor in zip(places, refused, strict=True)
            ]

        keys = [prompt.key for prompt in asked]
        rows = run.rows(f"over_{number}_{name}", range(len(asked)), keys.__getitem__, make)
        gains[trait] = [row["over"] for row in rows]
        cut = sum(sample.stop is Stop.LENGTH for group in groups for sample in group)
        found.cut[name] = found.cut.get(name, 0.0) + cut / sum(map(len, groups)) / len(found.held_out)
    served = replies(
        run, f"helpful_{name}", policy, inputs.helpful_held_out, count=1, max_tokens=settings.max_tokens
    )
    return Snapshot(gains, [group[0].text for group in served])
