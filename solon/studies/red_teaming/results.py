"""What the red-teaming study finds, and its attempts by type, size and source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from solon.alignment.quality import ScoredComparison
from solon.alignment.red_teaming import AttackMap
from solon.data.attacks import Attack, Attempt
from solon.errors import InputError
from solon.statistics.intervals import Estimate, mean, proportion, regression

TYPES = {"plain": "plain", "prompted": "prompted", "rejection": "rejection sampling", "rlhf": "RLHF"}
SOURCES = {"file": "file", "zero_shot": "asked for", "few_shot": "shown examples", "reinforced": "reinforced"}


@dataclass(frozen=True, slots=True)
class Trial:
    """An attempt, and whether it succeeded."""

    attempt: Attempt
    succeeded: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """Everything the report prints. `parameters` are those of each size, `steps` those of the reinforced
    attacker; `border` is the score below which a reply is taken for harmful where no truth is known;
    `target` is the size whose prompted model the reinforced attacker practised on.
    """

    quality: Mapping[str, Sequence[ScoredComparison]]
    parameters: Mapping[str, int]
    attacks: Sequence[Attack]
    trials: Sequence[Trial]
    border: float
    steps: Sequence[Mapping[str, float]]
    map: AttackMap
    target: str
    counts: Mapping[str, int]

    def of(self, *, defender: str = "", size: str = "", source: str = "") -> list[Trial]:
        """The trials of a type, a size or a source."""
        return [
            trial
            for trial in self.trials
            if (not defender or trial.attempt.defender == defender)
            and (not size or trial.attempt.size == size)
            and (not source or trial.attempt.attack.source == source)
        ]

    @property
    def sizes(self) -> list[str]:
        """Rising; of two that are equal, the one named first."""
        met = {trial.attempt.size for trial in self.trials}
        return sorted((size for size in self.parameters if size in met), key=lambda s: self.parameters[s])

    @property
    def past_a_defence(self) -> list[bool]:
        """Of each attack, whether it succeeded on some model other than the plain one, which most of them
        do.
        """
        past = {
            trial.attempt.attack.opening
            for trial in self.trials
            if trial.succeeded and trial.attempt.defender != "plain"
        }
        return [attack.opening in past for attack in self.attacks]


def attackers(trials: Sequence[Trial]) -> list[str]:
    """Who attacked: intervals are clustered by them."""
    return [trial.attempt.attack.attacker for trial in trials]


def least_harmlessness(trials: Sequence[Trial]) -> Estimate:
    """The mean score of the worst reply of a dialogue, nats."""
    return mean([trial.attempt.min_score for trial in trials], clusters=attackers(trials))


def success(trials: Sequence[Trial]) -> Estimate:
    """The share of attempts that succeed."""
    return proportion([trial.succeeded for trial in trials], clusters=attackers(trials))


def shift(
    trials: Sequence[Trial], treated: Sequence[bool], values: Sequence[float], *, controlled: bool = False
) -> Estimate | None:
    """How much higher values are where treated, attackers being clusters; `controlled` for the score of the
    task description and for size. None where the trials do not tell.
    """
    columns = [[1.0] * len(trials), [float(flag) for flag in treated]]
    if controlled:
        columns.append([trial.attempt.task_score for trial in trials])
        names = sorted({trial.attempt.size for trial in trials})
        columns += [[float(trial.attempt.size == name) for trial in trials] for name in names[1:]]
    return slope(values, columns, trials)


def slope(
    values: Sequence[float], columns: Sequence[Sequence[float]], trials: Sequence[Trial]
) -> Estimate | None:
    """The second coefficient of a regression, attackers being clusters; None where the trials do not tell."""
    try:
        return regression(values, columns, clusters=attackers(trials))[1]
    except InputError:
        return None


def against_plain(results: Results, defender: str) -> Estimate | None:
    """How much less harmful the worst reply of a type is than the plain model's, by score, at equal task
    descriptions and sizes.
    """
    trials = [*results.of(defender="plain"), *results.of(defender=defender)]
    treated = [trial.attempt.defender == defender for trial in trials]
    return shift(trials, treated, [trial.attempt.min_score for trial in trials], controlled=True)
