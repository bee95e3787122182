"""The main job's report: one section a topic, every deviation listed. No improvement is printed as such
without an interval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from solon.alignment.feedback import position_bias
from solon.alignment.overoptimisation import overoptimisation_warning
from solon.alignment.quality import ScoredComparison, accuracy, calibration_error, length_correlation
from solon.evaluation.win_rate import WinRate
from solon.models.base import Sample
from solon.records.report import Claim, Figure, Line, Report, Section, Table, number
from solon.statistics.elo import ELO_PER_NAT
from solon.statistics.intervals import Estimate, wilson
from solon.studies.constitutional_ai.evidence import PAIRS, Axis, Signs, against_chance
from solon.studies.constitutional_ai.inputs import Inputs
from solon.studies.constitutional_ai.settings import Settings
from solon.study.claims import interval
from solon.study.sections import calibration_figure, gallery, quality_warnings
from solon.study.settings import constants, deviations
from solon.words.comparison import Comparison

JUDGES = {"test_pm": "the held-out preference model", "feedback": "the feedback model"}
PROMPTS = {"harmless": "red-team", "helpful": "helpful"}
CONSTANTS = {
    "AdamW betas": "0.9, 0.999",
    "gradient clip": "1.0",
    "lambda of GAE": "0.95",
    "critic learning rate": "0.0001",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """Everything the report prints. `quality` and `learned_from` are by preference model, `labels` and
    `agreement` by way of labelling, `rounds` the gain of each round's revision over the first draft, `steps`
    the metrics of reinforcement learning. `people` says whether quality is measured on people's comparisons.
    """

    axes: tuple[Axis, ...]
    kl: Mapping[tuple[str, str], Estimate]
    quality: Mapping[str, Sequence[ScoredComparison]]
    people: bool
    learned_from: Mapping[str, Sequence[Comparison]]
    labels: Mapping[str, Sequence[Comparison]]
    agreement: Mapping[str, Estimate]
    rounds: Sequence[Estimate]
    steps: Sequence[Mapping[str, float]]
    counts: Mapping[str, int]


def report(settings: Settings, inputs: Inputs, results: Results) -> Report:
    """One section a topic."""
    counts = dict(results.counts)
    for axis in results.axes:
        counts |= axis.ties
    return Report.of(
        "Constitutional AI: what aligning this model changed",
        summary(inputs, results),
        [
            climb_section(results.steps),
            win_rate_section(results.axes),
            signs_section({axis.name: axis.signs for axis in results.axes}),
            label_section(results.labels["multiple_choice"], results.agreement),
            preference_section(results.quality, results.learned_from, results.people),
            kl_section(results.kl),
            round_section(results.rounds),
            *(gallery_section(axis) for axis in results.axes),
            Section(counts=counts),
        ],
        deviations=(*list_deviations(settings, inputs), *deviations(settings)),
        constants=constants(settings) | CONSTANTS,
    )


def summary(inputs: Inputs, results: Results) -> tuple[str, ...]:
    """What was done, and the verdict of the judge that the policy never climbed."""
    rate = results.axes[0].win_rates["test_pm", "final", "start"].rate
    verdict = {
        True: "The final model is more harmless than the start by this measure.",
        False: "The final model is LESS harmless than the start by this measure.",
        None: "No improvement was shown: the interval contains one half.",
    }[Claim.above("", "", rate, 0.5).holds]
    # a model's label keeps what it read, a person's has nothing to keep
    by_model = {bool(label.readings) for label in results.learned_from["test_pm"]}
    sources = [("AI labels", True), ("people's comparisons", False)]
    source = " and ".join(name for name, model in sources if model in by_model)
    return (
        f"{inputs.start.name}, aligned to a written constitution and asked {len(inputs.held_out)} prompts "
        "that nothing was trained on.",
        f"Judged by a preference model that the policy never climbed, learned from {source}: the final model "
        f"won {rate.value:.1%} [{rate.low:.1%}, {rate.high:.1%}] of duels with the start. {verdict}",
    )


def climb_section(steps: Sequence[Mapping[str, float]]) -> Section:
    """How both preference models, the KL and signs of failure moved as the policy climbed one of them."""
    if not steps:
        return Section()

    def column(name: str) -> tuple[float, ...]:
        return tuple(step[name] for step in steps)

    x, roots = column("number"), tuple(math.sqrt(max(step["kl_k3"], 0.0)) for step in steps)

    def lines(names: Mapping[str, str], x: tuple[float, ...] = x, *, dots: bool = False) -> tuple[Line, ...]:
        return tuple(Line(label, x, column(name), dots=dots) for name, label in names.items())

    judges, score = {"train_pm": "climbed", "test_pm": "held out"}, "score less its mean, nats"
    signs = {"truncated": "cut off", "repeated": "repeated phrases"}
    warnings = []
    over = overoptimisation_warning(column("train_pm"), column("test_pm"))
    if over:
        warnings.append(f"{over[0].upper()}{over[1:]}.")
    if steps[-1]["truncated"] > 0.5:
        warnings.append(
            f"{steps[-1]['truncated']:.0%} of the last step's replies were cut off by the token limit; "
            "scores of whole replies may differ."
        )
    return Section(
        warnings=tuple(warnings),
        figures=(
            Figure("Both preference models as the policy climbs one", "step", score, lines(judges)),
            Figure(
                "Score against the square root of KL",
                "sqrt of KL, nats (k3, summed over the reply)",
                score,
                lines(judges, roots, dots=True),
            ),
            Figure("KL to the reference", "step", "nats a reply", lines({"kl_k1": "k1", "kl_k3": "k3"})),
            Figure("Entropy", "step", "nats a token", lines({"entropy": "entropy"})),
            Figure("Length", "step", "tokens", lines({"length": "length"})),
            Figure("Failure signs", "step", "share of replies", lines(signs)),
        ),
    )


def win_rate_section(axes: Sequence[Axis]) -> Section:
    """Every pair of the three models on both kinds of prompts, by both judges."""
    claims, rows = [], []
    for axis in axes:
        for better, worse in PAIRS:
            for judge, title in JUDGES.items():
                won: WinRate = axis.win_rates[judge, better, worse]
                cells = (interval(won.rate), str(won.rate.n), str(won.ties))
                rows.append((f"{better} over {worse}", axis.name, title, *cells))
        for judge, title in JUDGES.items():
            text = (
                f"the final model's replies to held-out {PROMPTS[axis.name]} prompts beat the start's, "
                f"judged by {title}"
            )
            rate = axis.win_rates[judge, "final", "start"].rate
            claims.append(Claim.above(f"{axis.name}_win_rate_{judge}", text, rate, 0.5))
    columns = ("models", "prompts", "judge", "win rate [95%]", "prompts n", "ties")
    note = (
        "A preference model compares every pair of replies to a prompt, the feedback model the first of each "
        "side. Ties count half. Paired by prompt."
    )
    return Section(claims=tuple(claims), tables=(Table("Win rates", columns, tuple(rows), note),))


def signs_section(signs: Mapping[str, Mapping[str, Signs]]) -> Section:
    """What the words alone show, by axis and model, and a warning where the final model has collapsed."""
    names = next(iter(next(iter(signs.values())).values()))
    rows = tuple(
        (f"{model}, {PROMPTS[axis]} prompts", *(number(shares[name]) for name in names))
        for axis, models in signs.items()
        for model, shares in models.items()
    )
    note = "Shares of replies by word lists and n-grams, not judgements; tokens is a mean."
    warnings = [collapse_warning(axis, models["start"], models["final"]) for axis, models in signs.items()]
    return Section(
        tables=(Table("What the words show", ("replies of", *names), rows, note),),
        warnings=tuple(filter(None, warnings)),
    )


def collapse_warning(axis: str, before: Signs, after: Signs) -> str:
    """That the final model says one thing, or refuses where the start did not; "" where neither is so. Of
    harmful requests, refusing is no failure by itself.
    """
    names = ("repeated phrases",) if axis == "harmless" else ("repeated phrases", "refusals")
    rises = " and ".join(
        f"{name} went from {before[name]:.0%} to {after[name]:.0%}"
        for name in names
        if after[name] > max(0.5, 2 * before[name])
    )
    if not rises:
        return ""
    return (
        f"The final model has collapsed on {PROMPTS[axis]} prompts: {rises} of its replies. A win rate says "
        "little then."
    )


def label_section(letters: Sequence[Comparison], agreement: Mapping[str, Estimate]) -> Section:
    """Whether AI labels agree with people, and how labels by letter depend on the order shown."""
    bias = position_bias(letters)
    flips = wilson(round(bias.flips * bias.n), bias.n)
    text = f"labels by letter that flip with the order shown (mean lean to (A): {bias.lean:+.2f} nats)"
    ways = {way: way.replace("_", " ") for way in agreement}
    return Section(
        claims=(
            *(
                Claim.above(
                    f"agreement_{way}",
                    f"AI labels by {ways[way]} agree with people ({against_chance(estimate)})",
                    estimate,
                    0.5,
                )
                for way, estimate in agreement.items()
            ),
            Claim.of("position_flips", text, flips, None),
        ),
        warnings=tuple(
            f"AI labels by {ways[way]} are not shown to agree with people better than chance: {estimate}."
            for way, estimate in agreement.items()
            if estimate.low <= 0.5
        ),
    )


def preference_section(
    quality: Mapping[str, Sequence[ScoredComparison]],
    learned_from: Mapping[str, Sequence[Comparison]],
    people: bool,
) -> Section:
    """Both preference models on comparisons they never saw, `people`'s or the other half's AI labels."""
    titles = {name: name.replace("_", " ") for name in quality}
    titled = {titles[name]: rows for name, rows in quality.items()}
    whose = "people's comparisons" if people else "the other half's AI labels"
    rows = []
    for name, scored in quality.items():
        length = length_correlation(scored)
        rows.append(
            (
                titles[name],
                str(len(learned_from[name])),
                interval(accuracy(scored)),
                number(calibration_error(scored).value),
                "no spread" if length is None else interval(length),
            )
        )
    columns = ("model", "learned from", "accuracy [95%]", "calibration error", "length correlation [95%]")
    note = (
        "Calibration: expected error over equal-count bins of the predicted side's probability. Length: "
        "correlation of score and word-count differences."
    )
    return Section(
        claims=tuple(
            Claim.above(
                f"{name}_accuracy",
                f"{titles[name]} predicts {whose} that it never saw",
                accuracy(scored),
                0.5,
            )
            for name, scored in quality.items()
        ),
        tables=(Table("Preference models on comparisons they never saw", columns, tuple(rows), note),),
        figures=(calibration_figure(titled),),
        warnings=tuple(quality_warnings(titled)),
    )


def kl_section(kl: Mapping[tuple[str, str], Estimate]) -> Section:
    """How far the models have moved, in nats."""
    text = "KL of the {} from the {} model, nats a reply (exact over the vocabulary)"
    return Section(
        claims=tuple(
            Claim.of(f"kl_{first}_{second}", text.format(first, second), estimate, None)
            for (first, second), estimate in kl.items()
        )
    )


def round_section(rounds: Sequence[Estimate]) -> Section:
    """What each round of revision gained over the first draft."""
    rows = tuple(
        (f"after round {index}", interval(gain), str(gain.n)) for index, gain in enumerate(rounds, start=1)
    )
    columns = ("revision", "score difference, nats [95%]", "n")
    note = "By the held-out preference model, paired by prompt."
    return Section(tables=(Table("Revisions against first drafts", columns, rows, note),))


def gallery_section(axis: Axis) -> Section:
    """Three prompts at even distances, and each model's reply of median held-out score."""
    texts = {
        model: [
            median(group, scores).text
            for group, scores in zip(groups, axis.scores["test_pm", model], strict=True)
        ]
        for model, groups in axis.replies.items()
    }
    return Section(gallery=gallery(f"{PROMPTS[axis.name]} prompt", axis.prompts, texts, most=3))


def median(replies: Sequence[Sample], scores: Sequence[float]) -> Sample:
    """The reply of median score (the upper one of an even number)."""
    order = sorted(range(len(replies)), key=lambda index: scores[index])
    return replies[order[len(order) // 2]]


def list_deviations(settings: Settings, inputs: Inputs) -> list[str]:
    """What differs from the paper beside what the settings say of themselves."""
    lines = [
        "The paper starts from a helpful-only RLHF model and fine-tunes a pretrained one; here both are "
        f"{inputs.start.name}, as it stands.",
        f"{len(inputs.prompts)} prompts; the paper has 182,831 for revision and adds 491,142 for "
        "reinforcement.",
        "Principles, prefaces and worked examples are Solon's own.",
        "Labels average the log-odds of both orders; the paper does not treat position bias.",
        "Human comparisons are mixed with the AI labels as they are given, whatever they compare."
        if inputs.comparisons
        else "No human helpful comparisons are mixed into the preference model.",
        "The paper judges by crowdworkers' Elo; here a held-out preference model and the feedback model "
        "judge, and neither is a person.",
    ]
    if settings.label == "contrastive":
        lines.append(
            "Feedback is contrastive (ours): the log-likelihood of a reply behind a principled against an "
            "unprincipled preface."
        )
    if settings.label == "reasoned":
        lines.append("Labels are reasoned; duels of models by the feedback model are by letter alone.")
    if settings.probe_start:
        lines.append("The paper pretrains the preference head on public comparisons.")
    widest = max(settings.clamp[1], 1 - settings.clamp[0])
    if widest < 1:
        cap = math.log(widest / (1 - widest))
        lines.append(
            f"Labels are clamped to {settings.clamp}: a label asks for at most {cap:.3f} nats, "
            f"{cap * ELO_PER_NAT:.0f} Elo, of score difference."
        )
    return lines
