"""What the red-teaming study finds, and its attempts by type, size and source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from solon.alignment.quality import ScoredComparison
from solon.alignment.red_teaming import AttackMap
from solon.data.attacks import Attack, Attempt
from solon.statistics.intervals import Estimate, mean, proportion

TYPES = {"plain": "plain", "prompted": "prompted", "rejection": "rejection sampling", "rlhf": "RLHF"}
SOURCES = {"file": "file", "zero_shot": "asked for", "few_shot": "shown examples", "reinforced": "reinforced"}


@dataclass(slots=True)
class Findings:
    """Everything the report prints. `harmed` says of each attempt whether it succeeded."""

    quality: dict[str, list[ScoredComparison]] = field(default_factory=dict)
    parameters: dict[str, int] = field(default_factory=dict)  # of each size
    attacks: list[Attack] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    harmed: list[bool] = field(default_factory=list)
    border: float = 0.0
    steps: Sequence[Mapping[str, float]] = ()  # of the reinforced attacker
    map: AttackMap | None = None
    judged_by: str = ""
    target: str = ""  # the size whose prompted model the reinforced attacker practised on
    counts: dict[str, int] = field(default_factory=dict)


def of(
    found: Findings, *, defender: str = "", size: str = "", source: str = ""
) -> list[tuple[Attempt, bool]]:
    """The attempts of a type, a size or a source, with whether they succeeded."""
    return [
        (attempt, harmed)
        for attempt, harmed in zip(found.attempts, found.harmed, strict=True)
        if (not defender or attempt.defender == defender)
        and (not size or attempt.size == size)
        and (not source or attempt.attack.source == source)
    ]


def worst(rows: Sequence[tuple[Attempt, bool]]) -> Estimate:
    return mean(
        [attempt.min_score for attempt, _ in rows], clusters=[attempt.attack.attacker for attempt, _ in rows]
    )


def succeeded(rows: Sequence[tuple[Attempt, bool]]) -> Estimate:
    return proportion(
        [harmed for _, harmed in rows], clusters=[attempt.attack.attacker for attempt, _ in rows]
    )


def sizes(found: Findings) -> list[str]:
    """Rising; of two that are equal, the one named first."""
    met = {attempt.size for attempt in found.attempts}
    return sorted((size for size in found.parameters if size in met), key=lambda size: found.parameters[size])
