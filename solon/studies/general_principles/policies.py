"""The sections about policies: Elo over one fixed refusal, step by step, and whether they became evasive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from solon.evaluation.replies import is_refusal
from solon.records.report import Claim, Figure, Line, Section, Table, number
from solon.statistics.elo import ELO_PER_NAT
from solon.statistics.intervals import mean, paired_difference, proportion
from solon.study.claims import interval

TITLES = {
    "specific": "specific principles",
    "general": "the general principle",
    "general_helpful": "the general principle and people's comparisons",
}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A policy after some steps: for every trait and held-out question, how far each reply scores over the
    refusal (nats); what it says to held-out helpful prompts, and first to each trait's first question; and
    the share of replies that were cut off.
    """

    over: Mapping[str, Sequence[Sequence[float]]]
    served: Sequence[str]
    first: Mapping[str, str] = field(default_factory=dict)
    cut: float = 0.0

    @property
    def elo(self) -> list[list[float]]:
        """Of every reply to every held-out question, over the refusal."""
        return [[nats * ELO_PER_NAT for nats in group] for rows in self.over.values() for group in rows]


Snapshots = Mapping[tuple[str, int], Snapshot]  # by preference model climbed ("start": none) and step


def scores(snapshot: Snapshot, *, half: int | None = None) -> list[float]:
    """The mean over replies of each held-out question, in Elo over the refusal; of every other question where
    a half is named.
    """
    groups = [group for rows in snapshot.over.values() for group in rows]
    rows = [sum(group) / len(group) * ELO_PER_NAT for group in groups]
    return rows if half is None else rows[half::2]


def best_step(snapshots: Snapshots, name: str) -> int:
    """The step whose policy stands highest on the even questions; it is measured on the odd ones."""
    steps = [step for model, step in snapshots if model == name]
    return max(steps, key=lambda step: sum(scores(snapshots[name, step], half=0)))


def last_step(snapshots: Snapshots, name: str) -> int:
    """The last step at which a policy was measured."""
    return max(step for model, step in snapshots if model == name)


def policy_section(snapshots: Snapshots, models: Sequence[str]) -> Section:
    """Elo over the refusal of each policy at its best step, by a judge that learned specific labels."""
    best = {name: snapshots[name, best_step(snapshots, name)] for name in models}
    start, claims, warnings = scores(snapshots["start", 0], half=1), [], []
    for name in models:
        step, last = best_step(snapshots, name), last_step(snapshots, name)
        gain = paired_difference(scores(best[name], half=1), start)
        text = f"Elo of the policy of {TITLES[name]} over the start, by the judge, at its best step ({step})"
        claims.append(Claim.above(f"elo_{name}", text, gain))
        fallen = paired_difference(scores(snapshots[name, last], half=1), scores(best[name], half=1))
        if fallen.high < 0:
            warnings.append(
                f"The policy of {TITLES[name]} stands {number(-fallen.value)} Elo lower at step {last} than "
                f"at {step}: it was trained too long."
            )
    gap = paired_difference(scores(best["general"], half=1), scores(best["specific"], half=1))
    text = (
        "Elo of the general over the specific policy, each at its best step, by a judge that learned "
        "specific labels"
    )
    claims.append(Claim.above("elo_general_over_specific", text, gap))
    if any(snapshot.cut > 0.5 for snapshot in snapshots.values()):
        warnings.append(
            "Over half of a policy's replies are cut off at max_tokens, and scored as they stand: raise it."
        )
    return Section(
        claims=tuple(claims),
        tables=(policy_table(snapshots), trait_table(snapshots["start", 0], best)),
        figures=(elo_figure(snapshots, models),),
        warnings=tuple(warnings),
    )


def evasion_section(snapshots: Snapshots, models: Sequence[str]) -> Section:
    """Whether policies decline helpful prompts that the start served."""
    start = snapshots["start", 0]
    claims = []
    for name in models if start.served else ():
        last = snapshots[name, last_step(snapshots, name)]
        more = paired_difference(declines(last), declines(start))
        text = (
            f"how many more held-out helpful prompts the policy of {TITLES[name]} declines than the start, a "
            "share, at the last step"
        )
        claims.append(Claim.above(f"declines_{name}", text, more))
    return Section(claims=tuple(claims))


def declines(snapshot: Snapshot) -> list[float]:
    """1 for each helpful prompt that is refused."""
    return [float(is_refusal(text)) for text in snapshot.served]


def band(snapshot: Snapshot) -> tuple[float, float]:
    """The means over questions of the lowest and of the highest reply, Elo."""
    rows = snapshot.elo
    return sum(map(min, rows)) / len(rows), sum(map(max, rows)) / len(rows)


def policy_table(snapshots: Snapshots) -> Table:
    """Every policy at every step."""
    rows = []
    for (name, step), snapshot in snapshots.items():
        low, high = band(snapshot)
        declined = "not measured"
        if snapshot.served:
            refused = [bool(share) for share in declines(snapshot)]
            declined = interval(proportion(refused, clusters=range(len(refused))))
        rows.append(
            (
                "the start" if name == "start" else TITLES[name],
                str(step),
                interval(mean(scores(snapshot))),
                f"{number(low)} to {number(high)}",
                declined,
                f"{snapshot.cut:.0%}",
            )
        )
    elo = ("Elo over the refusal, by the judge", "mean of the lowest to mean of the highest reply")
    columns = ("policy", "step", *elo, "helpful prompts declined", "cut off")
    note = "The judge learned from specific labels of questions that no climbed model saw."
    return Table("Policies", columns, tuple(rows), note)


def trait_table(start: Snapshot, best: Mapping[str, Snapshot]) -> Table:
    """Trait by trait, at each policy's best step."""

    def cell(snapshot: Snapshot, trait: str) -> str:
        return interval(mean([sum(row) / len(row) * ELO_PER_NAT for row in snapshot.over[trait]]))

    policies = (start, *best.values())
    rows = tuple((trait, *(cell(snapshot, trait) for snapshot in policies)) for trait in start.over)
    columns = ("trait", "the start", *(TITLES[name] for name in best))
    note = "Half of these questions chose the step, so its policies look a little better here than they are."
    return Table("Elo over the refusal by trait, at the best step", columns, rows, note)


def elo_figure(snapshots: Snapshots, models: Sequence[str]) -> Figure:
    """Every policy from the start to its last step."""
    lines = []
    for name in models:
        points = [("start", 0), *((model, step) for model, step in snapshots if model == name)]
        means = [[sum(group) / len(group) for group in snapshots[point].elo] for point in points]
        low, high = zip(*(band(snapshots[point]) for point in points), strict=True)
        x, y = tuple(float(step) for _, step in points), tuple(sum(rows) / len(rows) for rows in means)
        lines.append(Line(TITLES[name], x, y, low, high))
    note = "Bands run from the mean of the lowest to the mean of the highest reply."
    return Figure("Elo over one refusal", "step", "Elo by the judge", tuple(lines), note)
