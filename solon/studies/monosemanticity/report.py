"""What sparse autoencoders found, beside the paper's claims."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from solon.interpretability.steering import Attribution
from solon.records.report import Claim, Figure, Line, Report, Section, Table, number
from solon.scaling.frontier import TrainingRun, compute_frontier, fit_power_law
from solon.statistics.intervals import Estimate, correlation, mean, paired_difference, proportion
from solon.statistics.logistic import fit_ridge
from solon.studies.monosemanticity.results import (
    AutoencoderWorth,
    FeatureLabel,
    PlantedResults,
    PredicateMatch,
    Results,
    Steering,
    WordMatch,
)
from solon.studies.monosemanticity.settings import Settings
from solon.study.claims import exactly, interval
from solon.study.settings import constants, deviations

FOUND = 0.9  # cosine with a planted direction
WORD = 0.5  # F1 from which a word counts as having a feature
Points = Sequence[tuple[float, float]]

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


def report(settings: Settings, results: Results) -> Report:
    """One section a topic; the widest autoencoder is looked into."""
    main = results.autoencoders[settings.main]
    return Report.of(
        f"Features of {results.model}",
        [
            f"{len(results.autoencoders)} sparse autoencoders on {results.model} after layer {results.layer} "
            f"of {results.depth}, {settings.steps} steps of {settings.batch} activations, which were "
            f"multiplied by {results.scale:.4g}. The page features.html shows what features fire on.",
            f"The widest has {main.features} features: {main.active:.1f} active at a token (L0), "
            f"{100 * main.explained:.1f}% of variance explained, {100 * main.dead:.1f}% of features active "
            "nowhere among the held-out tokens.",
        ],
        [
            planted_section(results.planted) if results.planted else Section(),
            worth_section(results.autoencoders, main),
            match_section(results.predicates, results.words),
            steering_section(results.steering, results.error_moved, settings.strength),
            attribution_section(results.attributions),
            label_section(results.labels),
            count_section(results.counts),
        ],
        deviations=(*DEVIATIONS, *deviations(settings)),
        constants={"decoder rows at the start": "0.1 long", **constants(settings)},
    )


def planted_section(planted: PlantedResults) -> Section:
    """Directions that are known: how many are recovered, what features and steps buy, which get a feature."""
    recovered = [cosine >= FOUND for cosine in planted.cosines]
    share = proportion(recovered, clusters=range(len(recovered)))
    text = "Planted directions that a feature meets with a cosine of 0.9 (0.8 asked for)"
    curves = tuple(
        _line(f"{width} features", _binned([(x, float(hit)) for x, hit in rows]))
        for width, rows in planted.completeness.items()
    )
    return Section(
        claims=(
            Claim.above("planted/recovered", text, share, 0.8),
            Claim.of(
                "planted/cosine",
                "Mean highest cosine of planted directions (MMCS)",
                mean(planted.cosines),
                None,
            ),
            *scaling_claims(planted.trainings),
            *completeness_claims(planted.completeness),
        ),
        figures=(
            scaling_figure(planted.trainings),
            Figure(
                "Directions that have a feature",
                "log(frequency x alive features)",
                "share with a feature",
                curves,
            ),
        ),
    )


def scaling_claims(trainings: Sequence[TrainingRun]) -> Iterator[Claim]:
    """How the lowest loss, and the best number of features, go with compute."""
    best = compute_frontier(trainings)
    if len(best) >= 3:
        compute = [training.compute for training in best]
        law = fit_power_law(compute, [training.loss for training in best])
        text = f"Lowest loss falls as a power of compute: the exponent (R2 {law.r_squared:.3f})"
        yield Claim.below("scaling/loss", text, law.exponent)
        grown = fit_power_law(compute, [float(training.features) for training in best])
        text = (
            "Best number of features as a power of compute: the exponent (above a half: it grows faster "
            "than that of steps)"
        )
        yield Claim.above("scaling/features", text, grown.exponent, 0.5)


def scaling_figure(trainings: Sequence[TrainingRun]) -> Figure:
    """Loss by compute: a curve for each width, and the lowest of all."""

    def points(some: Sequence[TrainingRun]) -> list[tuple[float, float]]:
        return [(math.log10(training.compute), math.log10(training.loss)) for training in some]

    widths = sorted({training.features for training in trainings})
    lines = [
        _line(f"{width} features", points([t for t in trainings if t.features == width])) for width in widths
    ]
    lowest = _line("lowest", points(compute_frontier(trainings)), dots=True)
    title = "Loss by compute, planted directions"
    return Figure(title, "log10 operations", "log10 loss", (*lines, lowest))


def completeness_claims(completeness: Mapping[int, Sequence[tuple[float, bool]]]) -> Iterator[Claim]:
    """At which frequency half of the directions have a feature."""
    for width, rows in completeness.items():
        value, low, high = half_point(rows)
        estimate = Estimate(value, low, high, "logistic fit, bootstrap", len(rows), len(rows))
        text = (
            f"{width} features: frequency x alive features at which half of planted directions have a "
            "feature (within a factor of three of 1)"
        )
        yield Claim.between(f"complete/{width}", text, estimate, 1 / 3, 3.0)


def half_point(rows: Sequence[tuple[float, bool]]) -> tuple[float, float, float]:
    """(frequency x alive features at which half are found, and a 95% interval), by a logistic curve in the
    logarithm; bootstrap over directions.
    """

    def point(drawn: Sequence[tuple[float, bool]]) -> float:
        x, hit = np.array([[x] for x, _ in drawn]), np.array([float(hit) for _, hit in drawn])
        if hit.min() == hit.max():
            return math.nan
        slope, constant = fit_ridge(x, hit, np.ones(len(drawn)), 1e-3, intercept=True)
        return float(np.exp(np.clip(-constant / slope, -20, 20))) if slope > 1e-6 else math.nan

    rng = np.random.default_rng(0)
    draws = [point([rows[index] for index in rng.integers(0, len(rows), len(rows))]) for _ in range(200)]
    known = np.mean(np.isnan(draws)) <= 0.05  # else nothing is known of where the middle is
    low, high = np.nanpercentile(draws, [2.5, 97.5]) if known else (math.nan, math.nan)
    return point(rows), float(low), float(high)


def worth_section(autoencoders: Sequence[AutoencoderWorth], main: AutoencoderWorth) -> Section:
    """What each autoencoder explains, and what its reconstruction costs the model."""
    shares = {
        "explained variance": main.explained,
        "loss recovered, over zero": main.recovered,
        "over the mean": main.recovered_over_mean,
    }
    text = "What the reconstruction in place of the stream costs the model (nats a token, over rows)"
    points = sorted((worth.active, worth.explained) for worth in autoencoders)
    figure = Figure(
        "Sparsity against fidelity",
        "active features (L0)",
        "variance explained",
        (_line("autoencoders", points, dots=True),),
    )
    return Section(
        claims=(
            Claim.of("model/loss", text, paired_difference(main.reconstructed, main.clean), None),
            *(
                Claim.of(
                    f"model/{name}",
                    f"{main.features} features: {name}",
                    exactly(value, "counted", len(main.clean)),
                    None,
                )
                for name, value in shares.items()
            ),
        ),
        tables=(worth_table(autoencoders),),
        figures=(figure,) if len(autoencoders) > 1 else (),
    )


def worth_table(autoencoders: Sequence[AutoencoderWorth]) -> Table:
    """Every autoencoder on held-out rows."""
    rows = tuple(
        (
            str(worth.features),
            f"{worth.l1_coefficient:g}",
            number(worth.active),
            f"{worth.explained:.3f}",
            f"{100 * worth.dead:.1f}%",
            number(worth.loss),
            f"{worth.recovered:.3f}",
            f"{worth.recovered_over_mean:.3f}",
            interval(paired_difference(worth.reconstructed, worth.clean)),
        )
        for worth in autoencoders
    )
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
    note = (
        "On held-out rows. Loss recovered: of what zeros (or the mean activation) in place of the stream "
        "cost, the share that the reconstruction keeps."
    )
    return Table("What each autoencoder is worth", columns, rows, note)


def match_section(predicates: Mapping[str, PredicateMatch], words: Sequence[WordMatch]) -> Section:
    """Features held against what is known of tokens: predicates, and words of all frequencies."""
    claims = tuple(
        Claim.above(
            f"specific/{name}",
            f"Feature {match.feature} in its highest interval with ten firings: tokens that are {name}",
            match.fit.top,
            0.5,
        )
        for name, match in predicates.items()
        if match.fit.top is not None
    )
    rows = tuple(
        (
            name,
            str(match.feature),
            *("-" if share is None else interval(share) for share in match.fit.specificity),
            "-" if match.fit.sensitivity is None else interval(match.fit.sensitivity),
        )
        for name, match in predicates.items()
    )
    count = max((len(match.fit.specificity) for match in predicates.values()), default=0)
    levels = tuple(f"{100 * n // count} to {100 * (n + 1) // count}%" for n in range(count))
    columns = ("predicate", "feature", *levels, "sensitivity")
    note = (
        "By interval of activation, the share of firings at which the predicate is true; sensitivity: the "
        "share of true tokens at which the feature fires."
    )
    binned = _binned([(match.log_frequency, float(match.score >= WORD)) for match in words])
    x, y = "log(frequency x alive features)", "share with a feature"
    figure = Figure("Words that have a feature", x, y, (_line("words", binned),))
    return Section(
        claims=claims,
        tables=(Table("Specificity and sensitivity", columns, rows, note),) if rows else (),
        figures=(figure,) if len(words) >= 12 else (),
    )


def steering_section(steering: Mapping[str, Steering], error_moved: float, strength: float) -> Section:
    """What clamping features does, and that it leaves the rest alone."""
    text = "Clamping moves what is not explained, over the stream's length, in float32 (below 1e-5)"
    untouched = exactly(error_moved, "exact", 512)
    lines = tuple(
        _line(name, [(level, float(np.mean(p))) for level, p in steered.levels])
        for name, steered in steering.items()
    )
    x, y = "clamped to, in largest activations", "probability of what follows"
    return Section(
        claims=(
            *steering_claims(steering, strength),
            Claim.of("steering/error", text, untouched, error_moved < 1e-5),
        ),
        figures=(Figure("Steering", x, y, lines),) if lines else (),
    )


def steering_claims(steering: Mapping[str, Steering], strength: float) -> Iterator[Claim]:
    """How many times likelier the tokens become that a feature should raise."""
    for name, steered in steering.items():
        level, clamped = min(steered.levels, key=lambda level: abs(level[0] - strength))
        gain = paired_difference(np.log(clamped).tolist(), np.log(steered.plain).tolist())
        value, low, high = (math.exp(end) for end in (gain.value, gain.low, gain.high))
        factor = Estimate(value, low, high, f"{gain.method}, of logarithms", gain.n, gain.clusters)
        text = (
            f"Clamped to {level:g} times its largest activation, the feature of {name} multiplies the "
            "probability of what follows it by (5 asked for)"
        )
        yield Claim.above(f"steering/{name}", text, factor, 5.0)


def attribution_section(attributions: Sequence[Attribution]) -> Section:
    """The paper's: attribution goes with ablation at 0.81, activation at 0.12. One correlation for each
    prompt, over its features.
    """
    points = [pair for row in attributions for pair in zip(row.attribution, row.ablation, strict=True)]
    line = _line("features", points, dots=True)
    figure = Figure("Attribution against ablation", "attribution", "ablation", (line,))
    return Section(claims=tuple(attribution_claims(attributions)), figures=(figure,) if points else ())


def attribution_claims(attributions: Sequence[Attribution]) -> Iterator[Claim]:
    """How well attribution and activation go with ablation."""
    usable = [
        row
        for row in attributions
        if len(row.features) >= 4
        and min(np.ptp(np.array([row.activation, row.attribution, row.ablation]), axis=1)) > 0
    ]
    if len(usable) < 2:
        return
    attribution = [correlation(row.attribution, row.ablation).value for row in usable]
    activation = [correlation(row.activation, row.ablation).value for row in usable]
    text = "with ablation over a prompt's features, mean over prompts (the paper:"
    yield Claim.above(
        "attribution/attribution", f"Correlation of attribution {text} 0.81)", mean(attribution), 0.7
    )
    yield Claim.of(
        "attribution/activation", f"Correlation of activation {text} 0.12)", mean(activation), None
    )
    gap = paired_difference(attribution, activation)
    yield Claim.above("attribution/gap", "The first less the second (0.3 asked for)", gap, 0.3)


def label_section(labels: Sequence[FeatureLabel]) -> Section:
    """What a model says that features stand for."""
    rows = tuple((str(label.feature), label.label, ", ".join(map(number, label.ratings))) for label in labels)
    columns = ("feature", "label", "rating 0 to 3, highest interval first")
    note = "Expected ratings of the same model; drawn features."
    return Section(tables=(Table("Labels by a model", columns, rows, note),) if rows else ())


def count_section(counts: Mapping[str, int]) -> Section:
    """What was read and left out."""
    held_out = counts["tokens held out"]
    warning = f"only {held_out} tokens were held out: rare features look dead"
    return Section(counts=counts, warnings=(warning,) if held_out < 1_000_000 else ())


def _line(label: str, points: Points, *, dots: bool = False) -> Line:
    x, y = (tuple(float(point[axis]) for point in points) for axis in (0, 1))
    return Line(label, x, y, dots=dots)


def _binned(points: Points, bins: int = 8) -> list[tuple[float, float]]:
    """Means of equal numbers of points, by x."""
    ordered = np.array(sorted(points)).reshape(-1, 2)
    return [
        (float(part[:, 0].mean()), float(part[:, 1].mean()))
        for part in np.array_split(ordered, max(1, min(bins, len(ordered))))
        if len(part)
    ]
