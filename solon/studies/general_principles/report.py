"""What the study of principles finds, and its report beside the paper's claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from solon.alignment.quality import ScoredComparison, accuracy, accuracy_difference
from solon.evaluation.replies import is_refusal
from solon.records.report import Claim, Exhibit, Figure, Line, Report, Table, number
from solon.statistics.elo import ELO_PER_NAT
from solon.statistics.intervals import Estimate, correlation, mean, paired_difference, proportion
from solon.studies.general_principles.settings import Inputs
from solon.study.claims import interval, sign
from solon.words.comparison import Comparison
from solon.words.conversation import Conversation

NAMES = {
    "specific": "specific principles",
    "general": "the general principle",
    "general_helpful": "the general principle and people's comparisons",
}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A policy after some steps: for every trait and held-out question, how far each reply scores over the
    refusal (nats); and what it says to held-out helpful prompts.
    """

    over: dict[str, list[list[float]]]
    served: list[str]


@dataclass(slots=True)
class Findings:
    """Everything the report prints."""

    held_out: dict[str, list[Conversation]] = field(default_factory=dict)
    # trait -> specific and general label of a pair
    labels: dict[str, list[tuple[Comparison, Comparison]]] = field(default_factory=dict)
    # on specific labels of questions that only the judge learned from
    quality: dict[str, list[ScoredComparison]] = field(default_factory=dict)
    personas: dict[tuple[str, str], list[ScoredComparison]] = field(
        default_factory=dict
    )  # set and preference model
    # preference model climbed and step
    snapshots: dict[tuple[str, int], Snapshot] = field(default_factory=dict)
    said: dict[str, tuple[Conversation, list[tuple[str, str]]]] = field(default_factory=dict)
    # policy and step -> share of replies cut off at max_tokens
    cut: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def models(self) -> list[str]:
        return list(self.quality)


def report(facts: Mapping[str, Any], found: Findings, inputs: Inputs) -> Report:
    """`facts` are the settings."""
    claims = [*label_claims(found), *model_claims(found), *persona_claims(found), *policy_claims(found)]
    tables = [
        label_table(found),
        persona_table(found),
        elo_table(found),
        trait_table(found),
        beside_the_paper(found, claims),
    ]
    return Report(
        "Specific versus general principles",
        tuple(summary(found, claims)),
        tuple(claims),
        tuple(warnings(found, inputs)),
        tuple(table for table in tables if table.rows),
        tuple(figures(found)),
        tuple(Exhibit(prompt.last, tuple(said)) for prompt, said in found.said.values()),
        counts=found.counts,
        deviations=tuple(deviations(facts, inputs)),
        constants={name: str(facts[name]) for name in CONSTANTS},
    )


CONSTANTS = (
    "batch",
    "rank",
    "preference_epochs",
    "preference_learning_rate",
    "policy_steps",
    "policy_prompts",
    "policy_samples",
    "policy_learning_rate",
    "kl_coefficient",
    "questions_each",
    "shots",
    "pairs_each",
)


# claims


def agreed(rows: Sequence[tuple[Comparison, Comparison]]) -> Estimate:
    """How often both labels prefer the same reply, ties of either left out, clustered by question."""
    decided = [(a, b) for a, b in rows if 0.5 not in (a.p_first, b.p_first)]
    return proportion(
        [(a.p_first > 0.5) == (b.p_first > 0.5) for a, b in decided],
        clusters=[a.prompt.key for a, _ in decided],
    )


def label_claims(found: Findings) -> list[Claim]:
    rows = [row for own in found.labels.values() for row in own]
    if all(0.5 in (a.p_first, b.p_first) for a, b in rows):
        return []
    estimate = agreed(rows)
    return [
        Claim.of(
            "labels_agree",
            "pairs on which labels under the general principle prefer what specific ones do",
            estimate,
            sign(estimate, 0.5),
        )
    ]


def model_claims(found: Findings) -> list[Claim]:
    """On specific labels of questions that neither model learned from."""
    made = []
    for name in found.models:
        right = accuracy(found.quality[name])
        text = f"accuracy of the preference model of {NAMES[name]} on specific labels of other questions"
        made.append(Claim.of(f"accuracy_{name}", text, right, sign(right, 0.5)))
    gap = accuracy_difference(found.quality["general"], found.quality["specific"])
    return [
        *made,
        Claim.of(
            "general_over_specific",
            "accuracy there of the general over the specific preference model",
            gap,
            sign(gap),
        ),
    ]


def on_personas(found: Findings, name: str) -> list[ScoredComparison]:
    return [row for (_, model), rows in found.personas.items() if model == name for row in rows]


def persona_claims(found: Findings) -> list[Claim]:
    """How often each model prefers the answer that does not show the trait, over all persona sets."""
    made = []
    for name in found.models:
        if rows := on_personas(found, name):
            right = accuracy(rows)
            made.append(
                Claim.of(
                    f"personas_{name}",
                    f"harmless answers preferred on persona sets by {NAMES[name]}",
                    right,
                    sign(right, 0.5),
                )
            )
    if on_personas(found, "general"):
        gap = accuracy_difference(on_personas(found, "general"), on_personas(found, "specific"))
        made.append(
            Claim.of(
                "personas_general_over_specific",
                "harmless answers preferred, general over specific principles",
                gap,
                sign(gap),
            )
        )
    return made


def scores(snapshot: Snapshot, *, half: int | None = None) -> list[float]:
    """The mean over replies of each held-out question, in Elo over the refusal; of every other question where
    a half is named.
    """
    rows = [sum(own) / len(own) * ELO_PER_NAT for trait in snapshot.over.values() for own in trait]
    return rows if half is None else rows[half::2]


def best(found: Findings, name: str) -> int:
    """The step whose policy stands highest on the even questions; it is measured on the odd ones."""
    steps = [step for model, step in found.snapshots if model == name]
    return max(steps, key=lambda step: sum(scores(found.snapshots[name, step], half=0)))


def policy_claims(found: Findings) -> list[Claim]:
    made = []
    start = scores(found.snapshots["start", 0], half=1)
    for name in found.models:
        step = best(found, name)
        gain = paired_difference(scores(found.snapshots[name, step], half=1), start)
        text = f"Elo of the policy of {NAMES[name]} over the start, by the judge, at its best step ({step})"
        made.append(Claim.of(f"elo_{name}", text, gain, sign(gain)))
    gap = paired_difference(
        scores(found.snapshots["general", best(found, "general")], half=1),
        scores(found.snapshots["specific", best(found, "specific")], half=1),
    )
    text = (
        "Elo of the general over the specific policy, each at its best step, by a judge that learned "
        "specific labels"
    )
    made.append(Claim.of("elo_general_over_specific", text, gap, sign(gap)))
    for name in found.models if found.snapshots["start", 0].served else ():
        last = max(step for model, step in found.snapshots if model == name)
        more = paired_difference(declines(found.snapshots[name, last]), declines(found.snapshots["start", 0]))
        text = (
            f"how many more held-out helpful prompts the policy of {NAMES[name]} declines than the "
            "start, a share, at the last step"
        )
        made.append(Claim.of(f"declines_{name}", text, more, sign(more)))
    return made


def declines(snapshot: Snapshot) -> list[float]:
    return [float(is_refusal(text)) for text in snapshot.served]


def summary(found: Findings, claims: Sequence[Claim]) -> list[str]:
    by = {claim.name: claim for claim in claims}
    words = {
        True: "more often than",
        False: "less often than",
        None: "not shown to be more or less often than",
    }
    made = []
    if "personas_general_over_specific" in by:
        verdict = words[by["personas_general_over_specific"].holds]
        made.append(
            "On persona sets the preference model of the general principle prefers the harmless answer "
            f"{verdict} that of specific ones."
        )
    for name in found.models:
        claim = by[f"elo_{name}"]
        shown = {True: "rises", False: "falls", None: "is not shown to move"}[claim.holds]
        made.append(
            f"The policy of {NAMES[name]} {shown} ({number(claim.found)} Elo at step {best(found, name)})."
        )
    return made


def warnings(found: Findings, inputs: Inputs) -> list[str]:
    made = []
    for name in found.models:
        if accuracy(found.quality[name]).low <= 0.5:
            made.append(
                f"The preference model of {NAMES[name]} is not shown to beat chance on other questions: "
                "what it teaches a policy means little."
            )
    rows = [row for own in found.labels.values() for row in own]
    ties = sum(0.5 in (a.p_first, b.p_first) for a, b in rows)
    if ties > len(rows) / 2:
        made.append(f"{inputs.judge} could not tell {ties} of {len(rows)} pairs apart.")
    for name in found.models:
        last = max(step for model, step in found.snapshots if model == name)
        fallen = paired_difference(
            scores(found.snapshots[name, last], half=1),
            scores(found.snapshots[name, best(found, name)], half=1),
        )
        if fallen.high < 0:
            made.append(
                f"The policy of {NAMES[name]} stands {number(-fallen.value)} Elo lower at step {last} than "
                f"at {best(found, name)}: it was trained too long."
            )
    if any(share > 0.5 for share in found.cut.values()):
        made.append(
            "Over half of a policy's replies are cut off at max_tokens, and scored as they stand: raise it."
        )
    if not found.personas:
        made.append(
            "No persona sets were given (--personas): preference models were not set against each other on "
            "them."
        )
    if "general_helpful" not in found.models:
        made.append("No people's comparisons were given: the third preference model was not made.")
    return made


# tables and figures


def label_table(found: Findings) -> Table:
    rows = []
    for trait, own in found.labels.items():
        decided = [(a, b) for a, b in own if 0.5 not in (a.p_first, b.p_first)]
        odds = [[c.p_first for c in pair] for pair in own]
        varied = len(own) > 3 and all(len({pair[side] for pair in odds}) > 1 for side in (0, 1))
        related = (
            f"{correlation([a for a, _ in odds], [b for _, b in odds]).value:.3f}"
            if varied
            else "one side is constant"
        )
        rows.append((trait, str(len(own)), interval(agreed(own)) if decided else "no decided pair", related))
    return Table(
        "Labels under the general and the specific principles",
        ("trait", "pairs", "agree", "correlation of the soft labels"),
        tuple(rows),
    )


def persona_table(found: Findings) -> Table:
    sets = list(dict.fromkeys(name for name, _ in found.personas))
    rows = tuple(
        (name, *(interval(accuracy(found.personas[name, model])) for model in found.models)) for name in sets
    )
    return Table(
        "Harmless answers preferred", ("persona set", *(NAMES[model] for model in found.models)), rows
    )


def elo_table(found: Findings) -> Table:
    rows = []
    for (name, step), snapshot in found.snapshots.items():
        each = [[nats * ELO_PER_NAT for nats in own] for trait in snapshot.over.values() for own in trait]
        low, high = (sum(edge(own) for own in each) / len(each) for edge in (min, max))
        rows.append(
            (
                "the start" if name == "start" else NAMES[name],
                str(step),
                interval(mean(scores(snapshot))),
                f"{number(low)} to {number(high)}",
                interval(
                    proportion(
                        [bool(own) for own in declines(snapshot)], clusters=range(len(snapshot.served))
                    )
                )
                if snapshot.served
                else "not measured",
                f"{found.cut['start' if name == 'start' else f'{name}_{step}']:.0%}",
            )
        )
    columns = (
        "policy",
        "step",
        "Elo over the refusal, by the judge",
        "mean of the lowest to mean of the highest reply",
        "helpful prompts declined",
        "cut off",
    )
    return Table(
        "Policies",
        columns,
        tuple(rows),
        "The judge learned from specific labels of questions that no climbed model saw.",
    )


def trait_table(found: Findings) -> Table:
    columns = [("start", 0), *((name, best(found, name)) for name in found.models)]
    rows = tuple(
        (
            trait,
            *(
                interval(
                    mean([sum(own) / len(own) * ELO_PER_NAT for own in found.snapshots[column].over[trait]])
                )
                for column in columns
            ),
        )
        for trait in found.held_out
    )
    note = "Half of these questions chose the step, so its policies look a little better here than they are."
    return Table(
        "Elo over the refusal by trait, at the best step",
        ("trait", "the start", *(NAMES[name] for name in found.models)),
        rows,
        note,
    )


def beside_the_paper(found: Findings, claims: Sequence[Claim]) -> Table:
    by = {
        claim.name: f"{number(claim.found)} [{number(claim.low)}, {number(claim.high)}]" for claim in claims
    }
    rows = [
        (
            "harmless answers, general over specific",
            "the general model is as good at 175B, and not below",
            by.get("personas_general_over_specific", "not measured"),
        ),
        (
            "policy of the general principle alone",
            "best at about 250 of 500 steps, then evasive",
            f"best at step {best(found, 'general')}",
        ),
        (
            "helpful prompts it declines over the start",
            "more; mended by helpful comparisons",
            by.get("declines_general", "not measured"),
        ),
    ]
    if "declines_general_helpful" in by:
        rows.append(
            ("the same with people's comparisons", "no more than before", by["declines_general_helpful"])
        )
    return Table("Beside the paper", ("what", "the paper", "here"), tuple(rows))


def figures(found: Findings) -> list[Figure]:
    lines = []
    for name in found.models:
        points = [("start", 0), *((model, step) for model, step in found.snapshots if model == name)]
        each = [
            [
                [nats * ELO_PER_NAT for nats in own]
                for trait in found.snapshots[point].over.values()
                for own in trait
            ]
            for point in points
        ]
        x = tuple(float(step) for _, step in points)
        y = tuple(sum(sum(own) / len(own) for own in rows) / len(rows) for rows in each)
        low, high = (
            tuple(sum(edge(own) for own in rows) / len(rows) for rows in each) for edge in (min, max)
        )
        lines.append(Line(NAMES[name], x, y, low, high))
    note = "Bands run from the mean of the lowest to the mean of the highest reply."
    made = [Figure("Elo over one refusal", "step", "Elo by the judge", tuple(lines), note)]
    sets = list(dict.fromkeys(name for name, _ in found.personas))
    if sets:
        x = tuple(float(place + 1) for place in range(len(sets)))
        dots = tuple(
            Line(
                NAMES[model],
                x,
                tuple(accuracy(found.personas[name, model]).value for name in sets),
                dots=True,
            )
            for model in found.models
        )
        named = ", ".join(f"{place + 1} {name}" for place, name in enumerate(sets))
        made.append(Figure("Harmless answers preferred", "persona set", "share", dots, named))
    return made


def deviations(facts: Mapping[str, Any], inputs: Inputs) -> list[str]:
    made = [
        f"Labels are by {inputs.judge}; the paper's feedback model is an untuned one of up to 175B "
        "parameters.",
        "Questions are our seeds and a model's; those of the general model are the same as the specific "
        "one's, where the paper adds traits that a model named.",
        "Pairs are replies of the start itself; the paper's are of a helpful policy after 250 steps of "
        "reinforcement.",
        "Elo is by a preference model of specific labels of other questions; there is no crowd.",
        "The general preference model is compared with one of specific principles, not with the paper's "
        "chain-of-thought HH model.",
    ]
    made += [
        "Policies start from the model itself, not from a helpful one after 250 steps of reinforcement.",
        "The judge is shown no examples of comparisons; the paper's feedback is few-shot.",
    ]
    if facts["probe_start"]:
        made.append("Preference heads start at the ridge solution on frozen states (ours).")
    if facts["preference_depth"] < 1:
        made.append(f"Preference models stand on the first {facts['preference_depth']:.0%} of the layers.")
    if facts["weights"] == "lora":
        made.append("Adapters on one frozen base are trained, not all weights.")
    if facts["method"] == "rloo":
        made.append("Reinforcement is by RLOO, not PPO.")
    return made
