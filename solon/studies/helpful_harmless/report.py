"""HH-RLHF's report: what was found, beside what the paper found, with intervals, figures and every
deviation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from solon.alignment.outliers import Separation
from solon.alignment.overoptimisation import SqrtKLLaw, best_of_n_kl, overoptimisation_warning
from solon.alignment.quality import (
    accuracy,
    accuracy_above_quantile,
    accuracy_by_turn,
    calibration_error,
    length_correlation,
)
from solon.data.published import first_human_text
from solon.records.report import Claim, Exhibit, Report, Table, number
from solon.statistics.calibration import MIN_ITEMS
from solon.statistics.intervals import Estimate, mean, paired_difference, proportion
from solon.studies.helpful_harmless.evidence import AXES, BASELINE, NAMES, Findings
from solon.studies.helpful_harmless.figures import bends, figures, law
from solon.studies.helpful_harmless.settings import Inputs
from solon.studies.helpful_harmless.tournament import decomposition, elo, elo_table, judges_of
from solon.study.claims import interval, rate, sign


def report(facts: Mapping[str, Any], found: Findings, inputs: Inputs) -> Report:
    """`facts` are the settings."""
    laws = {name: law(found.steps, name) for name in NAMES}
    claims = [
        *growth_claims(found),
        *quality_claims(found),
        *mixture_claims(found),
        *climb_claims(found, inputs, laws),
        *online_claims(found, inputs),
    ]
    claims += outlier_claims(found)
    return Report(
        "HH-RLHF: preference models, a policy that climbs one, and what the other says",
        (*summary(claims), *bends(laws)),
        tuple(claims),
        tuple(warnings(found, inputs, laws)),
        tuple(tables(found, facts, inputs, laws)),
        tuple(figures(found, laws)),
        tuple(gallery(found, inputs)),
        counts=found.counts,
        deviations=tuple(deviations(facts, found, inputs)),
        constants=constants(facts),
    )


def summary(claims: Sequence[Claim]) -> tuple[str, ...]:
    by = {claim.name: claim for claim in claims}
    words = [
        f"The largest preference model is right on {by['accuracy'].found:.1%} of held-out comparisons."
        if "accuracy" in by
        else ""
    ]
    if "law_train_pm" in by and "law_test_pm" in by:
        shown = {True: "rises with", False: "falls with", None: "is not shown to move with"}
        words.append(
            f"As the policy climbs, the train PM's score {shown[by['law_train_pm'].holds]} the root of the "
            f"KL, and the test PM's {shown[by['law_test_pm'].holds]} it."
        )
    if "online_over_once" in by:
        claim = by["online_over_once"]
        verdict = {True: "beats", False: "loses to", None: "is not shown to differ from"}[claim.holds]
        words.append(
            f"Iterated online training {verdict} one round of as many comparisons ({claim.found:.1%} of "
            "held-out games)."
        )
    return tuple(filter(None, words))


# claims


def growth_claims(found: Findings) -> list[Claim]:
    """Accuracy of the largest model, and what doubling the data adds at each depth."""
    largest = max(found.cells, key=lambda cell: (cell.depth, cell.size))
    names = [row.dialogue for row in largest.rows]
    right = rate(largest.right, names)
    made = [
        Claim.of(
            "accuracy",
            f"accuracy on held-out comparisons, learned from {largest.size}",
            right,
            sign(right, 0.5),
        )
    ]
    for depth in sorted({cell.depth for cell in found.cells}):
        cells = sorted((cell for cell in found.cells if cell.depth == depth), key=lambda cell: cell.size)
        if len(cells) > 1:
            x = np.log2([cell.size for cell in cells])
            weights = (x - x.mean()) / float(np.square(x - x.mean()).sum())
            gain = mean(list(weights @ np.array([cell.right for cell in cells])), clusters=names)
            made.append(
                Claim.of(
                    f"doubling_{depth:g}",
                    f"accuracy gained by doubling the comparisons, on {depth:.0%} of the layers",
                    gain,
                    sign(gain),
                )
            )
    return made


def quality_claims(found: Findings) -> list[Claim]:
    made = []
    for name, rows in found.quality.items():
        right, error = accuracy(rows), calibration_error(rows)
        made.append(
            Claim.of(
                f"accuracy_{name}",
                f"accuracy of the {NAMES[name]}, of half the comparisons",
                right,
                sign(right, 0.5),
            )
        )
        made.append(
            Claim.of(
                f"calibration_{name}",
                f"calibration error of the {NAMES[name]} against 1/(1+e^-d)",
                error,
                None,
            )
        )
    return made


def mixture_claims(found: Findings) -> list[Claim]:
    """A model of one kind of comparison alone on the other: the paper finds it far below chance."""
    made = []
    for share, axis, other in ((0.0, "helpful", "harmless"), (1.0, "harmless", "helpful")):
        if share in found.mixtures:
            estimate = found.mixtures[share][other]
            text = (
                f"accuracy on {other} comparisons of a model that learned from {axis} ones alone is "
                "below one half"
            )
            made.append(
                Claim.of(
                    f"{axis}_alone_on_{other}",
                    text,
                    estimate,
                    {True: False, False: True, None: None}[sign(estimate, 0.5)],
                )
            )
    return made


def climb_claims(found: Findings, inputs: Inputs, laws: Mapping[str, SqrtKLLaw | None]) -> list[Claim]:
    made = []
    for name, fitted in laws.items():
        if fitted is not None:
            text = f"score of the {NAMES[name]} gained for each root nat of KL (k3, summed over the reply)"
            made.append(Claim.of(f"law_{name}", text, fitted.b, sign(fitted.b)))
    for name, words in NAMES.items():
        dialogues = [first_human_text(prompt) for prompt in inputs.held_out]
        gain = paired_difference(
            found.scores["policy"][name], found.scores["start"][name], clusters=dialogues
        )
        text = f"the policy over the start on held-out prompts by the {words}, nats"
        made.append(Claim.of(f"gain_{name}", text, gain, sign(gain)))
    return made


def online_claims(found: Findings, inputs: Inputs) -> list[Claim]:
    # there may be no games
    rows = zip(inputs.held_out, found.games.get(("once", "online"), ()), strict=False)
    votes = [
        (first_human_text(prompt), game.p_first < 0.5)
        for prompt, game in rows
        if abs(game.p_first - 0.5) > found.unsure
    ]
    if not votes:
        return []
    won = proportion([vote for _, vote in votes], clusters=[dialogue for dialogue, _ in votes])
    text = "games that iterated training wins over one round of as many comparisons, by whoever compares"
    return [Claim.of("online_over_once", text, won, sign(won, 0.5))]


def outlier_claims(found: Findings) -> list[Claim]:
    """Of the middle layer, named before looking: the best of all layers would be chosen by its luck."""
    made = []
    for name, rows, words in (
        ("far", found.far, "distance alone"),
        ("exposed", found.exposed, "a few known outliers"),
    ):
        if rows:
            estimate = rows[len(rows) // 2].estimate
            text = f"AUROC of strange prompts over ordinary ones at the middle layer, by {words}"
            made.append(Claim.of(f"outliers_{name}", text, estimate, sign(estimate, 0.5)))
    return made


# warnings


def warnings(found: Findings, inputs: Inputs, laws: Mapping[str, SqrtKLLaw | None]) -> list[str]:
    made = []
    for name, rows in found.quality.items():
        if accuracy(rows).low <= 0.5:
            made.append(
                f"The {NAMES[name]} is not shown to beat chance on held-out comparisons: what follows from "
                "its scores means nothing."
            )
        if len(rows) < MIN_ITEMS:
            made.append(f"Calibration of {len(rows)} comparisons, under {MIN_ITEMS}, is mostly noise.")
        leaning = length_correlation(rows)
        if leaning is not None and (leaning.low > 0.3 or leaning.high < -0.3):
            made.append(
                f"The {NAMES[name]} follows length: its score differences correlate {leaning.value:.2f} "
                "with word counts."
            )
    over = overoptimisation_warning(
        [row["train_pm"] for row in found.steps], [row["test_pm"] for row in found.steps]
    )
    if over:
        made.append(over[0].upper() + over[1:])
    made += [
        f"The {NAMES[name]}'s root law could not be fitted: too few steps, or a policy that never moved."
        for name, own in laws.items()
        if own is None
    ]
    made += [words for words in (elo(found, judge)[1] for judge in judges_of(found)) if words]
    if ("once", "online") in found.games and not online_claims(found, inputs):
        made.append(
            "Whoever compares could tell no replies of iterated and of one-round training apart: that "
            "comparison says nothing."
        )
    choices, votes = elo(found, "test_pm")[0], elo(found, "annotator")[0] if found.games else {}
    if "policy" in choices and "policy" in votes and choices["policy"].low > votes["policy"].high:
        made.append(
            f"The policy stands {choices['policy'].elo:.0f} Elo over the start by the test PM's choices "
            f"and {votes['policy'].elo:.0f} by {inputs.annotator}: "
            "part of what it gains by preference models is not there for others. Read the gallery."
        )
    if not found.mixtures:
        made.append(
            "There are not eight comparisons of both kinds to learn from and to measure with: mixtures and "
            "weights were not studied."
        )
    if not found.far:
        made.append(
            f"{len(inputs.in_distribution)} ordinary and {len(inputs.out_of_distribution)} strange prompts "
            "are too few: they were not told apart (16 ordinary ones)."
        )
    if inputs.annotate is None:
        made.append(
            "No one compares replies (--annotator): iterated online training and judge Elo were not studied."
        )
    return list(dict.fromkeys(made))


def gallery(found: Findings, inputs: Inputs) -> list[Exhibit]:
    """Four held-out prompts at even distances, not chosen by result, and what every player says to them."""
    places = range(0, len(inputs.held_out), max(1, len(inputs.held_out) // 4))
    return [
        Exhibit(
            inputs.held_out[place].last,
            tuple((player, said[place].text) for player, said in found.said.items()),
        )
        for place in list(places)[:4]
    ]


# tables


def tables(
    found: Findings, facts: Mapping[str, Any], inputs: Inputs, laws: Mapping[str, SqrtKLLaw | None]
) -> list[Table]:
    made = [growth_table(found), *quality_tables(found)]
    if found.mixtures:
        rows = tuple(
            (f"{share:.0%}", *(interval(own[axis]) for axis in AXES)) for share, own in found.mixtures.items()
        )
        made.append(
            Table(
                "Mixtures, at an equal number of comparisons",
                ("harmless share", "helpful accuracy", "harmless accuracy"),
                rows,
            )
        )
        rows = tuple(
            (f"{weight:g}", *(interval(own[axis]) for axis in AXES)) for weight, own in found.lambdas.items()
        )
        made.append(
            Table(
                "Weights of the harmless part of the loss",
                ("lambda", "helpful accuracy", "harmless accuracy"),
                rows,
            )
        )
    made += [law_table(laws), best_table(found), elo_table(found, inputs), decomposition(found, inputs)]
    if found.far:
        made.append(outlier_table(found))
    return [*made, beside_the_paper(found, laws)]


def growth_table(found: Findings) -> Table:
    cells = sorted(found.cells, key=lambda cell: (cell.depth, cell.size))
    rows = tuple(
        (f"{cell.depth:.0%}", str(cell.size), interval(rate(cell.right, [row.dialogue for row in cell.rows])))
        for cell in cells
    )
    note = "Over the draws of each size; the interval is over held-out dialogues."
    return Table("Accuracy over data and size", ("layers", "comparisons", "accuracy"), rows, note)


def quality_tables(found: Findings) -> list[Table]:
    turns, high = [], []
    for name, rows in found.quality.items():
        turns += [
            (NAMES[name], str(turn), interval(own), str(own.n))
            for turn, own in accuracy_by_turn(rows).items()
        ]
        high += [
            (
                NAMES[name],
                "all" if share == 0 else f"above {share:.0%} of all scores",
                interval(own),
                str(own.n),
            )
            for share, own in accuracy_above_quantile(rows).items()
        ]
    lengths = [(NAMES[name], interval(length_correlation(rows))) for name, rows in found.quality.items()]
    return [
        Table(
            "Accuracy by turn",
            ("model", "human turns before", "accuracy", "n"),
            tuple(turns),
            "The last turn stands for all later ones.",
        ),
        Table("Accuracy where both scores are high", ("model", "both scores", "accuracy", "n"), tuple(high)),
        Table("Score differences against differences of length", ("model", "correlation"), tuple(lengths)),
    ]


def law_table(laws: Mapping[str, SqrtKLLaw | None]) -> Table:
    rows = []
    for name, own in laws.items():
        if own is not None:
            ends = "not before the last step" if own.bend_kl is None else f"{number(own.bend_kl)} nats"
            rows.append((NAMES[name], number(own.a), interval(own.b), str(own.n), ends))
    return Table(
        "score = a + b sqrt(KL)",
        ("model", "a", "b", "steps fitted", "linearity ends at a KL of"),
        tuple(rows),
    )


def best_table(found: Findings) -> Table:
    rows = tuple(
        (
            str(count),
            number(best_of_n_kl(count, tight=True)),
            number(best_of_n_kl(count, tight=False)),
            *(interval(own[name]) for name in NAMES),
        )
        for count, own in found.best.items()
    )
    columns = (
        "N",
        "KL, log N - (N-1)/N",
        "KL, log N (as the paper draws it)",
        *(f"{words}'s score" for words in NAMES.values()),
    )
    return Table(
        "Best of N by the train PM",
        columns,
        rows,
        "Nats, the start's mean removed; exact over the replies drawn, by order statistics.",
    )


def outlier_table(found: Findings) -> Table:
    def cells(rows: Sequence[Separation], layer: int) -> str:
        return f"{rows[layer].mean:.3f} (sd {rows[layer].standard_deviation:.3f})" if rows else "not measured"

    rows = tuple(
        (str(own.layer + 1), cells(found.far, own.layer), cells(found.exposed, own.layer))
        for own in found.far
    )
    return Table(
        "Strange prompts among ordinary ones, AUROC by layer",
        ("layer", "distance alone", "a few known outliers"),
        rows,
    )


def beside_the_paper(found: Findings, laws: Mapping[str, SqrtKLLaw | None]) -> Table:
    """The paper's models are 13M to 52B parameters and its comparisons tens of thousands: shapes are to be
    compared, not figures.
    """
    rows = [
        (
            "accuracy of a preference model",
            "0.72 + 0.007 log(P/1e11) + 0.015 log(D/8e4), helpful comparisons alone",
            interval(_largest(found)),
        )
    ]
    if found.mixtures and {0.0, 1.0} <= set(found.mixtures):
        apart = f"{found.mixtures[0.0]['harmless'].value:.3f} and {found.mixtures[1.0]['helpful'].value:.3f}"
        rows.append(("one kind alone, on the other kind", "far below one half", apart))
    for name, own in laws.items():
        rows.append(
            (
                f"score of the {NAMES[name]} against sqrt(KL)",
                "nearly a straight line",
                "not fitted" if own is None else f"b = {interval(own.b)}",
            )
        )
    if found.far:
        rows.append(
            (
                "strange prompts by distance, best layer",
                "AUROC about 0.85",
                f"{max(own.mean for own in found.far):.3f}",
            )
        )
    if found.exposed:
        rows.append(
            (
                "strange prompts with ten known, best layer",
                "AUROC 0.94 at 52B, 0.86 at 13M",
                f"{max(own.mean for own in found.exposed):.3f}",
            )
        )
    return Table("Beside the paper", ("what", "the paper", "here"), tuple(rows))


def _largest(found: Findings) -> Estimate:
    largest = max(found.cells, key=lambda cell: (cell.depth, cell.size))
    return rate(largest.right, [row.dialogue for row in largest.rows])


# what differs


def deviations(facts: Mapping[str, Any], found: Findings, inputs: Inputs) -> list[str]:
    made = [
        "Sizes of model are shares of the layers of one model, not models trained apart (section 3 of the "
        "paper has seven sizes).",
        "No preference-model pretraining (section 2.4): models start from the language model.",
        "The policy starts from the model itself, not from a context-distilled one, and its prompts are "
        "those given (section 4.1 adds model-written ones).",
        "The root law's interval takes the steps as independent.",
    ]
    if not facts["finetuned"]:
        made.append(
            "Models of the learning curve, the mixtures and the weights are heads on frozen states (ridge, "
            "cross-validated), not trained through."
        )
    else:
        made.append(
            "Models of the mixtures and the weights are heads on frozen states (ridge, cross-validated), "
            "not trained through."
        )
    if facts["probe_start"]:
        made.append("Preference heads start at the ridge solution on frozen states (ours).")
    if facts["preference_depth"] < 1:
        made.append(
            f"The two preference models stand on the first {facts['preference_depth']:.0%} of the layers."
        )
    if facts["weights"] == "lora":
        made.append("Adapters on one frozen base are trained, not all weights.")
    if facts["method"] == "rloo":
        made.append("Reinforcement is by RLOO, not PPO.")
    if inputs.annotate is not None:
        made.append(f"New comparisons, and the tournament's, are made by {inputs.annotator}, not by people.")
    if found.far:
        made.append(
            "A prompt is the mean of a layer's output over its tokens, standardised; the covariance is "
            "shrunk towards its diagonal (Ledoit-Wolf)."
        )
    return made


def constants(facts: Mapping[str, Any]) -> dict[str, str]:
    names = (
        "batch",
        "rank",
        "preference_epochs",
        "preference_learning_rate",
        "policy_prompts",
        "policy_samples",
        "policy_learning_rate",
        "unsure",
    )
    return {name: str(facts[name]) for name in names} | {
        "replies of the start that a step's scores are set against, a prompt": str(BASELINE)
    }
