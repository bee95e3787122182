"""The report on specific and general principles: one section a topic, beside the paper's claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from solon.alignment.quality import ScoredComparison, accuracy, accuracy_difference
from solon.records.report import Claim, Exhibit, Figure, Line, Report, Section, Table, number
from solon.statistics.intervals import Estimate, correlation, proportion
from solon.studies.general_principles.inputs import Inputs
from solon.studies.general_principles.policies import (
    TITLES,
    Snapshots,
    best_step,
    evasion_section,
    policy_section,
)
from solon.studies.general_principles.settings import Settings
from solon.study.claims import interval
from solon.study.sections import chance_warnings
from solon.study.settings import constants, deviations
from solon.words.comparison import Comparison
from solon.words.conversation import Conversation

DEVIATIONS = (
    "Questions are our seeds and a model's; those of the general model are the same as the specific one's, "
    "where the paper adds traits that a model named.",
    "Pairs are replies of the start itself; the paper's are of a helpful policy after 250 steps of "
    "reinforcement.",
    "Elo is by a preference model of specific labels of other questions; there is no crowd.",
    "The general preference model is compared with one of specific principles, not with the paper's "
    "chain-of-thought HH model.",
    "Policies start from the model itself, not from a helpful one after 250 steps of reinforcement.",
    "The judge is shown no examples of comparisons; the paper's feedback is few-shot.",
)
LabelPairs = Mapping[str, Sequence[tuple[Comparison, Comparison]]]  # trait -> specific and general labels


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """Everything the report prints. `quality` is on specific labels of questions that only the judge learned
    from, `personas` by set and preference model.
    """

    held_out: Mapping[str, Sequence[Conversation]]
    labels: LabelPairs
    quality: Mapping[str, Sequence[ScoredComparison]]
    personas: Mapping[tuple[str, str], Sequence[ScoredComparison]]
    snapshots: Snapshots
    counts: Mapping[str, int]


def report(settings: Settings, inputs: Inputs, results: Results) -> Report:
    """One section a topic."""
    snapshots = results.snapshots
    models = list(results.quality)
    sections = [
        label_section(results.labels, inputs.judge),
        quality_section(results.quality),
        persona_section(results.personas, models),
        policy_section(snapshots, models),
        evasion_section(snapshots, models),
        Section(gallery=tuple(gallery(results.held_out, snapshots)), counts=results.counts),
    ]
    claims = {claim.name: claim for section in sections for claim in section.claims}
    sections.append(Section(tables=(beside_the_paper(claims, best_step(snapshots, "general")),)))
    judge = (
        f"Labels are by {inputs.judge}; the paper's feedback model is an untuned one of up to 175B "
        "parameters."
    )
    return Report.of(
        "Specific versus general principles",
        summary(claims, snapshots, models),
        sections,
        deviations=(judge, *DEVIATIONS, *deviations(settings)),
        constants=constants(settings),
    )


def summary(claims: Mapping[str, Claim], snapshots: Snapshots, models: Sequence[str]) -> list[str]:
    """The verdict on persona sets, and how each policy moved."""
    lines = []
    if "personas_general_over_specific" in claims:
        verdict = {
            True: "more often than",
            False: "less often than",
            None: "not shown to be more or less often than",
        }[claims["personas_general_over_specific"].holds]
        lines.append(
            "On persona sets the preference model of the general principle prefers the harmless answer "
            f"{verdict} that of specific ones."
        )
    for name in models:
        claim = claims[f"elo_{name}"]
        moves = {True: "rises", False: "falls", None: "is not shown to move"}[claim.holds]
        step = best_step(snapshots, name)
        lines.append(f"The policy of {TITLES[name]} {moves} ({number(claim.found)} Elo at step {step}).")
    return lines


# labels


def is_tie(pair: tuple[Comparison, Comparison]) -> bool:
    """Whether either label prefers neither reply."""
    return 0.5 in (pair[0].p_first, pair[1].p_first)


def agreement(pairs: Sequence[tuple[Comparison, Comparison]]) -> Estimate | None:
    """How often both labels prefer the same reply, ties of either left out, clustered by question; None where
    no pair is decided.
    """
    decided = [pair for pair in pairs if not is_tie(pair)]
    if not decided:
        return None
    same = [(first.p_first > 0.5) == (second.p_first > 0.5) for first, second in decided]
    return proportion(same, clusters=[first.prompt.key for first, _ in decided])


def label_section(labels: LabelPairs, judge: str) -> Section:
    """Whether the general principle prefers what specific ones do."""
    pairs = [pair for rows in labels.values() for pair in rows]
    ties, agreed = sum(map(is_tie, pairs)), agreement(pairs)
    text = "pairs on which labels under the general principle prefer what specific ones do"
    rows = []
    for trait, labelled in labels.items():
        first, second = ([pair[side].p_first for pair in labelled] for side in (0, 1))
        varied = len(labelled) > 3 and len(set(first)) > 1 and len(set(second)) > 1
        related = f"{correlation(first, second).value:.3f}" if varied else "one side is constant"
        same = agreement(labelled)
        rows.append(
            (trait, str(len(labelled)), "no decided pair" if same is None else interval(same), related)
        )
    columns = ("trait", "pairs", "agree", "correlation of the soft labels")
    table = Table("Labels under the general and the specific principles", columns, tuple(rows))
    unsure = f"{judge} could not tell {ties} of {len(pairs)} pairs apart."
    return Section(
        claims=() if agreed is None else (Claim.above("labels_agree", text, agreed, 0.5),),
        tables=(table,),
        warnings=(unsure,) if ties > len(pairs) / 2 else (),
    )


# preference models


def quality_section(quality: Mapping[str, Sequence[ScoredComparison]]) -> Section:
    """Every preference model on specific labels of questions that none of them learned from."""
    text = "accuracy of the preference model of {} on specific labels of other questions"
    claims = [
        Claim.above(f"accuracy_{name}", text.format(TITLES[name]), accuracy(rows), 0.5)
        for name, rows in quality.items()
    ]
    gap = accuracy_difference(quality["general"], quality["specific"])
    text = "accuracy there of the general over the specific preference model"
    claims.append(Claim.above("general_over_specific", text, gap))
    warnings = list(
        chance_warnings({f"preference model of {TITLES[name]}": rows for name, rows in quality.items()})
    )
    if "general_helpful" not in quality:
        warnings.append("No people's comparisons were given: the third preference model was not made.")
    return Section(claims=tuple(claims), warnings=tuple(warnings))


def persona_section(
    personas: Mapping[tuple[str, str], Sequence[ScoredComparison]], models: Sequence[str]
) -> Section:
    """How often each model prefers the answer that does not show the trait, set by set and over all sets."""
    sets = list(dict.fromkeys(name for name, _ in personas))
    if not sets:
        return Section(
            warnings=(
                "No persona sets were given (--personas): preference models were not set against each other "
                "on them.",
            )
        )
    every = {model: [row for name in sets for row in personas[name, model]] for model in models}
    claims = [
        Claim.above(
            f"personas_{model}",
            f"harmless answers preferred on persona sets by {TITLES[model]}",
            accuracy(rows),
            0.5,
        )
        for model, rows in every.items()
        if rows
    ]
    if every["general"]:
        gap = accuracy_difference(every["general"], every["specific"])
        text = "harmless answers preferred, general over specific principles"
        claims.append(Claim.above("personas_general_over_specific", text, gap))
    rows = tuple((name, *(interval(accuracy(personas[name, model])) for model in models)) for name in sets)
    title, x = "Harmless answers preferred", tuple(float(index) for index in range(len(sets)))
    dots = tuple(
        Line(TITLES[model], x, tuple(accuracy(personas[name, model]).value for name in sets), dots=True)
        for model in models
    )
    return Section(
        claims=tuple(claims),
        tables=(Table(title, ("persona set", *(TITLES[model] for model in models)), rows),),
        figures=(Figure(title, "persona set", "share", dots, ticks=tuple(sets)),),
    )


def gallery(held_out: Mapping[str, Sequence[Conversation]], snapshots: Snapshots) -> list[Exhibit]:
    """Every policy's first reply to each trait's first held-out question."""
    names = {point: "start" if point[0] == "start" else f"{point[0]}_{point[1]}" for point in snapshots}
    return [
        Exhibit(
            questions[0].last,
            tuple((names[point], snapshot.first[trait]) for point, snapshot in snapshots.items()),
        )
        for trait, questions in held_out.items()
    ]


def beside_the_paper(claims: Mapping[str, Claim], best: int) -> Table:
    """The paper's findings and ours."""

    def ours(name: str) -> str:
        claim = claims.get(name)
        if claim is None:
            return "not measured"
        return f"{number(claim.found)} [{number(claim.low)}, {number(claim.high)}]"

    rows = [
        (
            "harmless answers, general over specific",
            "the general model is as good at 175B, and not below",
            ours("personas_general_over_specific"),
        ),
        (
            "policy of the general principle alone",
            "best at about 250 of 500 steps, then evasive",
            f"best at step {best}",
        ),
        (
            "helpful prompts it declines over the start",
            "more; mended by helpful comparisons",
            ours("declines_general"),
        ),
    ]
    if "declines_general_helpful" in claims:
        same = ours("declines_general_helpful")
        rows.append(("the same with people's comparisons", "no more than before", same))
    return Table("Beside the paper", ("what", "the paper", "here"), tuple(rows))
