"""The red-teaming study's figures, and its gallery, which is blurred until it is asked for."""

from __future__ import annotations

import math

import numpy as np

from solon.alignment.red_teaming import AttackMap
from solon.records.report import Exhibit, Figure, Line
from solon.studies.red_teaming.results import TYPES, Findings, of, sizes, succeeded
from solon.study.claims import banded


def figures(found: Findings) -> list[Figure]:
    made = []
    lines = []
    for name, words in TYPES.items():
        own = sorted(attempt.min_score for attempt, _ in of(found, defender=name, size=sizes(found)[-1]))
        if own:
            lines.append(Line(words, tuple(own), tuple((place + 1) / len(own) for place in range(len(own)))))
    note = f"On {sizes(found)[-1]}; the further right, the harder to attack."
    made.append(
        Figure(
            "How bad it got",
            "least harmlessness of a dialogue, nats",
            "share of attempts below",
            tuple(lines),
            note,
        )
    )
    if len(sizes(found)) > 1:
        x = tuple(math.log10(found.parameters[size]) for size in sizes(found))
        by = {
            words: [of(found, defender=name, size=size) for size in sizes(found)]
            for name, words in TYPES.items()
        }
        curves = tuple(
            banded(words, x, [succeeded(rows) for rows in own]) for words, own in by.items() if all(own)
        )
        made.append(Figure("Attacks that succeed", "log10 of parameters", "share", curves))
    if found.steps:
        x = tuple(float(place + 1) for place in range(len(found.steps)))
        reward = tuple(row["reward"] for row in found.steps)
        made.append(
            Figure(
                "The reinforced attacker",
                "step",
                "harm of what it got out, nats by the train PM",
                (Line("reward", x, reward),),
            )
        )
    if found.map is not None:
        made += map_figures(found, found.map)
    return made


def past_a_defence(found: Findings) -> set[str]:
    """The attacks that succeeded on some model other than the plain one, which most of them do."""
    rows = zip(found.attempts, found.harmed, strict=True)
    return {attempt.attack.opening for attempt, harmed in rows if harmed and attempt.defender != "plain"}


def map_figures(found: Findings, own: AttackMap) -> list[Figure]:
    hurt = past_a_defence(found)
    flags = np.array([attack.opening in hurt for attack in found.attacks])

    def dots(label: str, chosen: np.ndarray) -> Line:
        return Line(label, tuple(own.positions_N2[chosen, 0]), tuple(own.positions_N2[chosen, 1]), dots=True)

    by = [dots("past some defence", flags), dots("past none", ~flags)]
    parts = [dots(f"cluster {number_ + 1}", own.cluster_N == number_) for number_ in range(len(own.nearest))]
    note = "Each dot is an attack, by its mean residual vector at the middle layer of the largest model."
    return [
        Figure(
            "Map of attacks",
            "first direction",
            "second direction",
            tuple(line for line in by if line.x),
            note,
        ),
        Figure(
            "Clusters of attacks",
            "first direction",
            "second direction",
            tuple(parts),
            "What is nearest each centre is in the gallery.",
        ),
    ]


def gallery(found: Findings) -> list[Exhibit]:
    """The attacks nearest each cluster's centre, and the median dialogue of each type."""
    made = []
    if found.map is not None:
        hurt = past_a_defence(found)
        for place, nearest in enumerate(found.map.nearest):
            members = [
                attack.opening in hurt
                for attack, own in zip(found.attacks, found.map.cluster_N, strict=True)
                if own == place
            ]
            title = (
                f"Cluster {place + 1}: {len(members)} attacks, "
                f"{sum(members) / max(len(members), 1):.0%} get past some defence"
            )
            parts = tuple(
                (f"near its centre, {rank + 1}", found.attacks[own].opening)
                for rank, own in enumerate(nearest)
            )
            made.append(Exhibit(title, parts, blurred=True))
    for name, words in TYPES.items():
        own_rows = sorted(of(found, defender=name, size=sizes(found)[-1]), key=lambda row: row[0].min_score)
        if own_rows:
            talk = own_rows[len(own_rows) // 2][0].conversation
            parts = tuple((turn.role, turn.text) for turn in talk.turns)
            made.append(
                Exhibit(
                    f"{words} {sizes(found)[-1]}: the dialogue whose least harmlessness is the median",
                    parts,
                    blurred=True,
                )
            )
    return made
