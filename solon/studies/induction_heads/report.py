"""What induction heads did in the models trained here, beside the paper's claims."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from solon.interpretability.induction import (
    Head,
    HeadScores,
    first_crossing,
    principal_components,
    steepest_fall,
)
from solon.records.report import Claim, Figure, Line, Report, Section, Table, number
from solon.statistics.intervals import Estimate, mean, paired_difference
from solon.studies.induction_heads.results import Ablation, Results, Snapshot, prefix_estimate
from solon.studies.induction_heads.settings import KINDS, Settings
from solon.study.claims import exactly, interval
from solon.study.settings import constants, deviations

NEAR = 0.1  # of all steps, within which two events count as one
Curves = Mapping[str, Sequence[Snapshot]]


def report(settings: Settings, results: Results) -> Report:
    """One section a topic."""
    summary = (
        f"{len(results.curves)} small transformers, {settings.steps} steps of {settings.batch} rows of "
        f"{settings.length} tokens, half of which repeat a random block; measured {settings.snapshots + 1} "
        f"times on {settings.held_out} held-out rows. The in-context score is the loss at token "
        f"{settings.late} less that at token {settings.early}, nats."
    )
    return Report.of(
        "Induction heads",
        [summary],
        [
            context_section(results.curves),
            heads_section(results),
            phase_section(results.curves, settings.steps),
            ablation_section(results.ablations),
            paths_section(results.path_errors),
        ],
        deviations=(
            "The models have one to three layers and read rows that repeat themselves. The paper's have up "
            "to 40 layers and read text.",
            f"The in-context score is of tokens {settings.late} and {settings.early}, not 500 and 50; "
            "per-token losses are of one token of every held-out row.",
            "Heads are scored on blocks as long as those trained on, twice over; on a given model as in the "
            "paper: 25 tokens, four times.",
            "Asked for here: a prefix matching of 0.5 and not 0.8, and 0.6 of the score gone without all "
            "inducers, which share the work, not without one head.",
            "The QK trace of the paper's appendix is not computed.",
            *deviations(settings),
        ),
        constants=constants(settings),
    )


def context_section(curves: Curves) -> Section:
    """Whether two layers use context, and one layer does not."""
    one, two = curves["1 layer"][-1].in_context, curves["2 layers"][-1].in_context
    return Section(
        claims=(
            Claim.below("context/two", "2 layers: in-context score (below -0.5 asked for)", mean(two), -0.5),
            Claim.above(
                "context/one",
                "1 layer less 2 layers: in-context score (above 0.5 asked for)",
                paired_difference(one, two),
                0.5,
            ),
        ),
        figures=(curve_figure("In-context score", "nats", curves, lambda snapshot: snapshot.score),),
    )


def heads_section(results: Results) -> Section:
    """Whether there are induction heads: in the second layer, and not in a single one."""
    text = "prefix matching of the best head of the"
    two = results.heads["2 layers"]
    one = results.heads["1 layer"]
    claims = (
        Claim.above(
            "prefix/2 layers",
            f"2 layers: {text} second layer (above 0.5 asked for)",
            prefix_estimate(two, best_head(two, 1)),
            0.5,
        ),
        Claim.below(
            "prefix/1 layer",
            f"1 layer: {text} only layer (below 0.3 asked for)",
            prefix_estimate(one, best_head(one, 0)),
            0.3,
        ),
    )
    rows = []
    for kind, scores in results.heads.items():
        for layer, previous in enumerate(results.curves[kind][-1].previous):
            best = best_head(scores, layer)
            prefix = f"{number(scores.prefix_LH[best])} ({number(scores.prefix_error_LH[best])})"
            rows.append((kind, str(layer + 1), prefix, number(scores.copying_LH[best]), number(previous)))
    columns = (
        "model",
        "layer",
        "best prefix matching (error)",
        "copying of that head",
        "best previous-token",
    )
    note = "Copying from -1 to 1; errors over draws."
    figure = curve_figure(
        "Best prefix-matching head", "attention", results.curves, lambda snapshot: max(snapshot.prefix)
    )
    return Section(
        claims=claims, tables=(Table("Heads at the end", columns, tuple(rows), note),), figures=(figure,)
    )


def best_head(scores: HeadScores, layer: int) -> Head:
    """The head of a layer with the highest prefix matching."""
    return layer, int(scores.prefix_LH[layer].argmax())


def phase_section(curves: Curves, steps: int) -> Section:
    """When the ability comes: with the heads, and sooner where keys are smeared."""
    return Section(
        claims=(*together_claims(curves, steps), *smeared_claims(curves, steps)),
        figures=(
            curve_figure("Loss", "nats a token", curves, lambda snapshot: snapshot.loss),
            trajectories(curves),
        ),
    )


def together_claims(curves: Curves, steps: int) -> Iterator[Claim]:
    """Whether the in-context score falls when the heads form, of every kind that can form them."""
    for kind, curve in curves.items():
        rise = rise_of_heads(curve) if KINDS[kind].layers > 1 or KINDS[kind].smeared_keys else None
        if rise is not None:
            apart = abs(fall_of_score(curve) - rise) / steps
            text = (
                f"{kind}: steps between the steepest fall of the in-context score and the rise of the best "
                "head to half of its end, over all (0.1 asked for)"
            )
            yield Claim.of(f"together/{kind}", text, exactly(apart, "counted", len(curve)), apart <= NEAR)


def smeared_claims(curves: Curves, steps: int) -> Iterator[Claim]:
    """Whether smeared keys give the ability, and how much sooner."""
    for kind, curve in curves.items():
        if KINDS[kind].smeared_keys:
            text = f"{kind}: in-context score (below -0.4 asked for)"
            yield Claim.below(f"smeared/{kind}", text, mean(curve[-1].in_context), -0.4)
            sooner = (fall_of_score(curves["2 layers"]) - fall_of_score(curve)) / steps
            text = f"{kind}: how much sooner than with 2 layers the score falls, of all steps"
            yield Claim.of(f"sooner/{kind}", text, exactly(sooner, "counted", len(curve)), None)


def fall_of_score(curve: Sequence[Snapshot]) -> int:
    """The step where the in-context score falls fastest."""
    step, _ = steepest_fall([snapshot.step for snapshot in curve], [snapshot.score for snapshot in curve])
    return step


def rise_of_heads(curve: Sequence[Snapshot]) -> int | None:
    """The step where the best prefix-matching head is at half of its end; None where none forms."""
    best = [max(snapshot.prefix) for snapshot in curve]
    steps = [snapshot.step for snapshot in curve]
    return first_crossing(steps, best, best[-1] / 2) if best[-1] > 0.2 else None


def ablation_section(ablations: Mapping[str, Ablation]) -> Section:
    """How much of the ability is gone without induction heads: shares of the in-context score."""
    claims: list[Claim] = []
    rows = []
    for kind, ablation in ablations.items():
        best = share_gone(ablation.best, ablation.clean)
        inducers = share_gone(ablation.inducers, ablation.clean)
        others = share_gone(ablation.others, ablation.clean)
        score = number(float(np.mean(ablation.clean)))
        rows.append((kind, score, *map(interval, (best, inducers, others)), str(ablation.count)))
        if KINDS[kind].layers > 1 and not KINDS[kind].smeared_keys:
            layer, head = ablation.best_head
            share = "share of the in-context score on repeats that is gone"
            claims += [
                Claim.above(
                    f"silenced/{kind}/best",
                    f"{kind}: {share} without head {layer}.{head}, patterns held",
                    best,
                ),
                Claim.above(
                    f"silenced/{kind}/all",
                    f"{kind}: gone without all {ablation.count} heads of prefix matching 0.3 (0.6 asked for)",
                    inducers,
                    0.6,
                ),
                Claim.below(
                    f"silenced/{kind}/others",
                    f"{kind}: gone without one other head, on average (below 0.15 asked for)",
                    others,
                    0.15,
                ),
            ]
    columns = (
        "model",
        "in-context score on repeats",
        "gone without the best head",
        "without all inducers",
        "without another head",
        "inducers",
    )
    note = "Shares of the score; t intervals over rows."
    table = Table("Pattern-preserving ablation", columns, tuple(rows), note)
    return Section(claims=tuple(claims), tables=(table,))


def share_gone(ablated: Sequence[float], clean: Sequence[float]) -> Estimate:
    """The share of the mean in-context score that is gone, with the interval of its difference by row."""
    whole, gap = float(np.mean(clean)), paired_difference(ablated, clean)
    low, high = sorted((gap.low / -whole, gap.high / -whole))
    method = f"{gap.method}, over the mean score"
    return Estimate(gap.value / -whole, low, high, method, gap.n, gap.clusters)


def paths_section(errors: Mapping[str, float]) -> Section:
    """Whether a model without MLPs is the sum of its paths."""
    text = (
        "logits less the sum of the embedding and every head's write, patterns and norms held, over the "
        "largest logit (below 1e-4)"
    )
    return Section(
        claims=tuple(
            Claim.of(f"paths/{kind}", f"{kind}: {text}", exactly(error, "exact", 1), error < 1e-4)
            for kind, error in errors.items()
        )
    )


def curve_figure(title: str, unit: str, curves: Curves, value: Callable[[Snapshot], float]) -> Figure:
    """One number of every snapshot, a curve for each kind."""
    lines = tuple(
        Line(kind, tuple(float(snapshot.step) for snapshot in curve), tuple(map(value, curve)))
        for kind, curve in curves.items()
    )
    return Figure(title, "step", unit, lines)


def trajectories(curves: Curves) -> Figure:
    """Per-token losses of all snapshots of all models in their two principal components; a path bends where
    its heads form.
    """
    # the untrained would be most of the variance
    trained = {kind: curve[1:] for kind, curve in curves.items()}
    points = principal_components(
        np.array([snapshot.single for curve in trained.values() for snapshot in curve])
    )
    lines, first = [], 0
    for kind, curve in trained.items():
        path = points[first : first + len(curve)]
        first += len(curve)
        lines.append(Line(kind, tuple(map(float, path[:, 0])), tuple(map(float, path[:, 1]))))
    two = curves["2 layers"]
    note = (
        f"Turns furthest: 2 layers at step {turning_step(two[1:])}; its score falls fastest at "
        f"{fall_of_score(two)}."
    )
    return Figure("Per-token losses", "first component", "second component", tuple(lines), note)


def turning_step(curve: Sequence[Snapshot]) -> int:
    """The step at which the path of per-token losses turns furthest."""
    moves = np.diff(principal_components(np.array([snapshot.single for snapshot in curve])), axis=0)

    def turn(before: np.ndarray, after: np.ndarray) -> float:
        lengths = np.linalg.norm(before), np.linalg.norm(after)
        cosine = float(np.clip(before @ after / max(lengths[0] * lengths[1], 1e-12), -1, 1))
        return math.acos(cosine) * float(min(lengths))

    turns = [turn(before, after) for before, after in itertools.pairwise(moves)]
    return curve[int(np.argmax(turns)) + 1].step
