"""What sparse autoencoders found, beside the paper's claims."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from solon.records.report import Claim, Figure, Line, Report, Table, number
from solon.scaling.frontier import compute_frontier, fit_power_law
from solon.statistics.intervals import Estimate, correlation, mean, paired_difference, proportion
from solon.statistics.logistic import fit_ridge
from solon.studies.monosemanticity.settings import Findings, Inputs
from solon.study.claims import interval, sign

FOUND = 0.9  # cosine with a planted direction
WORD = 0.5  # F1 from which a word counts as having a feature


def report(settings: Mapping[str, Any], found: Findings, inputs: Inputs) -> Report:
    main = found.members[found.main]
    summary = (
        f"{len(found.members)} sparse autoencoders on {inputs.model.name} after layer {found.layer} of "
        f"{found.depth}, {settings['steps']} steps of "
        f"{settings['batch']} activations, which were multiplied by {found.scale:.4g}. The page "
        "features.html shows what features fire on.",
        f"The widest has {main.features} features: {main.active:.1f} active at a token (L0), "
        f"{100 * main.explained:.1f}% of variance explained, "
        f"{100 * main.dead:.1f}% of features active nowhere among the held-out tokens.",
    )
    tables = [_member_table(found), *_fit_tables(found), *_label_tables(found)]
    warnings = (
        [f"only {found.counts['tokens held out']} tokens were held out: rare features look dead"]
        if found.counts["tokens held out"] < 1_000_000
        else []
    )
    return Report(
        f"Features of {inputs.model.name}",
        summary,
        tuple(_claims(found, settings)),
        tuple(warnings),
        tuple(tables),
        tuple(_figures(found)),
        (),
        found.counts,
        DEVIATIONS,
        {"decoder rows at the start": "0.1 long", "normalisation": str(settings["normalisation"])},
    )


DEVIATIONS = (
    "The paper's model is Claude 3 Sonnet, its autoencoders have 1M, 4M and 34M features; dead features "
    "are counted over 10^7 tokens.",
    "Specificity is held against predicates of tokens, and rated 0 to 3 by a model only where one is "
    "given; the paper's judge rates about 1,000 activations.",
    "A word counts as having a feature where the best feature's activation falls on it and covers it with "
    "an F1 of 0.5; the paper looks through features for 100 concepts by hand.",
    "The scaling law of the loss is fitted without a floor; of attributions each prompt's first half is "
    "read, and the two likeliest next tokens.",
    "Labels are rated in all intervals, of which the highest is what they were written from.",
    "Neurons are not compared with features, nor steering with a difference of means.",
)


def _claims(found: Findings, settings: Mapping[str, Any]) -> list[Claim]:
    claims = []
    if found.cosines:
        share = proportion([own >= FOUND for own in found.cosines], clusters=range(len(found.cosines)))
        claims.append(
            Claim.of(
                "planted/recovered",
                "Planted directions that a feature meets with a cosine of 0.9 (0.8 asked for)",
                share,
                sign(share, 0.8),
            )
        )
        claims.append(
            Claim.of(
                "planted/cosine",
                "Mean highest cosine of planted directions (MMCS)",
                mean(found.cosines),
                None,
            )
        )
    if len(best := compute_frontier(found.attempts)) >= 3:
        law = fit_power_law([own.compute for own in best], [own.loss for own in best])
        text = f"Lowest loss falls as a power of compute: the exponent (R2 {law.r_squared:.3f})"
        claims.append(Claim.of("scaling/loss", text, law.exponent, sign_below(law.exponent)))
        grown = fit_power_law([own.compute for own in best], [float(own.features) for own in best])
        text = (
            "Best number of features as a power of compute: the exponent (above a half: it grows faster "
            "than that of steps)"
        )
        claims.append(Claim.of("scaling/features", text, grown.exponent, sign(grown.exponent, 0.5)))
    for width, rows in found.complete.items():
        middle = half_point(rows)
        text = (
            f"{width} features: frequency x alive features at which half of planted directions have a "
            "feature (within a factor of three of 1)"
        )
        holds = (
            True
            if middle[1] > 1 / 3 and middle[2] < 3
            else False
            if middle[1] > 3 or middle[2] < 1 / 3
            else None
        )
        claims.append(Claim(f"complete/{width}", text, *middle, len(rows), holds, "logistic fit, bootstrap"))
    main = found.members[found.main]
    cost = paired_difference(main.reconstructed, main.clean)
    claims.append(
        Claim.of(
            "model/loss",
            "What the reconstruction in place of the stream costs the model (nats a token, over rows)",
            cost,
            None,
        )
    )
    for name, value in (
        ("explained variance", main.explained),
        ("loss recovered, over zero", main.recovered),
        ("over the mean", main.recovered_over_mean),
    ):
        claims.append(
            Claim(
                f"model/{name}",
                f"{main.features} features: {name}",
                value,
                value,
                value,
                len(main.clean),
                None,
                "counted",
            )
        )
    for name, (feature, fit) in found.fits.items():
        if fit.top is not None:
            claims.append(
                Claim.of(
                    f"specific/{name}",
                    f"Feature {feature} in its highest interval with ten firings: tokens that are {name}",
                    fit.top,
                    sign(fit.top, 0.5),
                )
            )
    for name, levels in found.steering.items():
        strong = min(levels.levels, key=lambda own: abs(own[0] - settings["strength"]))
        gain = paired_difference(np.log(strong[1]).tolist(), np.log(levels.plain).tolist())
        factor = Estimate(
            math.exp(gain.value),
            math.exp(gain.low),
            math.exp(gain.high),
            f"{gain.method}, of logarithms",
            gain.n,
            gain.clusters,
        )
        text = (
            f"Clamped to {strong[0]:g} times its largest activation, the feature of {name} multiplies "
            "the probability of what follows it by (5 asked for)"
        )
        claims.append(Claim.of(f"steering/{name}", text, factor, sign(factor, 5.0)))
    claims.append(
        Claim(
            "steering/error",
            "Clamping moves what is not explained, over the stream's length, in float32 (below 1e-5)",
            found.untouched,
            found.untouched,
            found.untouched,
            512,
            found.untouched < 1e-5,
            "exact",
        )
    )
    return [*claims, *_attribution_claims(found)]


def sign_below(estimate: Estimate) -> bool | None:
    """Whether all of an interval is below 0."""
    return None if (held := sign(estimate)) is None else not held


def _attribution_claims(found: Findings) -> list[Claim]:
    """The paper's: attribution goes with ablation at 0.81, activation at 0.12. One correlation for each
    prompt, over its features.
    """
    by: dict[str, list[float]] = {"attribution": [], "activation": []}
    for own in found.attributions:
        columns = np.array([own.activation, own.attribution, own.ablation])
        if columns.shape[1] >= 4 and min(np.ptp(columns, axis=1)) > 0:
            for place, name in enumerate(("activation", "attribution")):
                by[name].append(correlation(columns[place].tolist(), columns[2].tolist()).value)
    if len(by["activation"]) < 2:
        return []
    claims = []
    for name, paper, border in (("attribution", 0.81, 0.7), ("activation", 0.12, None)):
        own_ = mean(by[name])
        text = (
            f"Correlation of {name} with ablation over a prompt's features, mean over prompts (the "
            f"paper: {paper})"
        )
        claims.append(
            Claim.of(f"attribution/{name}", text, own_, None if border is None else sign(own_, border))
        )
    gap = paired_difference(by["attribution"], by["activation"])
    return [
        *claims,
        Claim.of("attribution/gap", "The first less the second (0.3 asked for)", gap, sign(gap, 0.3)),
    ]


def half_point(rows: Sequence[tuple[float, bool]]) -> tuple[float, float, float]:
    """(frequency x alive features at which half are found, and a 95% interval), by a logistic curve in the
    logarithm; bootstrap over directions.
    """

    def point(some: Sequence[tuple[float, bool]]) -> float:
        x, hit = np.array([[own] for own, _ in some]), np.array([float(own) for _, own in some])
        if hit.min() == hit.max():
            return math.nan
        slope, constant = fit_ridge(x, hit, np.ones(len(some)), 1e-3, intercept=True)
        return float(np.exp(np.clip(-constant / slope, -20, 20))) if slope > 1e-6 else math.nan

    rng = np.random.default_rng(0)
    draws = [point([rows[place] for place in rng.integers(0, len(rows), len(rows))]) for _ in range(200)]
    known = np.mean(np.isnan(draws)) <= 0.05  # else nothing is known of where the middle is
    low, high = np.nanpercentile(draws, [2.5, 97.5]) if known else (math.nan, math.nan)
    return point(rows), float(low), float(high)


def _member_table(found: Findings) -> Table:
    columns = (
        "features",
        "penalty",
        "active (L0)",
        "variance explained",
        "dead here",
        "loss",
        "loss recovered",
        "over the mean",
        "nats added a token",
    )
    rows = tuple(
        (
            str(own.features),
            f"{own.l1_coefficient:g}",
            number(own.active),
            f"{own.explained:.3f}",
            f"{100 * own.dead:.1f}%",
            number(own.loss),
            f"{own.recovered:.3f}",
            f"{own.recovered_over_mean:.3f}",
            interval(paired_difference(own.reconstructed, own.clean)),
        )
        for own in found.members
    )
    note = (
        "On held-out rows. Loss recovered: of what zeros (or the mean activation) in place of the "
        "stream cost, the share that the reconstruction keeps."
    )
    return Table("What each autoencoder is worth", columns, rows, note)


def _fit_tables(found: Findings) -> list[Table]:
    if not found.fits:
        return []
    rows = []
    for name, (feature, fit) in found.fits.items():
        levels = [interval(own) if own is not None else "-" for own in fit.specificity]
        rows.append(
            (name, str(feature), *levels, interval(fit.sensitivity) if fit.sensitivity is not None else "-")
        )
    count = len(next(iter(found.fits.values()))[1].specificity)
    columns = (
        "predicate",
        "feature",
        *(f"{100 * n // count} to {100 * (n + 1) // count}%" for n in range(count)),
        "sensitivity",
    )
    note = (
        "By interval of activation, the share of firings at which the predicate is true; sensitivity: "
        "the share of true tokens at which the feature fires."
    )
    return [Table("Specificity and sensitivity", columns, tuple(rows), note)]


def _label_tables(found: Findings) -> list[Table]:
    if not found.labels:
        return []
    rows = tuple(
        (str(feature), label, ", ".join(number(own) for own in ratings))
        for feature, label, ratings in found.labels
    )
    return [
        Table(
            "Labels by a model",
            ("feature", "label", "rating 0 to 3, highest interval first"),
            rows,
            "Expected ratings of the same model; drawn features.",
        )
    ]


def _figures(found: Findings) -> list[Figure]:
    figures = []
    if found.attempts:
        lines = [
            Line(
                f"{width} features",
                *_xy(
                    [
                        (math.log10(own.compute), math.log10(own.loss))
                        for own in found.attempts
                        if own.features == width
                    ]
                ),
            )
            for width in sorted({own.features for own in found.attempts})
        ]
        best = Line(
            "lowest",
            *_xy(
                [(math.log10(own.compute), math.log10(own.loss)) for own in compute_frontier(found.attempts)]
            ),
            dots=True,
        )
        figures.append(
            Figure("Loss by compute, planted directions", "log10 operations", "log10 loss", (*lines, best))
        )
    if found.complete:
        lines = [
            Line(f"{width} features", *_xy(_binned([(x, float(hit)) for x, hit in rows])))
            for width, rows in found.complete.items()
        ]
        figures.append(
            Figure(
                "Directions that have a feature",
                "log(frequency x alive features)",
                "share with a feature",
                tuple(lines),
            )
        )
    if len(found.words) >= 12:
        binned = _binned([(x, float(score >= WORD)) for _, x, score in found.words])
        figures.append(
            Figure(
                "Words that have a feature",
                "log(frequency x alive features)",
                "share with a feature",
                (Line("words", *_xy(binned)),),
            )
        )
    if found.steering:
        lines = [
            Line(name, *_xy([(strength, float(np.mean(p))) for strength, p in own.levels]))
            for name, own in found.steering.items()
        ]
        figures.append(
            Figure(
                "Steering", "clamped to, in largest activations", "probability of what follows", tuple(lines)
            )
        )
    if len(found.members) > 1:
        points = sorted((own.active, own.explained) for own in found.members)
        figures.append(
            Figure(
                "Sparsity against fidelity",
                "active features (L0)",
                "variance explained",
                (Line("autoencoders", *_xy(points), dots=True),),
            )
        )
    flat = [(a, b) for own in found.attributions for a, b in zip(own.attribution, own.ablation, strict=True)]
    if flat:
        figures.append(
            Figure(
                "Attribution against ablation",
                "attribution",
                "ablation",
                (Line("features", *_xy(flat), dots=True),),
            )
        )
    return figures


def _xy(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return tuple(float(x) for x, _ in points), tuple(float(y) for _, y in points)


def _binned(points: Sequence[tuple[float, float]], bins: int = 8) -> list[tuple[float, float]]:
    """Means of equal numbers of points, by x."""
    ordered = np.array(sorted(points))
    return [
        (float(part[:, 0].mean()), float(part[:, 1].mean()))
        for part in np.array_split(ordered, min(bins, len(ordered)))
    ]
