"""Smooth loss beside abrupt ability, and what the paper claims of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from solon.records.report import Claim, Figure, Line, Report, Table, number
from solon.statistics.intervals import Estimate, bootstrap, mean, paired_difference, wilson
from solon.studies.surprise.ability import Ability, largest_jump
from solon.study.claims import banded, interval, sign


@dataclass(slots=True)
class Findings:
    """Abilities by width, step and digits; how many parameters each width has."""

    abilities: dict[tuple[int, int, int], Ability] = field(default_factory=dict)
    parameters: dict[int, int] = field(default_factory=dict)


def report(settings: Mapping[str, Any], found: Findings) -> Report:
    widths, steps = list(found.parameters), sorted({step for _, step, _ in found.abilities})
    digits = sorted({own for _, _, own in found.abilities})
    claims = [claim for own in digits for claim in _claims(found, widths, steps, own)]
    tables = (_table(found, widths, steps[-1], digits),)
    figures = [
        figure
        for own in digits
        for figure in (
            _over_steps(found, widths[-1], steps, own),
            _over_widths(found, widths, steps[-1], own),
        )
    ]
    summary = (
        f"{len(widths)} transformers of width {widths[0]} to {widths[-1]}, {steps[-1]} steps, sums of "
        f"{', '.join(map(str, digits))} digits, held out by content.",
    )
    return Report(
        "Smooth loss, abrupt ability",
        summary,
        tuple(claims),
        (),
        tables,
        tuple(figures),
        (),
        {},
        _deviations(settings),
        {name: str(settings[name]) for name in ("layers", "batch", "learning_rate", "checkpoints", "turned")},
    )


def _claims(found: Findings, widths: list[int], steps: list[int], digits: int) -> list[Claim]:
    """About the widest model over its steps."""
    own = [found.abilities[widths[-1], step, digits] for step in steps]
    last = own[-1]
    exact = wilson(sum(last.exact), len(last.exact))
    words = f"{digits} digits: exact match of the widest model at the end"
    claims = [Claim.of(f"{digits}/exact", words, exact, None)]
    jump = _jumps(own)
    claims.append(
        Claim.of(
            f"{digits}/jump",
            f"{digits} digits: between checkpoints, exact match changes more at once than the loss "
            "(largest share of the whole change)",
            jump,
            sign(jump),
        )
    )
    gaps = [
        e - p**ability.length
        for ability in own
        for e, p in ((float(np.mean(ability.exact)), float(np.mean(ability.per_token))),)
    ]
    fit = _fit(own)
    words = (
        f"{digits} digits: per-token accuracy to the power of the length misses exact match by (mean "
        f"over checkpoints; at most {number(max(map(abs, gaps)))})"
    )
    claims.append(Claim.of(f"{digits}/power", words, fit, None))
    small = found.abilities[widths[0], steps[-1], digits]
    gain = paired_difference(small.loss, last.loss)
    claims.append(
        Claim.of(
            f"{digits}/width",
            f"{digits} digits: the widest model has a lower loss than the narrowest (nats a token)",
            gain,
            sign(gain),
        )
    )
    return claims


def _matrix(own: list[Ability], name: str) -> np.ndarray:
    return np.array([getattr(ability, name) for ability in own])


def _jumps(own: list[Ability]) -> Estimate:
    exact, loss = _matrix(own, "exact"), _matrix(own, "loss")

    def gap(places: np.ndarray) -> float:
        drawn = places.astype(int)
        return largest_jump(exact[:, drawn].mean(axis=1).tolist()) - largest_jump(
            loss[:, drawn].mean(axis=1).tolist()
        )

    return bootstrap([float(place) for place in range(exact.shape[1])], gap, resamples=500)


def _fit(own: list[Ability]) -> Estimate:
    exact, tokens = _matrix(own, "exact"), _matrix(own, "per_token")

    def miss(places: np.ndarray) -> float:
        drawn = places.astype(int)
        return float(
            np.abs(exact[:, drawn].mean(axis=1) - tokens[:, drawn].mean(axis=1) ** own[0].length).mean()
        )

    return bootstrap([float(place) for place in range(exact.shape[1])], miss, resamples=500)


def _table(found: Findings, widths: list[int], step: int, digits: list[int]) -> Table:
    rows = []
    for width in widths:
        for own in digits:
            a = found.abilities[width, step, own]
            p = float(np.mean(a.per_token))
            rows.append(
                (
                    str(width),
                    str(found.parameters[width]),
                    str(own),
                    interval(mean(a.loss)),
                    number(p),
                    number(p**a.length),
                    interval(wilson(sum(a.exact), len(a.exact))),
                    str(len(a.exact)),
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


def _over_steps(found: Findings, width: int, steps: list[int], digits: int) -> Figure:
    return _panel(
        f"{digits} digits, width {width}, over training",
        "steps (logarithm, base 10)",
        [float(np.log10(step)) for step in steps],
        [found.abilities[width, step, digits] for step in steps],
    )


def _over_widths(found: Findings, widths: list[int], step: int, digits: int) -> Figure:
    return _panel(
        f"{digits} digits at step {step}, over width",
        "parameters (logarithm, base 10)",
        [float(np.log10(found.parameters[width])) for width in widths],
        [found.abilities[width, step, digits] for width in widths],
    )


def _panel(title: str, x: str, places: list[float], own: list[Ability]) -> Figure:
    """The smooth number and the abrupt one on one panel, all between 0 and 1: the loss as the probability of
    a token, exp(-loss).
    """
    power = [float(np.mean(a.per_token)) ** a.length for a in own]
    lines = (
        banded("exp(-loss)", places, [_probability(a) for a in own]),
        banded("exact match", places, [wilson(sum(a.exact), len(a.exact)) for a in own]),
        Line("per-token accuracy to the length", tuple(places), tuple(power)),
    )
    return Figure(title, x, "", lines, "Smooth and abrupt numbers of the same checkpoints.")


def _probability(own: Ability) -> Estimate:
    found = mean(own.loss)
    return Estimate(
        float(np.exp(-found.value)),
        float(np.exp(-found.high)),
        float(np.exp(-found.low)),
        found.method,
        found.n,
        found.clusters,
    )


def _deviations(settings: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        "The models are trained here on addition alone, not language models of 10^7 to 10^11 parameters; "
        "recidivism, toxicity and recommendation are not studied.",
        "Answers are "
        f"{'turned, the smallest place first' if settings['turned'] else 'as people write them'}; numbers "
        "are padded with zeros.",
        "Intervals are over held-out sums; one training for each width, so that they say nothing of how "
        "trainings differ.",
        "`solon compare` draws the same panel, smooth over abrupt, for checkpoints of any model.",
    )
