"""Specific versus General Principles for Constitutional AI (Kundu et al. 2023, arXiv:2310.13798), top to
bottom.

Questions that bring traits out, pairs of replies, and labels under principles that name the trait or under
one principle of being good for humanity; preference models of each, set against each other on persona sets;
and policies that climb them, measured in Elo over one fixed refusal at several steps.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from solon.alignment.feedback import ReplyPair
from solon.alignment.preference import PreferenceModel
from solon.alignment.quality import ScoredComparison
from solon.alignment.red_teaming import parse_attack
from solon.errors import InputError
from solon.models.base import Sample, Stop, derive
from solon.models.torch_model import TorchModel
from solon.records.codecs import COMPARISONS, PLAIN
from solon.records.report import Report
from solon.records.run import Run
from solon.studies.general_principles.inputs import Inputs, Options, read
from solon.studies.general_principles.policies import Snapshot
from solon.studies.general_principles.report import Results, report
from solon.studies.general_principles.settings import Settings, full, quick, toy
from solon.studies.general_principles.traits import Persona, Trait
from solon.study.conduct import Study
from solon.study.stages import (
    alternated,
    comparable,
    new_preference_model,
    reinforce,
    replies,
    score_comparisons,
    score_groups,
    slug,
    train_preference_model,
    with_adapters,
)
from solon.training.steps import Step
from solon.words.comparison import Comparison
from solon.words.constitution import Constitution
from solon.words.conversation import Conversation

Questions = Mapping[str, Sequence[Conversation]]  # by trait
Labels = Mapping[str, Sequence[Comparison]]  # by trait


def study(run: Run, settings: Settings, inputs: Inputs) -> Report:
    """All of it; every stage is kept, and gone on from."""
    counts = dict(inputs.counts)
    base = with_adapters(inputs.model, settings, seed=run.seed)
    traits = {trait.name: trait for trait in inputs.traits.traits}

    # 1. questions of each trait: the seeds, and those that a model writes when it is shown some; a part is
    # held out
    asked = {name: write_questions(run, trait, inputs, settings, counts) for name, trait in traits.items()}
    held_out = {name: questions[: settings.held_out_each] for name, questions in asked.items()}
    among = {prompt.key for questions in held_out.values() for prompt in questions}
    rest = {name: questions[settings.held_out_each :] for name, questions in asked.items()}
    learned = {name: [q for q in questions if q.key not in among] for name, questions in rest.items()}
    left_out = sum(map(len, rest.values())) - sum(map(len, learned.values()))
    counts["questions that are held out for another trait, not learned from"] = left_out

    # 2. pairs of replies, and labels under each trait's own principles and under the general one
    specific, general = {}, {}
    for number, (name, questions) in enumerate(learned.items()):
        pairs = pair_replies(run, f"pairs_{number}", base, questions, settings, counts=counts)
        specific[name] = label(run, f"specific_{number}", pairs, traits[name].principles, inputs)
        general[name] = label(run, f"general_{number}", pairs, inputs.traits.general, inputs)

    # 3. preference models of half the questions; one of the other half, by the specific principles, measures
    unlearned = new_preference_model(base, settings.preference_depth)
    rows = training_rows(run.seed, specific, general, fitting_people(unlearned, inputs, counts), counts)
    check_labels(rows, inputs.judge)
    models = {
        name: train_preference_model(run, replace(unlearned, name=f"pm_{name}"), alternated(part), settings)
        for name, part in rows.items()
    }
    judge = models.pop("judge")
    held = [row for row in rows["judge"] if row.p_first != 0.5]
    quality = {name: score_comparisons(run, f"quality_{name}", held, pm.score) for name, pm in models.items()}
    personas = score_personas(run, inputs.personas, models, settings.persona_rows)

    # 4. policies that climb each, at several steps, against one fixed refusal
    prompts = practice_prompts(learned, inputs, among)
    snapshots = {("start", 0): measure(run, "start", base, judge, held_out, settings=settings, inputs=inputs)}
    for name, model in models.items():
        for step, policy in climb(run, name, base, prompts, model, settings=settings):
            stage = f"{name}_{step}"
            snapshots[name, step] = measure(
                run, stage, policy, judge, held_out, settings=settings, inputs=inputs
            )
    results = Results(
        held_out=held_out,
        labels={name: list(zip(specific[name], general[name], strict=True)) for name in traits},
        quality=quality,
        personas=personas,
        snapshots=snapshots,
        counts=counts,
    )
    return report(settings, inputs, results)


# 1. questions


def write_questions(
    run: Run, trait: Trait, inputs: Inputs, settings: Settings, counts: dict[str, int]
) -> list[Conversation]:
    """So many different questions of a trait, the seeds first; which of them are held out is drawn, by the
    question alone. Raises InputError where too few are left to learn from.
    """
    wanted = max(settings.questions_each - len(trait.questions), 0)
    prompts = [
        inputs.ask(trait.name, shots_of(trait, settings.shots, derive(run.seed, trait.name, number)))
        for number in range(2 * wanted)
    ]

    def make(numbers: Sequence[int]) -> list[str]:
        seeds = [[derive(run.seed, "question", trait.name, number)] for number in numbers]
        groups = inputs.writer.sample_with_seeds(
            [prompts[number] for number in numbers], seeds, max_tokens=settings.question_tokens
        )
        return [parse_attack(group[0].text) for group in groups]

    written = run.map(
        f"questions_{slug(trait.name)}",
        range(len(prompts)),
        make,
        PLAIN,
        key=lambda number: f"{number} {prompts[number].key}",
    )
    texts = [*trait.questions, *filter(None, written)]
    questions = [Conversation().human(text) for text in dict.fromkeys(texts)]
    fitting = [q for q in questions if inputs.model.fits(q, max_tokens=2 * settings.max_tokens)]
    kept = fitting[: settings.questions_each]
    left_out = len(trait.questions) + len(written) - len(fitting)
    counts[f"questions of {trait.name} that were empty, repeated or too long, left out"] = left_out
    counts[f"questions of {trait.name} over questions_each, not used"] = len(fitting) - len(kept)
    if len(kept) < 2 * settings.held_out_each:
        raise InputError(
            f"{len(kept)} different questions of {trait.name} do not leave half beside "
            f"{settings.held_out_each} held out; raise shots or give seeds"
        )
    return sorted(kept, key=lambda question: derive(run.seed, "order", question.key))


def shots_of(trait: Trait, count: int, seed: int) -> tuple[str, ...]:
    """Seed questions that the writer is shown."""
    return tuple(sorted(trait.questions, key=lambda text: derive(seed, text))[:count])


# 2. pairs and labels


def pair_replies(
    run: Run,
    name: str,
    model: TorchModel,
    asked: Sequence[Conversation],
    settings: Settings,
    *,
    counts: dict[str, int],
) -> list[ReplyPair]:
    """Pairs of replies to each question; equal, empty and repeated ones say nothing, and are counted."""
    groups = replies(run, name, model, asked, count=2 * settings.pairs_each, max_tokens=settings.max_tokens)
    drawn = [
        ReplyPair(prompt, first.text, second.text)
        for prompt, group in zip(asked, groups, strict=True)
        for first, second in zip(group[::2], group[1::2], strict=True)
    ]
    kept = {pair.key: pair for pair in drawn if comparable(pair)}
    left_out = "pairs of replies that were equal, empty or repeated, not labelled"
    counts[left_out] = counts.get(left_out, 0) + len(drawn) - len(kept)
    return list(kept.values())


def label(
    run: Run, name: str, pairs: Sequence[ReplyPair], principles: Constitution, inputs: Inputs
) -> list[Comparison]:
    """The judge's soft labels, a principle drawn for each pair; kept as rows."""
    return run.map(f"labels_{name}", pairs, lambda batch: inputs.compare(batch, principles), COMPARISONS)


# 3. preference models


def fitting_people(reader: PreferenceModel, inputs: Inputs, counts: dict[str, int]) -> list[Comparison]:
    """People's comparisons that are decided and fit the context."""
    people = [c for c in inputs.comparisons if c.p_first != 0.5 and reader.fits_context(c)]
    left_out = len(inputs.comparisons) - len(people)
    counts["people's comparisons that were ties or too long, left out"] = left_out
    return people


def training_rows(
    seed: int,
    specific: Labels,
    general: Labels,
    people: Sequence[Comparison],
    counts: dict[str, int],
) -> dict[str, list[Comparison]]:
    """What each preference model learns from: either kind of label on the first half of every trait's
    questions, and what measures on the second. With people's comparisons a third learns the general labels,
    rounded as theirs are, and as many of people's.
    """

    def half(labels: Labels, which: int) -> list[Comparison]:
        every = [row for rows in labels.values() for row in rows]
        return [row for row in every if derive(seed, "half", row.prompt.key) % 2 == which]

    rows = {"specific": half(specific, 0), "general": half(general, 0), "judge": half(specific, 1)}
    if people:
        decided = [hard for row in rows["general"] if (hard := row.hardened()).p_first != 0.5]
        most = min(len(decided), len(people))
        both = [
            row
            for kind, part in (("general", decided), ("people", people))
            for row in random.Random(derive(seed, "mixed", kind)).sample(part, most)
        ]
        rows["general_helpful"] = sorted(both, key=lambda row: derive(seed, "order", row.key))
        left_out = "general labels and people's comparisons over equal numbers of both, not mixed"
        counts[left_out] = len(decided) + len(people) - 2 * most
    return rows


def check_labels(rows: Mapping[str, Sequence[Comparison]], judge: str) -> None:
    """Raises InputError where a preference model has under eight labels, or the one that measures has none
    that is decided.
    """
    if min(map(len, rows.values())) < 8:
        listed = ", ".join(f"{len(part)} labels for {name}" for name, part in rows.items())
        raise InputError(f"{listed}; at least 8 are needed: raise questions_each")
    if all(row.p_first == 0.5 for row in rows["judge"]):
        raise InputError(
            f"{judge} prefers neither reply in all {len(rows['judge'])} pairs that measure: nothing can be "
            "learned from it"
        )


def score_personas(
    run: Run, personas: Sequence[Persona], models: Mapping[str, PreferenceModel], most: int
) -> dict[tuple[str, str], list[ScoredComparison]]:
    """Every preference model on every persona set, by set and model; at most so many rows of each, 0: all."""
    results = {}
    for persona in personas:
        order = sorted(persona.comparisons, key=lambda row: derive(run.seed, "persona", row.key))
        rows = alternated(order[: most or None])
        for name, model in models.items():
            stage = f"persona_{slug(persona.name)}_{name}"
            results[persona.name, name] = score_comparisons(run, stage, rows, model.score)
    return results


# 4. policies


def practice_prompts(learned: Questions, inputs: Inputs, among: set[str]) -> list[Conversation]:
    """Half helpful prompts, a quarter red-team ones, a quarter questions of traits, as in the paper: what
    there is too few of is asked more often. None is `among` the questions that are held out.
    """
    traits = [prompt for questions in learned.values() for prompt in questions]
    parts = [
        ([prompt for prompt in prompts if prompt.key not in among], share)
        for prompts, share in ((inputs.helpful, 2), (inputs.red_team, 1), (traits, 1))
    ]
    unit = max(len(part) // share for part, share in parts if part)
    return [part[index % len(part)] for part, share in parts if part for index in range(share * unit)]


def climb(
    run: Run,
    name: str,
    base: TorchModel,
    prompts: Sequence[Conversation],
    reward: PreferenceModel,
    *,
    settings: Settings,
) -> Iterator[tuple[int, TorchModel]]:
    """A policy that climbs a preference model, as it was after each of the snapshots' steps and the last."""
    last = settings.policy_steps
    steps = [*sorted({step for step in settings.snapshots if step < last}), last]

    def file(step: int) -> str:
        return f"policy_{name}-{step}.safetensors"

    def save(policy: TorchModel, made: Iterator[Step]) -> Iterator[Step]:
        for step in made:
            if step.number in steps:
                run.artefact(file(step.number), policy.save)
            yield step

    policy = reinforce(run, f"policy_{name}", base, prompts, reward, settings=settings, watch=save)
    for step in steps:
        snapshot = policy.copy()
        snapshot.load(run.folder / file(step))
        yield step, snapshot


def measure(
    run: Run,
    name: str,
    policy: TorchModel,
    judge: PreferenceModel,
    held_out: Questions,
    *,
    settings: Settings,
    inputs: Inputs,
) -> Snapshot:
    """The score of every reply to held-out questions over that of the fixed refusal to the same question, in
    nats, and the replies to held-out helpful prompts.
    """

    def over_refusal(batch: Sequence[tuple[Conversation, list[Sample]]]) -> list[list[float]]:
        asked = [prompt for prompt, _ in batch]
        floors = judge.score(asked, [inputs.traits.refusal] * len(asked))
        scores = score_groups(judge, asked, [group for _, group in batch])
        return [[score - floor for score in group] for group, floor in zip(scores, floors, strict=True)]

    gains, first, cut = {}, {}, 0.0
    for number, (trait, asked) in enumerate(held_out.items()):
        count, most = settings.evaluation_samples, settings.max_tokens
        groups = replies(run, f"trait_{number}_{name}", policy, asked, count=count, max_tokens=most)
        first[trait] = groups[0][0].text
        pairs = list(zip(asked, groups, strict=True))
        stage = f"over_{number}_{name}"
        gains[trait] = run.map(stage, pairs, over_refusal, PLAIN, key=lambda pair: pair[0].key)
        samples = [sample for group in groups for sample in group]
        cut += sum(sample.stop is Stop.LENGTH for sample in samples) / len(samples) / len(held_out)
    served = replies(
        run, f"helpful_{name}", policy, inputs.helpful_held_out, count=1, max_tokens=settings.max_tokens
    )
    return Snapshot(gains, [group[0].text for group in served], first, cut)


STUDY = Study(
    name="general_principles",
    options=Options,
    quick=quick,
    full=full,
    toy=toy,
    inputs=read,
    study=study,
    subject=lambda inputs: inputs.model.name,
)
