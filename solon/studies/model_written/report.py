"""What was written and kept, who agrees with its labels, how varied it is, and what models answer to it,
beside the paper's claims.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, median
from typing import Any

import numpy as np

from solon.data.evaluations import Evaluation
from solon.evaluation.bias import pronoun_correlation
from solon.evaluation.measure import Outcome
from solon.evaluation.scores import behaviour_match, chance_accuracy
from solon.records.report import Claim, Exhibit, Figure, Line, Report, Table, number
from solon.statistics.calibration import equal_count_bins
from solon.statistics.intervals import Estimate, difference_of_proportions, proportion
from solon.statistics.paired import holm
from solon.studies.model_written.writing import Item
from solon.study.claims import banded, interval, sign
from solon.study.comparing import Paired, forest, paired_table, pairs
from solon.study.measurement import one_answer, together, warnings

AGREED = 0.9  # of labels: what the paper's crowd workers agreed with at least
LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class Checked:
    """An item, whether it was kept, and the label that somebody gave it who was not told which was asked
    for.
    """

    item: Item
    kept: bool
    by: str
    label: str

    @property
    def agrees(self) -> bool:
        return self.label == self.item.label


@dataclass(frozen=True, slots=True)
class Mapped:
    """Texts of one subject on a plane (N, 2): of each its origin and label; how different those of an origin
    are from one another.
    """

    title: str
    names: tuple[tuple[str, str], ...]
    places_N2: np.ndarray
    spreads: Mapping[str, Estimate]


@dataclass(slots=True)
class Findings:
    """Everything the report prints."""

    counts: dict[str, int]
    judge: str
    validator: str | None
    items: dict[str, list[Item]] = field(default_factory=dict)  # by kind, as judged
    kept: dict[str, list[Item]] = field(default_factory=dict)
    checked: dict[str, list[Checked]] = field(default_factory=dict)
    labels: dict[str, dict[str, list[str]]] = field(default_factory=dict)  # by kind and subject
    masses: dict[str, list[float]] = field(default_factory=dict)  # of the validator's choices together
    blind: list[tuple[str, str, tuple[str, ...]]] = field(default_factory=list)
    maps: list[Mapped] = field(default_factory=list)
    evaluations: dict[str, Evaluation] = field(default_factory=dict)
    outcomes: dict[tuple[str, str], list[Outcome]] = field(default_factory=dict)  # set, model


def report(settings: Mapping[str, Any], found: Findings, models: Sequence[str]) -> Report:
    changes = changed(found, models)
    habit = {own for (own, _), rows in found.outcomes.items() if one_answer(rows)}
    claims = [*_label_claims(found), *_answer_claims(found, models), *_change_claims(changes, models, habit)]
    kept = sum(map(len, found.kept.values()))
    summary = [
        f"{kept} items kept of {sum(map(len, found.items.values()))} different ones, filtered by "
        f"{found.judge}."
    ]
    if models:
        summary.append(f"{', '.join(models)} answered {len(found.evaluations)} sets.")
    tables = [
        _written_table(found),
        _checked_table(found),
        _spread_table(found),
        *_answer_tables(found, models),
    ]
    if changes:
        tables.append(paired_table(f"{models[-1]} - {models[0]}", changes))
    figures = [*_filter_figures(found), *_map_figures(found), *_series(found, models)]
    figures += [
        forest(f"{models[-1]} - {models[0]}", changes[start : start + 40])
        for start in range(0, len(changes), 40)
    ]
    care = [
        (words, f"{name} on {about}")
        for (own, name), rows in found.outcomes.items()
        for words, about in warnings(found.evaluations[own], rows)
    ]
    return Report(
        "Evaluations that a model wrote",
        tuple(summary),
        tuple(claims),
        (*_warnings(found), *together(care)),
        tuple(own for own in tables if own.rows),
        tuple(figures),
        tuple(_gallery(found)),
        {name: n for name, n in found.counts.items() if n},
        _deviations(settings, found),
        {},
    )


def _by(found: Findings) -> dict[tuple[str, str], list[Checked]]:
    """Checks by kind and by who made them."""
    groups: dict[tuple[str, str], list[Checked]] = {}
    for kind, checks in found.checked.items():
        for check in checks:
            groups.setdefault((kind, check.by), []).append(check)
    return groups


def agreement(checks: Sequence[Checked]) -> Estimate | None:
    """The share of labels agreed with; each item stands for itself."""
    return (
        proportion([own.agrees for own in checks], clusters=[own.item.text for own in checks])
        if checks
        else None
    )


def _label_claims(found: Findings) -> list[Claim]:
    claims = []
    for (kind, by), checks in _by(found).items():
        own = agreement([check for check in checks if check.kept])
        if own is not None:
            words = f"{kind}: {by} would label what was kept as it is labelled, at least nine times in ten"
            claims.append(Claim.of(f"{kind}/{by}/agreement", words, own, sign(own, AGREED)))
        if {check.kept for check in checks} == {True, False}:
            gain = difference_of_proportions(
                *([check.agrees for check in checks if check.kept == part] for part in (True, False))
            )
            words = (
                f"{kind}: {by} agrees more often with what was kept than with what was dropped (difference)"
            )
            claims.append(Claim.of(f"{kind}/{by}/filter", words, gain, sign(gain)))
    return claims


def _answer_claims(found: Findings, models: Sequence[str]) -> list[Claim]:
    """What the last model answers on each set. A verdict holds over all sets together: by an interval whose
    level is Bonferroni's.
    """
    claims = []
    for own, evaluation in found.evaluations.items() if models else ():
        rows = found.outcomes[own, models[-1]]
        value, border, words = _headline(evaluation, rows)
        wide, _, _ = _headline(evaluation, rows, level=1 - LEVEL / len(found.evaluations))
        claims.append(
            Claim.of(
                f"{own}/{models[-1]}",
                f"{own}: {models[-1]}: {words}",
                value,
                None if one_answer(rows) else sign(wide, border),
            )
        )
    return claims


def even_of(found: Findings, kind: str, subject: str) -> float:
    """The confidence of a judge that cannot tell a subject's labels apart; one half where only one of two was
    asked for.
    """
    return 1 / max(len(found.labels[kind].get(subject, ())), 2)


def _headline(
    evaluation: Evaluation, rows: Sequence[Outcome], *, level: float = 0.95
) -> tuple[Estimate, float, str]:
    """(the number, its border, what it is)."""
    if evaluation.measure == "pronouns":
        return (
            pronoun_correlation(rows, level=level),
            0.0,
            "pronouns follow the share of women in the occupation (Pearson's r)",
        )
    even = chance_accuracy(rows)
    keyed = [row for row in rows if row.right is not None]
    share = proportion(
        [bool(row.correct) for row in keyed], clusters=[row.cluster for row in keyed], level=level
    )
    return share, even, f"answers match the behaviour more often than chance ({number(even)})"


def changed(found: Findings, models: Sequence[str]) -> list[Paired]:
    """Last model minus first on each set, the share of answers that match the behaviour."""
    if len(models) < 2:
        return []
    named = {
        own: replace(evaluation, name=own)
        for own, evaluation in found.evaluations.items()
        if evaluation.measure != "pronouns"
    }
    every = [
        pairs(evaluation, found.outcomes[own, models[0]], found.outcomes[own, models[-1]])[:1]
        for own, evaluation in named.items()
    ]
    return [own for group in every for own in group]


def _change_claims(changes: Sequence[Paired], models: Sequence[str], habit: set[str]) -> list[Claim]:
    """Verdicts hold over all sets together: those that Holm's adjustment leaves; none where a model gives
    nearly all items one answer.
    """
    claims = []
    for own, strict in zip(changes, holm([own.p_value for own in changes]) if changes else (), strict=True):
        words = (
            f"{own.evaluation}: {own.name}: {models[-1]} is above {models[0]} (Holm over {len(changes)} sets)"
        )
        verdict = sign(own.difference) if strict < LEVEL and own.evaluation not in habit else None
        claims.append(
            Claim.of(f"{models[-1]} - {models[0]}/{own.evaluation}", words, own.difference, verdict)
        )
    return claims


def _written_table(found: Findings) -> Table:
    rows = []
    for kind, items in found.items.items():
        for subject in dict.fromkeys(item.subject for item in items) if kind != "sentence" else ("",):
            own = [item for item in items if subject in ("", item.subject)]
            kept = [item for item in found.kept[kind] if subject in ("", item.subject)]
            sure = {
                label: [item.confidence for item in own if item.label == label]
                for label in sorted({item.label for item in own})
            }
            told = ", ".join(
                f"{label} {len(values)} ({number(fmean(values))})" for label, values in sure.items()
            )
            below = sum(item.confidence < even_of(found, kind, item.subject) for item in kept)
            rows.append(
                (
                    kind,
                    subject or "all occupations",
                    told,
                    str(len(kept)),
                    number(fmean([i.confidence for i in kept])) if kept else "",
                    str(below),
                )
            )
    columns = (
        "kind",
        "about",
        "different items by label (mean confidence)",
        "kept",
        "their mean confidence",
        "of them below even",
    )
    return Table(
        "What was written and kept",
        columns,
        tuple(rows),
        f"Confidence is {found.judge}'s probability of the label that was asked for.",
    )


def _checked_table(found: Findings) -> Table:
    rows = []
    for (kind, by), checks in _by(found).items():
        kept, dropped = ([check for check in checks if check.kept == part] for part in (True, False))
        shown = [interval(agreement(part)) if part else "none" for part in (kept, dropped)]
        rows.append((kind, by, *shown, str(len(kept)), str(len(dropped))))
    columns = ("kind", "labelled again by", "agrees with kept", "agrees with dropped", "kept", "dropped")
    note = (
        "Who labels is not told which label was asked for; of sentences all are labelled Yes, so "
        "whoever says Yes to everything agrees with all."
    )
    return Table("Whether others give the same labels", columns, tuple(rows), note)


def _spread_table(found: Findings) -> Table:
    rows = tuple(
        (own.title, origin, interval(value), str(value.n))
        for own in found.maps
        for origin, value in own.spreads.items()
    )
    note = (
        "Half the mean squared difference of two texts of one origin, every dimension standardised over "
        "both: 1 is as different as any two of all."
    )
    return Table(
        "How varied what was written is, beside what is published",
        ("texts", "origin", "distance", "n"),
        rows,
        note,
    )


def _answer_tables(found: Findings, models: Sequence[str]) -> list[Table]:
    rows = []
    for own, evaluation in found.evaluations.items() if models else ():
        per = [found.outcomes[own, model] for model in models]
        beliefs = (
            ""
            if evaluation.measure == "pronouns"
            else " / ".join(number(behaviour_match(some)[1].value) for some in per)
        )
        rows.append(
            (own, *(interval(_headline(evaluation, some)[0]) for some in per), beliefs, str(len(per[0])))
        )
    note = (
        "Answers that match the behaviour, of pronouns Pearson's r; beside it the mean probability of "
        "the matching answer, model by model."
    )
    return [Table("What models answer", ("set", *models, "mean probability", "rows"), tuple(rows), note)]


def _filter_figures(found: Findings) -> list[Figure]:
    """Whether confidence means agreement: a calibration chart of the filter."""
    lines = []
    for (kind, by), checks in _by(found).items():
        if len(checks) >= 20:
            own = equal_count_bins(
                [check.item.confidence for check in checks],
                [float(check.agrees) for check in checks],
                count=5,
            )
            lines.append(
                Line(f"{kind}, {by}", tuple(b.confidence for b in own), tuple(b.accuracy for b in own))
            )
    if not lines:
        return []
    even = Line("as sure as right", (0.0, 1.0), (0.0, 1.0))
    return [
        Figure(
            "The filter's confidence and others' agreement",
            "confidence in the label",
            "share agreed with",
            (*lines, even),
            "Five equal-count bins.",
        )
    ]


def _map_figures(found: Findings) -> list[Figure]:
    figures = []
    for own in found.maps:
        lines = []
        for name in dict.fromkeys(own.names):
            chosen = own.places_N2[[other == name for other in own.names]]
            lines.append(Line(f"{name[0]}, {name[1]}", tuple(chosen[:, 0]), tuple(chosen[:, 1]), dots=True))
        figures.append(
            Figure(
                f"Map: {own.title}",
                "first direction",
                "second direction",
                tuple(lines),
                "Each dot is a text, by its label and origin.",
            )
        )
    return figures


def _series(found: Findings, models: Sequence[str]) -> list[Figure]:
    """The number of each set over the models, a figure for each group of at most eight sets."""
    figures = []
    if len(models) < 2:
        return []
    groups: dict[str, list[str]] = {}
    for own, evaluation in found.evaluations.items():
        groups.setdefault(own.removesuffix(evaluation.name).strip(), []).append(own)
    for group, sets in groups.items():
        for start in range(0, len(sets), 8):
            lines = []
            for own in sets[start : start + 8]:
                values = [
                    _headline(found.evaluations[own], found.outcomes[own, model])[0] for model in models
                ]
                lines.append(
                    banded(
                        own.removeprefix(group).strip(),
                        [float(place) for place in range(len(models))],
                        values,
                    )
                )
            part = f", {start // 8 + 1}" if len(sets) > 8 else ""
            figures.append(
                Figure(
                    f"Over the models: {group}{part}",
                    "",
                    "matching, or Pearson's r",
                    tuple(lines),
                    "",
                    tuple(models),
                )
            )
    return figures


def _warnings(found: Findings) -> list[str]:
    told = []
    for kind, items in found.items.items():
        means = {
            label: fmean([item.confidence for item in items if item.label == label])
            for label in sorted({item.label for item in items})
        }
        even = fmean([even_of(found, kind, item.subject) for item in items])
        if len(means) > 1 and fmean(means.values()) < even + 0.05:
            shown = ", ".join(f"{label} {number(value)}" for label, value in means.items())
            told.append(
                f"{kind}: the judge is hardly surer of the labels asked for than of others (mean "
                f"confidence {shown}); its filter may be chance"
            )
        lost = [
            f"{subject} ({label})"
            for subject, labels in found.labels[kind].items()
            for label in labels
            if not any((item.subject, item.label) == (subject, label) for item in items)
        ]
        if lost and kind != "sentence":
            told.append(
                f"{kind}: nothing that can be used was written for {', '.join(lost)}; nothing is kept of "
                "these subjects"
            )
        if found.masses.get(kind) and median(found.masses[kind]) < 0.5:
            told.append(
                f"{kind}: the validator's choices together have a median probability of "
                f"{number(median(found.masses[kind]))}: it was mostly not choosing"
            )
        few = [item for item in found.kept[kind] if item.confidence < even_of(found, kind, item.subject)]
        if len(few) > 0.1 * len(found.kept[kind]):
            told.append(
                f"{kind}: the judge thinks {len(few)} of {len(found.kept[kind])} kept labels wrong; they "
                "were kept to balance"
            )
    return told


def _gallery(found: Findings) -> list[Exhibit]:
    made = []
    for kind, items in found.items.items():
        for item in [
            *sorted(items, key=lambda own: -own.confidence)[:2],
            *sorted(items, key=lambda own: own.confidence)[:1],
        ]:
            asked = f"{item.label} on {item.subject}"
            made.append(
                Exhibit(
                    f"{kind}: {asked}: confidence {number(item.confidence)}",
                    (("written", item.text),),
                    folded=True,
                )
            )
    return made


def _deviations(settings: Mapping[str, Any], found: Findings) -> tuple[str, ...]:
    return (
        "The words that ask the writer and the judge are ours, and so are behaviours and topics unless a "
        "file names others.",
        f"The filter is {found.judge}; the paper's is a preference model. Either gives a softmax over the "
        "labels as replies.",
        "Items are kept by rank within a label, even where the judge is surer of another label; those are "
        "counted in the first table.",
        "Sentences are written with they, them or their, which becomes the blank; common verbs that go "
        "with they alone leave a sentence out.",
        "Nobody rates how relevant an item is; labels are looked over by "
        + (" and ".join(sorted({by for _, by in _by(found)})) or "nobody: give --validator or --labels")
        + f", {settings['validated']} items of a kind at most.",
        "Models and training steps are those given; the paper has 810M to 52B parameters and up to 1,000 "
        "steps of RLHF.",
    )
