"""Constitutional AI: harmlessness from AI feedback (Bai et al. 2022, arXiv:2212.08073). The main job, top to
bottom.

Sample, critique, revise, and learn the revisions; compare two replies under a principle, and learn the
preference; improve the policy against it; measure what changed on prompts that nothing was trained on.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

from solon.alignment.critique import RevisedReply, revise
from solon.alignment.feedback import (
    PREFACES,
    ReplyPair,
    label_contrastive,
    label_multiple_choice,
    label_with_reasoning,
)
from solon.alignment.overoptimisation import with_judge_scores
from solon.alignment.preference import PreferenceModel
from solon.data.published import first_human_text
from solon.data.rows import comparison_from_row, comparison_to_row
from solon.errors import InputError
from solon.evaluation.replies import repeated_phrase_rate
from solon.models.base import LanguageModel, Stop, derive
from solon.models.scalar import ScalarModel
from solon.models.torch_model import TorchModel
from solon.records.codecs import from_drafts, from_sample, own_key, to_drafts
from solon.records.report import Report
from solon.records.run import Run, step_metrics
from solon.studies.constitutional_ai.evidence import Evidence, Judgement, against_chance, agreements, gather
from solon.studies.constitutional_ai.report import report
from solon.studies.constitutional_ai.settings import Inputs, Settings
from solon.study.stages import (
    alternated,
    fine_tune,
    first_layers,
    mean_reward,
    reinforce,
    replies,
    train_preference_model,
    with_adapters,
)
from solon.training.steps import Step
from solon.words.comparison import Comparison
from solon.words.constitution import Constitution
from solon.words.conversation import Conversation


def study(
    run: Run, settings: Settings, inputs: Inputs, *, start: TorchModel, feedback: LanguageModel
) -> tuple[Report, TorchModel, PreferenceModel]:
    """Both stages and the evidence. Returns the report, the final policy and the preference model it
    climbed.
    """
    base = with_adapters(start, settings, seed=run.seed)
    unlearned = PreferenceModel(
        "", ScalarModel(first_layers(base.copy().module, settings.preference_depth)), base.dialogue
    )
    reserved, halves = split_by_dialogue(inputs, run.seed)

    # 0. where people have compared replies: does the feedback model agree with them? Said before anything
    # rests on it
    decided = [c for c in reserved if c.p_first != 0.5]
    shown = [c for c in decided if readable(feedback, c, settings)]
    check = [ReplyPair(c.prompt, c.first, c.second) for c in shown[:200]]
    agreed = agreements(shown, labelled(run, "agreement", check, feedback, inputs.constitution, settings))
    for way, share in agreed.items():
        run.say(f"{way.replace('_', ' ')} labels agree with people, {against_chance(share)}: {share}")

    # 1. sample, critique, revise; learn the revisions of all rounds, and helpful replies so as not to forget
    # them
    drafts = [
        to_drafts(row)
        for row in run.rows(
            "drafts", inputs.prompts, own_key, lambda some: drafted(start, some, inputs, settings, run.seed)
        )
    ]
    helpful = replies(
        run,
        "helpful",
        start,
        inputs.helpful,
        count=1,
        max_tokens=settings.max_tokens,
        temperature=settings.draft_temperature,
    )
    examples = supervised_examples(start, drafts, inputs.helpful, helpful)
    supervised = fine_tune(
        run,
        "supervised",
        base,
        examples,
        settings,
        epochs=settings.supervised_epochs,
        learning_rate=settings.supervised_learning_rate,
    )

    # 2. two replies of that model to each prompt, compared under a drawn principle by the feedback model
    groups = replies(run, "pairs", supervised, inputs.prompts, count=2, max_tokens=settings.max_tokens)
    drawn = [
        ReplyPair(prompt, *(reply.text for reply in group))
        for prompt, group in zip(inputs.prompts, groups, strict=True)
    ]
    pairs = [
        pair for pair in drawn if pair.first.strip() and pair.second.strip() and pair.first != pair.second
    ]
    labels = labelled(run, "labels", pairs, feedback, inputs.constitution, settings)

    # 3. two preference models on disjoint halves: one to climb, one to tell whether the climb is real
    ai = [label.clamped(*settings.clamp) for label in labels[settings.label]]
    apart = inputs.comparisons and settings.held_out_labels == "people"
    taught_on = [[*ai, *halves[0]], halves[1]] if apart else [[*ai[::2], *halves[0]], [*ai[1::2], *halves[1]]]
    train_pm, test_pm = (
        train_preference_model(run, replace(unlearned, name=name), rows, settings)
        for name, rows in zip(("train_pm", "test_pm"), taught_on, strict=True)
    )

    # 4. improve the policy against the first, the second and the reference looking on
    judges = {"train_pm": train_pm, "test_pm": test_pm}
    means = run.once(
        "means", lambda: {name: mean_reward(pm, inputs.prompts, groups) for name, pm in judges.items()}
    )
    policy = reinforce(
        run,
        "policy",
        supervised,
        (*inputs.prompts, *inputs.helpful),
        train_pm,
        settings=settings,
        watch=lambda model, steps: watching(steps, judges, means, settings.policy_samples),
        record=lambda step: [
            {"prompt": rollout.prompt.key, **from_sample(rollout.sample), "reward": rollout.reward}
            for rollout in step.rollouts
        ],
    )

    # 5. the evidence: three models on prompts that nothing was trained on
    models = {"start": start, "supervised": supervised, "final": policy}
    said = {
        name: replies(
            run,
            f"held_out_{name}",
            model,
            inputs.held_out,
            count=settings.evaluation_samples,
            max_tokens=settings.max_tokens,
        )
        for name, model in models.items()
    }
    served = {
        name: replies(
            run,
            f"helpful_{name}",
            model,
            inputs.helpful_held_out,
            count=settings.evaluation_samples,
            max_tokens=settings.max_tokens,
        )
        for name, model in models.items()
    }
    evidence = Evidence(
        inputs.held_out,
        inputs.helpful_held_out,
        said,
        served,
        means,
        labels,
        agreed,
        decided,
        taught_on,
        dict(inputs.counts),
    )
    evidence.counts["people's comparisons too long for the feedback model to compare"] = len(decided) - len(
        shown
    )
    evidence.counts["pairs of replies that were equal or empty, not labelled"] = len(drawn) - len(pairs)
    judgement = Judgement(models, judges, feedback, settings.label, PREFACES, drafts)
    findings = gather(run, evidence, judgement, constitution=inputs.constitution)
    facts = asdict(settings) | {
        "prompts": len(inputs.prompts),
        "principles": len(inputs.constitution.principles),
    }
    return report(facts, findings, evidence, judgement, step_metrics(run, "policy")), policy, train_pm


def drafted(
    start: TorchModel, prompts: Sequence[Conversation], inputs: Inputs, settings: Settings, seed: int
) -> list[dict[str, Any]]:
    found = revise(
        start,
        prompts,
        inputs.constitution,
        rounds=settings.rounds,
        critique=settings.critique,
        examples=inputs.examples[: settings.examples],
        max_tokens=settings.max_tokens,
        temperature=settings.draft_temperature,
        seed=derive(seed, "drafts"),
    )
    return [from_drafts(drafts) for drafts in found]


def supervised_examples(
    model: TorchModel, drafts: Sequence[RevisedReply], helpful: Sequence[Conversation], replies: Sequence[Any]
) -> list[Any]:
    """(prompt tokens, reply tokens with their end): the revisions of every round, and the model's own helpful
    replies.

    What was cut off by the token limit is given no end, so that nothing teaches to stop in mid-sentence.
    Empty ones are none.
    """
    form = model.dialogue
    said = [(d.prompt, turn.revision, turn.finished) for d in drafts for turn in d.rounds]
    said += [
        (prompt, group[0].text, group[0].stop is not Stop.LENGTH)
        for prompt, group in zip(helpful, replies, strict=True)
    ]
    rows = [
        (prompt, form.reply(prompt, text) + (form.end if finished else ()))
        for prompt, text, finished in said
        if text.strip()
    ]
    return [(form.prompt(prompt), reply) for prompt, reply in rows]


def labelled(
    run: Run,
    name: str,
    pairs: Sequence[ReplyPair],
    feedback: LanguageModel,
    constitution: Constitution,
    settings: Settings,
) -> dict[str, list[Comparison]]:
    """Labels by multiple choice in both orders, which the position bias is read off, and by the chosen way if
    another.
    """
    seed = derive(run.seed, "labels")
    ways = {
        "multiple_choice": lambda some: label_multiple_choice(feedback, some, constitution, seed=seed),
        "reasoned": lambda some: label_with_reasoning(
            feedback, some, constitution, seed=seed, max_tokens=settings.max_tokens
        ),
        "contrastive": lambda some: label_contrastive(feedback, some, constitution, seed=seed),
    }
    found: dict[str, list[Comparison]] = {}
    for way in dict.fromkeys(("multiple_choice", settings.label)):

        def make(batch: Sequence[ReplyPair], way: str = way) -> list[dict[str, Any]]:
            return [comparison_to_row(comparison) for comparison in ways[way](batch)]

        rows = run.rows(f"{name}_{way}", pairs, pair_key, make)
        found[way] = [comparison_from_row(row) for row in rows]
    return found


def readable(feedback: LanguageModel, comparison: Comparison, settings: Settings) -> bool:
    """Whether both replies, a principle and a thought fit the context of a feedback model in this process."""
    if not isinstance(feedback, TorchModel):
        return True
    return feedback.fits(
        comparison.prompt.assistant(comparison.first).human(comparison.second),
        max_tokens=300 + settings.max_tokens,
    )


def pair_key(pair: ReplyPair) -> str:
    return Comparison(pair.prompt, pair.first, pair.second, 0.5, "").key


def split_by_dialogue(inputs: Inputs, seed: int) -> tuple[list[Comparison], list[list[Comparison]]]:
    """People's comparisons: those kept for measuring, and two halves that share no dialogue with them or each
    other.

    Kept are all whose dialogue is among the prompts, and as many more as make a fifth (400 at the most).
    """
    if not inputs.comparisons:
        return [], [[], []]
    among = {
        first_human_text(prompt)
        for prompt in (*inputs.prompts, *inputs.held_out, *inputs.helpful, *inputs.helpful_held_out)
    }
    dialogues: dict[str, list[Comparison]] = {}
    for comparison in inputs.comparisons:
        dialogues.setdefault(first_human_text(comparison.prompt), []).append(comparison)
    reserved = [c for c in inputs.comparisons if first_human_text(c.prompt) in among]
    wanted = min(400, len(inputs.comparisons) // 5)
    halves: list[list[Comparison]] = [[], []]
    rest = [own for name, own in dialogues.items() if name not in among]
    for own in random.Random(derive(seed, "halves")).sample(rest, len(rest)):
        part = reserved if len(reserved) < wanted else min(halves, key=len)
        part.extend(own)
    if min(map(len, halves)) < 8:
        found = f"{len(reserved)} to measure with and {len(halves[0])} and {len(halves[1])} to learn from"
        raise InputError(
            f"{len(inputs.comparisons)} comparisons give {found}; give more, from dialogues that are not "
            "among the prompts"
        )
    return reserved, [alternated(part) for part in halves]


def watching(
    steps: Iterator[Step], judges: dict[str, PreferenceModel], means: dict[str, float], samples: int
) -> Iterator[Step]:
    """The judges' scores and the repeated phrases beside every step; `samples` replies to each prompt."""
    for step in with_judge_scores(steps, judges, lambda name, prompt: means[name]):
        phrases = repeated_phrase_rate([rollout.sample.text for rollout in step.rollouts[::samples]])
        yield replace(step, metrics={**step.metrics, "repeated": phrases})
