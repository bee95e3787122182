"""Smooth loss beside abrupt ability, and what the paper claims of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from solon.records.report import Claim, Figure, Line, Report, Section, Table, number
from solon.statistics.intervals import Estimate, Floats, bootstrap, mean, paired_difference, wilson
from solon.studies.surprise.ability import Ability, largest_jump
from solon.studies.surprise.settings import Settings
from solon.study.claims import banded, interval
from solon.study.settings import constants

DEVIATIONS = (
    "The models are trained here on addition alone, not language models of 10^7 to 10^11 parameters; "
    "recidivism, toxicity and recommendation are not studied.",
    "Numbers are padded with zeros.",
    "Intervals are over held-out sums. Each width is trained once, so that they say nothing of how trainings "
    "differ.",
    "`solon compare` draws the same panel, smooth over abrupt, for checkpoints of any model.",
)


@dataclass(slots=True)
class Results:
    """Abilities by width, step and digits; how many parameters each width has."""

    abilities: dict[tuple[int, int, int], Ability] = field(default_factory=dict)
    parameters: dict[int, int] = field(default_factory=dict)


def report(settings: Settings, results: Results) -> Report:
    """One section for each length of sums, and a table of where training ends."""
    widths, steps = settings.widths, sorted({step for _, step, _ in results.abilities})
    summary = (
        f"{len(widths)} transformers of width {widths[0]} to {widths[-1]}, {settings.steps} steps, sums of "
        f"{', '.join(map(str, settings.digits))} digits, held out by content."
    )
    return Report.of(
        "Smooth loss, abrupt ability",
        [summary],
        [
            Section(tables=(final_table(results, widths, steps[-1], settings.digits),)),
            *(length_section(results, widths, steps, digits) for digits in settings.digits),
        ],
        deviations=DEVIATIONS,
        constants=constants(settings),
    )


def length_section(results: Results, widths: Sequence[int], steps: Sequence[int], digits: int) -> Section:
    """Sums of one length: the widest model over training, all widths at the end."""
    over_steps = [results.abilities[widths[-1], step, digits] for step in steps]
    over_widths = [results.abilities[width, steps[-1], digits] for width in widths]
    parameters = [results.parameters[width] for width in widths]
    return Section(
        claims=tuple(length_claims(digits, over_steps, narrowest=over_widths[0])),
        figures=(
            panel(f"{digits} digits, width {widths[-1]}, over training", "steps", steps, over_steps),
            panel(f"{digits} digits at step {steps[-1]}, over width", "parameters", parameters, over_widths),
        ),
    )


def length_claims(digits: int, over_steps: Sequence[Ability], *, narrowest: Ability) -> Iterator[Claim]:
    """About the widest model over its steps, and beside the narrowest at the end."""
    last = over_steps[-1]
    yield Claim.of(
        f"{digits}/exact", f"{digits} digits: exact match of the widest model at the end", _exact(last), None
    )
    yield Claim.above(
        f"{digits}/jump",
        f"{digits} digits: between checkpoints, exact match changes more at once than the loss (largest "
        "share of the whole change)",
        jump_difference(over_steps),
    )
    misses = [abs(float(np.mean(ability.exact)) - ability.predicted_exact) for ability in over_steps]
    yield Claim.of(
        f"{digits}/power",
        f"{digits} digits: per-token accuracy to the power of the length misses exact match by (mean over "
        f"checkpoints; at most {number(max(misses))})",
        power_miss(over_steps),
        None,
    )
    yield Claim.above(
        f"{digits}/width",
        f"{digits} digits: the widest model has a lower loss than the narrowest (nats a token)",
        paired_difference(narrowest.loss, last.loss),
    )


def jump_difference(over_steps: Sequence[Ability]) -> Estimate:
    """How much larger the largest jump of exact match is than that of the loss."""
    exact = np.array([ability.exact for ability in over_steps])
    loss = np.array([ability.loss for ability in over_steps])

    def difference(drawn: np.ndarray) -> float:
        return largest_jump(exact[:, drawn].mean(axis=1).tolist()) - largest_jump(
            loss[:, drawn].mean(axis=1).tolist()
        )

    return over_sums(exact.shape[1], difference)


def power_miss(over_steps: Sequence[Ability]) -> Estimate:
    """How far per-token accuracy to the power of the length is from exact match, in the mean over steps."""
    exact = np.array([ability.exact for ability in over_steps])
    tokens = np.array([ability.per_token for ability in over_steps])

    def miss(drawn: np.ndarray) -> float:
        predicted = tokens[:, drawn].mean(axis=1) ** over_steps[0].length
        return float(np.abs(exact[:, drawn].mean(axis=1) - predicted).mean())

    return over_sums(exact.shape[1], miss)


def over_sums(count: int, statistic: Callable[[np.ndarray], float]) -> Estimate:
    """A bootstrap over sums, of a statistic of their indices."""

    def of_indices(drawn: Floats) -> float:
        return statistic(drawn.astype(int))

    return bootstrap([float(index) for index in range(count)], of_indices, resamples=500)


def final_table(results: Results, widths: Sequence[int], step: int, lengths: Sequence[int]) -> Table:
    """Every width and length at the end of training."""
    rows = []
    for width in widths:
        for digits in lengths:
            ability = results.abilities[width, step, digits]
            rows.append(
                (
                    str(width),
                    str(results.parameters[width]),
                    str(digits),
                    interval(mean(ability.loss)),
                    number(float(np.mean(ability.per_token))),
                    number(ability.predicted_exact),
                    interval(_exact(ability)),
                    str(len(ability.exact)),
                )
            )
    columns = (
        "width",
        "parameters",
        "digits",
        "loss (nats a token)",
        "per-token accuracy",
        "its power of the length",
        "exact match",
        "sums",
    )
    return Table("At the end of training", columns, tuple(rows))


def panel(title: str, unit: str, sizes: Sequence[int], abilities: Sequence[Ability]) -> Figure:
    """The smooth number and the abrupt one on one panel, all between 0 and 1: the loss as the probability of
    a token, exp(-loss).
    """
    x = [float(np.log10(size)) for size in sizes]
    lines = (
        banded("exp(-loss)", x, [_probability(ability) for ability in abilities]),
        banded("exact match", x, [_exact(ability) for ability in abilities]),
        Line(
            "per-token accuracy to the length",
            tuple(x),
            tuple(ability.predicted_exact for ability in abilities),
        ),
    )
    note = "Smooth and abrupt numbers of the same checkpoints."
    return Figure(title, f"{unit} (logarithm, base 10)", "", lines, note)


def _exact(ability: Ability) -> Estimate:
    return wilson(sum(ability.exact), len(ability.exact))


def _probability(ability: Ability) -> Estimate:
    loss = mean(ability.loss)
    value, low, high = (float(np.exp(-end)) for end in (loss.value, loss.high, loss.low))
    return Estimate(value, low, high, loss.method, loss.n, loss.clusters)
