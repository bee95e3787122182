"""The map of attacks, and what was said: blurred until it is asked for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from solon.records.report import Exhibit, Figure, Line, Section
from solon.studies.red_teaming.results import TYPES, Results


def map_section(results: Results) -> Section:
    """Attacks by what they are about: which got past a defence, which lie together."""
    layout, past = results.map, np.array(results.past_a_defence)

    def dots(label: str, chosen: np.ndarray) -> Line:
        x, y = (tuple(layout.positions_N2[chosen, axis]) for axis in (0, 1))
        return Line(label, x, y, dots=True)

    outcomes = [dots("past some defence", past), dots("past none", ~past)]
    clusters = [
        dots(f"cluster {number + 1}", layout.cluster_N == number) for number in range(len(layout.nearest))
    ]
    note = "Each dot is an attack, by its mean residual vector at the middle layer of the largest model."
    return Section(
        figures=(
            Figure(
                "Map of attacks",
                "first direction",
                "second direction",
                tuple(line for line in outcomes if line.x),
                note,
            ),
            Figure(
                "Clusters of attacks",
                "first direction",
                "second direction",
                tuple(clusters),
                "What is nearest each centre is in the gallery.",
            ),
        ),
        gallery=(*cluster_exhibits(results), *median_dialogues(results)),
    )


def cluster_exhibits(results: Results) -> Iterator[Exhibit]:
    """The attacks nearest each cluster's centre."""
    past = np.array(results.past_a_defence)
    for number, nearest in enumerate(results.map.nearest):
        members = past[results.map.cluster_N == number]
        share = members.sum() / max(len(members), 1)
        title = f"Cluster {number + 1}: {len(members)} attacks, {share:.0%} get past some defence"
        parts = tuple(
            (f"near its centre, {rank + 1}", results.attacks[index].opening)
            for rank, index in enumerate(nearest)
        )
        yield Exhibit(title, parts, blurred=True)


def median_dialogues(results: Results) -> Iterator[Exhibit]:
    """The median dialogue of each type of the largest model."""
    size = results.sizes[-1]
    for name, words in TYPES.items():
        trials = sorted(results.of(defender=name, size=size), key=lambda trial: trial.attempt.min_score)
        if trials:
            conversation = trials[len(trials) // 2].attempt.conversation
            parts = tuple((turn.role, turn.text) for turn in conversation.turns)
            title = f"{words} {size}: the dialogue whose least harmlessness is the median"
            yield Exhibit(title, parts, blurred=True)
