"""Constitutional AI: harmlessness from AI feedback (Bai et al. 2022, arXiv:2212.08073). The main job, top to
bottom.

Sample, critique, revise, and learn the revisions; compare two replies under a principle, and learn the
preference; improve the policy against it; measure what changed on prompts that nothing was trained on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from solon.alignment.critique import RevisedReply, revise
from solon.alignment.feedback import ReplyPair
from solon.alignment.overoptimisation import with_judge_scores
from solon.alignment.preference import PreferenceModel
from solon.evaluation.replies import repeated_phrase_rate
from solon.models.adapters import adapter_layers
from solon.models.backbones.small import SmallTransformer
from solon.models.backbones.small_files import save_small
from solon.models.base import Sample, Stop, derive
from solon.models.huggingface import export, export_adapter, export_classifier
from solon.models.torch_model import TorchModel
from solon.records.codecs import DRAFTS, from_sample
from solon.records.files import Row, write_text
from solon.records.report import Report
from solon.records.run import Run, step_metrics
from solon.studies.constitutional_ai.estimate import dry_run, estimate
from solon.studies.constitutional_ai.evidence import (
    HELPFUL,
    Axis,
    divergences,
    gain_by_round,
    measure_axis,
    score_unseen,
)
from solon.studies.constitutional_ai.feedback import (
    check_feedback,
    judge_of,
    label_pairs,
    split_people,
)
from solon.studies.constitutional_ai.inputs import Inputs, Options, read
from solon.studies.constitutional_ai.report import Results, report
from solon.studies.constitutional_ai.settings import Settings, full, quick
from solon.study.conduct import Study
from solon.study.stages import (
    comparable,
    fine_tune,
    mean_reward,
    new_preference_model,
    reinforce,
    replies,
    train_preference_model,
    with_adapters,
)
from solon.training.fit import Example
from solon.training.steps import Step
from solon.words.comparison import Comparison
from solon.words.conversation import Conversation


@dataclass(frozen=True, slots=True)
class Aligned:
    """What the job comes to: the report, the final policy, and the preference model that it climbed."""

    report: Report
    policy: TorchModel
    preference_model: PreferenceModel


def study(run: Run, settings: Settings, inputs: Inputs) -> Report:
    """The whole job. Beside the report it leaves the model, the adapter and the preference model in forms
    that other libraries load, and the constitution as it was read.
    """
    if not run.world.rank:
        run.say(estimate(settings, inputs).line)
    aligned = align(run, settings, inputs)
    export_models(run, aligned, inputs.text)
    return aligned.report


def align(run: Run, settings: Settings, inputs: Inputs) -> Aligned:
    """Both stages and the evidence, each stage kept in the run."""
    base = with_adapters(inputs.start, settings, seed=run.seed)
    reply = partial(replies, run, max_tokens=settings.max_tokens)

    # 0. where people have compared replies: does the feedback model agree with them? Said before anything
    # rests on it
    people, halves = split_people(inputs, run.seed)
    agreement, counts = check_feedback(run, people, settings, inputs)

    # 1. sample, critique, revise; learn the revisions of all rounds, and helpful replies so as not to forget
    # them
    drafts = run.map("drafts", inputs.prompts, partial(draft, settings, inputs, run.seed), DRAFTS)
    helpful = reply("helpful", inputs.start, inputs.helpful, count=1, temperature=settings.draft_temperature)
    examples = supervised_examples(base, drafts, inputs.helpful, helpful)
    epochs, rate = settings.supervised_epochs, settings.supervised_learning_rate
    supervised = fine_tune(run, "supervised", base, examples, settings, epochs=epochs, learning_rate=rate)

    # 2. two replies of that model to each prompt, compared under a drawn principle by the feedback model
    groups = reply("pairs", supervised, inputs.prompts, count=2)
    pairs = [ReplyPair(p, one.text, two.text) for p, (one, two) in zip(inputs.prompts, groups, strict=True)]
    labels = label_pairs(run, "labels", list(filter(comparable, pairs)), settings, inputs)

    # 3. two preference models on disjoint halves: one to climb, one to tell whether the climb is real
    clamped = [label.clamped(*settings.clamp) for label in labels[settings.label]]
    learned_from = split_labels(clamped, halves, settings.held_out_labels)
    unlearned = new_preference_model(base, settings.preference_depth)
    judges = {
        name: train_preference_model(run, replace(unlearned, name=name), rows, settings)
        for name, rows in learned_from.items()
    }

    # 4. improve the policy against the first, the second and the reference looking on
    means = run.once(
        "means", lambda: {name: mean_reward(judge, inputs.prompts, groups) for name, judge in judges.items()}
    )
    policy = reinforce(
        run,
        "policy",
        supervised,
        (*inputs.prompts, *inputs.helpful),
        judges["train_pm"],
        settings=settings,
        watch=partial(watch, judges, means, settings.policy_samples),
        record=rollout_rows,
    )

    # 5. the evidence: three models on prompts that nothing was trained on
    models = {"start": inputs.start, "supervised": supervised, "final": policy}
    axes = measure_models(run, models, judges, settings, inputs)
    unlabelled = len(pairs) - len(labels[settings.label])
    counts["pairs of replies that were equal or empty, not labelled"] = unlabelled
    results = Results(
        axes=axes,
        kl=divergences(models, axes[0]),
        quality=score_unseen(run, judges, people, learned_from),
        people=bool(people),
        learned_from=learned_from,
        labels=labels,
        agreement=agreement,
        rounds=gain_by_round(run, judges["test_pm"], drafts),
        steps=step_metrics(run, "policy"),
        counts=dict(inputs.counts) | counts,
    )
    return Aligned(report(settings, inputs, results), policy, judges["train_pm"])


# 1. critique and revision


def draft(
    settings: Settings, inputs: Inputs, seed: int, prompts: Sequence[Conversation]
) -> list[RevisedReply]:
    """A reply to each prompt, and what rounds of critique and revision make of it."""
    return revise(
        inputs.start,
        prompts,
        inputs.constitution,
        rounds=settings.rounds,
        critique=settings.critique,
        examples=inputs.examples[: settings.examples],
        max_tokens=settings.max_tokens,
        temperature=settings.draft_temperature,
        seed=derive(seed, "drafts"),
    )


def supervised_examples(
    model: TorchModel,
    drafts: Sequence[RevisedReply],
    helpful: Sequence[Conversation],
    groups: Sequence[Sequence[Sample]],
) -> list[Example]:
    """(prompt tokens, reply tokens with their end): the revisions of every round, and the model's own helpful
    replies.

    What was cut off by the token limit is given no end, so that nothing teaches to stop in mid-sentence.
    Empty ones are none.
    """
    form = model.dialogue
    texts = [(d.prompt, turn.revision, turn.finished) for d in drafts for turn in d.rounds]
    texts += [
        (prompt, group[0].text, group[0].stop is not Stop.LENGTH)
        for prompt, group in zip(helpful, groups, strict=True)
    ]
    return [
        (form.prompt(prompt), form.reply(prompt, text) + (form.end if finished else ()))
        for prompt, text, finished in texts
        if text.strip()
    ]


# 3. preference models


def split_labels(
    labels: Sequence[Comparison], halves: Sequence[Sequence[Comparison]], held_out: str
) -> dict[str, list[Comparison]]:
    """What each preference model learns from. Where there are people's comparisons, and `held_out` is
    "people", the held-out one learns from them alone; otherwise each has half of the AI labels too.
    """
    if halves[1] and held_out == "people":
        return {"train_pm": [*labels, *halves[0]], "test_pm": [*halves[1]]}
    return {"train_pm": [*labels[::2], *halves[0]], "test_pm": [*labels[1::2], *halves[1]]}


# 4. reinforcement


def watch(
    judges: Mapping[str, PreferenceModel],
    means: Mapping[str, float],
    samples: int,
    policy: TorchModel,
    steps: Iterator[Step],
) -> Iterator[Step]:
    """The judges' scores and the repeated phrases beside every step; `samples` replies to each prompt."""
    for step in with_judge_scores(steps, judges, lambda name, prompt: means[name]):
        phrases = repeated_phrase_rate([rollout.sample.text for rollout in step.rollouts[::samples]])
        yield replace(step, metrics={**step.metrics, "repeated": phrases})


def rollout_rows(step: Step) -> list[Row]:
    """Every reply of a step and its reward, kept for a reader."""
    return [
        {"prompt": rollout.prompt.key, **from_sample(rollout.sample), "reward": rollout.reward}
        for rollout in step.rollouts
    ]


# 5. the evidence


def measure_models(
    run: Run,
    models: Mapping[str, TorchModel],
    judges: Mapping[str, PreferenceModel],
    settings: Settings,
    inputs: Inputs,
) -> tuple[Axis, ...]:
    """Every model on held-out red-team prompts and, where there are any, on held-out helpful ones."""
    kinds = {
        "harmless": (inputs.held_out, inputs.constitution),
        "helpful": (inputs.helpful_held_out, HELPFUL),
    }
    return tuple(
        measure_axis(
            run,
            name,
            prompts,
            models,
            judges,
            label=judge_of(inputs.feedback, settings.label, rules, derive(run.seed, "duel", name)),
            count=settings.evaluation_samples,
            max_tokens=settings.max_tokens,
        )
        for name, (prompts, rules) in kinds.items()
        if prompts
    )


# what is left for others


def export_models(run: Run, aligned: Aligned, constitution: str) -> None:
    """The model, the adapter and the preference model in forms that other libraries load (of a small
    transformer the model alone, in Solon's own), and the constitution's text.
    """
    policy, judge = aligned.policy, aligned.preference_model
    if constitution:
        run.artefact("constitution.txt", lambda path: write_text(path, constitution))
    if isinstance(policy.module, SmallTransformer):
        run.artefact("model", lambda path: save_small(policy, path))
        return
    run.artefact("model", lambda path: export(policy, path))
    run.artefact("preference_model", lambda path: export_classifier(judge.scalar, judge.dialogue, path))
    if adapter_layers(policy.module):
        run.artefact("adapter", lambda path: export_adapter(policy, path))


STUDY = Study(
    name="constitutional_ai",
    options=Options,
    quick=quick,
    full=full,
    inputs=read,
    study=study,
    subject=lambda inputs: inputs.start.name,
    preview=dry_run,
)
