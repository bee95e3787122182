"""HH-RLHF's report: one section a topic, the paper's numbers beside ours, every deviation listed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from solon.alignment.outliers import Separation
from solon.alignment.quality import (
    ScoredComparison,
    accuracy,
    accuracy_above_quantile,
    accuracy_by_turn,
    calibration_error,
    length_correlation,
)
from solon.models.base import Sample
from solon.records.report import Claim, Exhibit, Figure, Report, Section, Table
from solon.statistics.intervals import mean
from solon.studies.helpful_harmless.climb import BestOf, Laws, Steps, bends, climb_section, fit_laws
from solon.studies.helpful_harmless.inputs import Inputs
from solon.studies.helpful_harmless.learning import AXES, ByAxis, Cell
from solon.studies.helpful_harmless.outliers import outlier_section
from solon.studies.helpful_harmless.settings import Settings
from solon.studies.helpful_harmless.tournament import TITLES, Games, Scores, tournament_section
from solon.study.claims import banded, interval
from solon.study.sections import calibration_figure, evenly_spaced, quality_warnings
from solon.study.settings import constants, deviations

BASELINE = 4  # replies of the start to each prompt of reinforcement, which the policy's are set against


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """Everything the report prints; what was not made is empty. `mixtures` are by share of harmless
    comparisons, `lambdas` by weight, `players` the first reply to each held-out prompt, `gains` what the last
    rollouts scored over the start (prompt, nats).
    """

    cells: Sequence[Cell]
    mixtures: Mapping[float, ByAxis]
    lambdas: Mapping[float, ByAxis]
    quality: Mapping[str, Sequence[ScoredComparison]]
    steps: Steps
    best: BestOf
    players: Mapping[str, Sequence[Sample]]
    scores: Scores
    games: Games
    gains: Sequence[tuple[str, float]]
    by_distance: Sequence[Separation]
    by_exposure: Sequence[Separation]
    counts: Mapping[str, int]


def report(settings: Settings, inputs: Inputs, results: Results) -> Report:
    """One section a topic."""
    laws = fit_laws(results.steps)
    sections = [
        growth_section(results.cells),
        quality_section(results.quality),
        mixture_section(results.mixtures, results.lambdas),
        climb_section(results.steps, results.best, results.scores, inputs.held_out, laws),
        tournament_section(
            inputs.held_out,
            results.scores,
            results.games,
            results.gains,
            annotator=inputs.annotator,
            unsure=settings.unsure,
        ),
        outlier_section(results.by_distance, results.by_exposure, inputs),
        Section(tables=(beside_the_paper(results, laws),), counts=results.counts),
        gallery_section(inputs, results.players),
    ]
    claims = {claim.name: claim for section in sections for claim in section.claims}
    ours = {"replies of the start that a step's scores are set against, a prompt": str(BASELINE)}
    return Report.of(
        "HH-RLHF: preference models, a policy that climbs one, and what the other says",
        (*summary(claims), *bends(laws)),
        sections,
        deviations=(*list_deviations(settings, inputs, bool(results.by_distance)), *deviations(settings)),
        constants=constants(settings) | ours,
    )


def summary(claims: Mapping[str, Claim]) -> list[str]:
    """The largest preference model, the climb, and iterated training, where each was measured."""
    lines = [
        f"The largest preference model is right on {claims['accuracy'].found:.1%} of held-out comparisons."
    ]
    if "law_train_pm" in claims and "law_test_pm" in claims:
        moves = {True: "rises with", False: "falls with", None: "is not shown to move with"}
        lines.append(
            f"As the policy climbs, the train PM's score {moves[claims['law_train_pm'].holds]} the root of "
            f"the KL, and the test PM's {moves[claims['law_test_pm'].holds]} it."
        )
    if "online_over_once" in claims:
        claim = claims["online_over_once"]
        verdict = {True: "beats", False: "loses to", None: "is not shown to differ from"}[claim.holds]
        lines.append(
            f"Iterated online training {verdict} one round of as many comparisons ({claim.found:.1%} of "
            "held-out games)."
        )
    return lines


def largest(cells: Sequence[Cell]) -> Cell:
    """The cell of the most layers and, of these, the most comparisons."""
    return max(cells, key=lambda cell: (cell.depth, cell.size))


def growth_section(cells: Sequence[Cell]) -> Section:
    """Accuracy of the largest model, and what doubling the data adds at each depth."""
    best = largest(cells)
    text = f"accuracy on held-out comparisons, learned from {best.size}"
    claims, lines, rows = [Claim.above("accuracy", text, best.accuracy, 0.5)], [], []
    for depth in sorted({cell.depth for cell in cells}):
        column = sorted((cell for cell in cells if cell.depth == depth), key=lambda cell: cell.size)
        sizes, estimates = [cell.size for cell in column], [cell.accuracy for cell in column]
        x = tuple(math.log10(size) for size in sizes)
        lines.append(banded(f"{depth:.0%} of the layers", x, estimates))
        rows += [
            (f"{depth:.0%}", str(size), interval(estimate))
            for size, estimate in zip(sizes, estimates, strict=True)
        ]
        if len(column) > 1:
            doublings = np.log2(sizes) - np.log2(sizes).mean()
            weights = doublings / float(np.square(doublings).sum())
            gain = mean(list(weights @ np.array([cell.right for cell in column])), clusters=best.dialogues)
            text = f"accuracy gained by doubling the comparisons, on {depth:.0%} of the layers"
            claims.append(Claim.above(f"doubling_{depth:g}", text, gain))
    title = "Accuracy over data and size"
    note = "Over the draws of each size; the interval is over held-out dialogues."
    return Section(
        claims=tuple(claims),
        tables=(Table(title, ("layers", "comparisons", "accuracy"), tuple(rows), note),),
        figures=(Figure(title, "log10 of comparisons", "held-out accuracy", tuple(lines)),),
    )


def quality_section(quality: Mapping[str, Sequence[ScoredComparison]]) -> Section:
    """Accuracy by turn and by score, calibration, and length, of the two models of half the comparisons."""
    claims, turns, high, lengths = [], [], [], []
    titled = {TITLES[name]: rows for name, rows in quality.items()}
    for name, rows in quality.items():
        title = TITLES[name]
        text = f"accuracy of the {title}, of half the comparisons"
        claims.append(Claim.above(f"accuracy_{name}", text, accuracy(rows), 0.5))
        text = f"calibration error of the {title} against 1/(1+e^-d)"
        claims.append(Claim.of(f"calibration_{name}", text, calibration_error(rows), None))
        for turn, right in accuracy_by_turn(rows).items():
            turns.append((title, str(turn), interval(right), str(right.n)))
        for share, right in accuracy_above_quantile(rows).items():
            border = "all" if share == 0 else f"above {share:.0%} of all scores"
            high.append((title, border, interval(right), str(right.n)))
        lengths.append((title, interval(length_correlation(rows))))
    turn_columns = ("model", "human turns before", "accuracy", "n")
    note = "The last turn stands for all later ones."
    high_columns = ("model", "both scores", "accuracy", "n")
    length_title = "Score differences against differences of length"
    return Section(
        claims=tuple(claims),
        tables=(
            Table("Accuracy by turn", turn_columns, tuple(turns), note),
            Table("Accuracy where both scores are high", high_columns, tuple(high)),
            Table(length_title, ("model", "correlation"), tuple(lengths)),
        ),
        figures=(calibration_figure(titled),),
        warnings=tuple(quality_warnings(titled)),
    )


def mixture_section(mixtures: Mapping[float, ByAxis], lambdas: Mapping[float, ByAxis]) -> Section:
    """A model of one kind of comparison alone on the other: the paper finds it far below chance."""
    if not mixtures:
        return Section(
            warnings=(
                "There are not eight comparisons of both kinds to learn from and to measure with: mixtures "
                "and weights were not studied.",
            )
        )
    claims = []
    for share, axis, other in ((0.0, "helpful", "harmless"), (1.0, "harmless", "helpful")):
        if share in mixtures:
            text = (
                f"accuracy on {other} comparisons of a model that learned from {axis} ones alone is below "
                "one half"
            )
            claims.append(Claim.below(f"{axis}_alone_on_{other}", text, mixtures[share][other], 0.5))

    def table(title: str, column: str, cells: Mapping[str, ByAxis]) -> Table:
        rows = tuple(
            (label, *(interval(accuracies[axis]) for axis in AXES)) for label, accuracies in cells.items()
        )
        return Table(title, (column, "helpful accuracy", "harmless accuracy"), rows)

    shares = {f"{share:.0%}": accuracies for share, accuracies in mixtures.items()}
    weights = {f"{weight:g}": accuracies for weight, accuracies in lambdas.items()}
    lines = tuple(
        banded(axis, tuple(mixtures), [accuracies[axis] for accuracies in mixtures.values()]) for axis in AXES
    )
    return Section(
        claims=tuple(claims),
        tables=(
            table("Mixtures, at an equal number of comparisons", "harmless share", shares),
            table("Weights of the harmless part of the loss", "lambda", weights),
        ),
        figures=(Figure("Mixtures", "share of harmless comparisons", "accuracy", lines),),
    )


def beside_the_paper(results: Results, laws: Laws) -> Table:
    """The paper's models are 13M to 52B parameters and its comparisons tens of thousands: shapes are to be
    compared, not numbers.
    """
    fit = "0.72 + 0.007 log(P/1e11) + 0.015 log(D/8e4), helpful comparisons alone"
    rows = [("accuracy of a preference model", fit, interval(largest(results.cells).accuracy))]
    mixtures = results.mixtures
    if {0.0, 1.0} <= set(mixtures):
        apart = f"{mixtures[0.0]['harmless'].value:.3f} and {mixtures[1.0]['helpful'].value:.3f}"
        rows.append(("one kind alone, on the other kind", "far below one half", apart))
    for judge, law in laws.items():
        fitted = "not fitted" if law is None else f"b = {interval(law.b)}"
        rows.append((f"score of the {TITLES[judge]} against sqrt(KL)", "nearly a straight line", fitted))
    outliers = (
        ("by distance", "AUROC about 0.85", results.by_distance),
        ("with ten known", "AUROC 0.94 at 52B, 0.86 at 13M", results.by_exposure),
    )
    for way, theirs, layers in outliers:
        if layers:
            ours = f"{max(layer.mean for layer in layers):.3f}"
            rows.append((f"out-of-distribution prompts {way}, best layer", theirs, ours))
    return Table("Beside the paper", ("what", "the paper", "here"), tuple(rows))


def gallery_section(inputs: Inputs, players: Mapping[str, Sequence[Sample]]) -> Section:
    """Four held-out prompts at even distances, and what every player says to them."""
    if inputs.annotate is None:
        warning = "No one compares replies (--annotator): iterated training and judge Elo were not studied."
    return Section(
        gallery=tuple(
            Exhibit(
                inputs.held_out[index].last,
                tuple((player, samples[index].text) for player, samples in players.items()),
            )
            for index in evenly_spaced(len(inputs.held_out), 4)
        ),
        warnings=(warning,) if inputs.annotate is None else (),
    )


def list_deviations(settings: Settings, inputs: Inputs, outliers: bool) -> list[str]:
    """What differs from the paper beside what the settings say of themselves."""
    heads = (
        "mixtures and the weights" if settings.finetuned else "learning curve, the mixtures and the weights"
    )
    lines = [
        "Sizes of model are shares of the layers of one model, not models trained apart (section 3 of the "
        "paper has seven sizes).",
        "No preference-model pretraining (section 2.4): models start from the language model.",
        "The policy starts from the model itself, not from a context-distilled one, and its prompts are "
        "those given (section 4.1 adds model-written ones).",
        "The root law's interval takes the steps as independent.",
        f"Models of the {heads}mixtures and the weights are heads on frozen states (ridge, "
        "cross-validated), not trained through.",
    ]
    if inputs.annotate is not None:
        lines.append(f"New comparisons, and the tournament's, are made by {inputs.annotator}, not by people.")
    if outliers:
        lines.append(
            "A prompt is the mean of a layer's output over its tokens, standardised; the covariance is "
            "shrunk towards its diagonal (Ledoit-Wolf)."
        )
    return lines
