"""What A General Language Assistant's study finds, and its report beside the paper's claims."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from solon.alignment.quality import ScoredComparison, accuracy, accuracy_difference
from solon.data.published import first_human_text
from solon.models.base import Sample
from solon.records.report import Claim, Exhibit, Figure, Report, Table, number
from solon.statistics.intervals import Estimate, bootstrap, mean, paired_difference
from solon.studies.general_assistant.settings import Inputs
from solon.study.claims import banded, interval, rate, sign

WAYS = ("nothing", "prompted", "distilled")
OBJECTIVES = ("imitation", "binary", "ranked")
ROUTES = {"none": "no pretraining", "ranked": "ranked pretraining", "binary": "binary pretraining"}


@dataclass(frozen=True, slots=True)
class Size:
    """One size of model: its name and its parameters without embeddings."""

    name: str
    parameters: int


@dataclass(slots=True)
class Findings:
    """Everything the report prints."""

    # KL of each held-out text to the prompted model, nats a token: of the model alone
    before: list[float] = field(default_factory=list)
    left: list[float] = field(default_factory=list)  # and of the distilled one
    # task and size -> objective -> held-out rows
    objectives: dict[tuple[str, Size], dict[str, list[ScoredComparison]]] = field(default_factory=dict)
    test: list[str] = field(default_factory=list)  # the dialogue of each of people's held-out comparisons
    # route and number -> how often each was judged right
    gains: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    chosen: dict[str, list[ScoredComparison]] = field(default_factory=dict)  # way -> people's comparisons
    said: dict[str, list[Sample]] = field(default_factory=dict)
    worth: dict[str, list[float]] = field(default_factory=dict)  # way -> of its reply to each held-out prompt
    texts: list[str] = field(default_factory=list)  # the dialogue of each held-out text
    # of replies, where there is one, on people's held-out comparisons
    judge: list[ScoredComparison] = field(default_factory=list)
    pretrained: int = 0  # public comparisons that were learned from
    counts: dict[str, int] = field(default_factory=dict)


def report(facts: Mapping[str, Any], found: Findings, inputs: Inputs) -> Report:
    """`facts` are the settings."""
    claims = [
        *distillation_claims(found, inputs),
        *objective_claims(found, inputs),
        *pretraining_claims(found),
    ]
    return Report(
        "A General Language Assistant: a prompt and its distillate, three objectives, and pretraining on "
        "the public",
        tuple(summary(claims)),
        tuple(claims),
        tuple(warnings(found, inputs)),
        (
            intervention_table(found),
            objective_table(found),
            pretraining_table(found),
            beside_the_paper(found, claims),
        ),
        tuple(figures(found, inputs)),
        tuple(gallery(found, inputs)),
        counts=found.counts,
        deviations=tuple(deviations(facts, inputs)),
        constants={name: str(facts[name]) for name in CONSTANTS},
    )


CONSTANTS = (
    "batch",
    "rank",
    "distil_epochs",
    "distil_learning_rate",
    "objective_epochs",
    "objective_learning_rate",
    "preference_epochs",
    "preference_learning_rate",
    "pretraining_epochs",
    "pretraining_learning_rate",
)


# claims


def closed(found: Findings) -> Estimate:
    """The share of the KL between prompted and unprompted that distilling took away, on held-out texts, with
    a bootstrap over dialogues.
    """
    before, left = np.array(found.before), np.array(found.left)

    def share(places: np.ndarray) -> float:
        rows = places.astype(int)
        return 1 - float(left[rows].sum() / before[rows].sum())

    return bootstrap([float(place) for place in range(len(before))], share, clusters=found.texts)


def distillation_claims(found: Findings, inputs: Inputs) -> list[Claim]:
    taken = closed(found)
    made = [
        Claim.of(
            "distilled", "share of the prompt's KL that distillation put into the weights", taken, sign(taken)
        )
    ]
    dialogues = [first_human_text(prompt) for prompt in inputs.held_out]
    for name, first, second, words in (
        ("prompt_worth", "prompted", "nothing", "prompted over unprompted replies to held-out prompts"),
        ("distilled_worth", "distilled", "nothing", "distilled over unprompted replies"),
        ("distilled_over_prompted", "distilled", "prompted", "distilled over prompted replies"),
    ):
        if first in found.worth and second in found.worth:
            gain = paired_difference(found.worth[first], found.worth[second], clusters=dialogues)
            unit = (
                "a share, by the planted truth"
                if inputs.worth is not None
                else "nats, by a preference model of people's comparisons"
            )
            made.append(Claim.of(name, f"worth of {words}, {unit}", gain, sign(gain)))
    return made


def largest(found: Findings) -> Size:
    return max((size for _, size in found.objectives), key=lambda size: size.parameters)


def objective_claims(found: Findings, inputs: Inputs) -> list[Claim]:
    made = []
    top = largest(found)
    for task in inputs.tasks:
        rows = found.objectives[task.name, top]
        kind = "ranked" if task.ranked else "right-or-wrong"
        for objective in ("ranked", "binary"):
            gain = accuracy_difference(rows[objective], rows["imitation"])
            text = (
                f"accuracy of {objective} over imitation learning on {task.name} ({kind}), at the "
                "largest size"
            )
            made.append(Claim.of(f"{objective}_over_imitation_{task.name}", text, gain, sign(gain)))
        sizes = sizes_of(found, task.name)
        if len(sizes) > 2:
            made.append(slope_claim(found, task.name, sizes))
    return made


def sizes_of(found: Findings, task: str) -> list[Size]:
    return sorted({size for name, size in found.objectives if name == task}, key=lambda size: size.parameters)


def slope_claim(found: Findings, task: str, sizes: Sequence[Size]) -> Claim:
    """Accuracy for each tenfold of parameters, ranked less imitation: least squares for every held-out
    comparison, then their mean.
    """
    x = np.log10([size.parameters for size in sizes])
    weights = (x - x.mean()) / float(np.square(x - x.mean()).sum())
    right = {
        objective: weights
        @ np.array([[float(row.right) for row in found.objectives[task, size][objective]] for size in sizes])
        for objective in ("ranked", "imitation")
    }
    dialogues = [row.dialogue for row in found.objectives[task, sizes[0]]["ranked"]]
    gain = paired_difference(list(right["ranked"]), list(right["imitation"]), clusters=dialogues)
    return Claim.of(
        f"scaling_{task}",
        f"accuracy that ranked learning gains over imitation for each tenfold of parameters on {task}",
        gain,
        sign(gain),
    )


def pretraining_claims(found: Findings) -> list[Claim]:
    made = []
    for size in numbers(found):
        for route in ("ranked", "binary"):
            gain = paired_difference(found.gains[route, size], found.gains["none", size], clusters=found.test)
            text = f"accuracy that {ROUTES[route]} adds at {size} of people's comparisons"
            made.append(Claim.of(f"{route}_pretraining_{size}", text, gain, sign(gain)))
        gain = paired_difference(
            found.gains["binary", size], found.gains["ranked", size], clusters=found.test
        )
        made.append(
            Claim.of(
                f"binary_over_ranked_{size}",
                f"accuracy of binary over ranked pretraining at {size}",
                gain,
                sign(gain),
            )
        )
    return made


def numbers(found: Findings) -> list[int]:
    return sorted({size for _, size in found.gains})


def summary(claims: Sequence[Claim]) -> list[str]:
    by = {claim.name: claim for claim in claims}
    made = [f"Distillation put {by['distilled'].found:.0%} of what the prompt changes into the weights."]
    words = {True: "is better than", False: "is worse than", None: "is not shown to differ from"}
    for name, claim in by.items():
        if name.startswith("ranked_over_imitation_"):
            made.append(
                f"On {name.removeprefix('ranked_over_imitation_')}, ranked preference modelling "
                f"{words[claim.holds]} imitation."
            )
    for route in ("ranked", "binary"):
        helped = [claim for name, claim in by.items() if name.startswith(f"{route}_pretraining_")]
        shown = [claim.name.rpartition("_")[2] for claim in helped if claim.holds]
        where = (
            f"at {', '.join(shown)} of people's comparisons"
            if shown
            else "at no number of people's comparisons"
        )
        made.append(
            f"{ROUTES[route].capitalize()} on the public is shown to help {where}, of {len(helped)} "
            "numbers tried."
        )
    return made


def warnings(found: Findings, inputs: Inputs) -> list[str]:
    made = []
    if sum(found.left) > sum(found.before):
        made.append(
            "The distilled model is further from the prompted one than the model it began as: lower "
            "distil_learning_rate, or give more texts."
        )
    top = largest(found)
    for task in inputs.tasks:
        for objective, rows in found.objectives[task.name, top].items():
            if objective in ("binary", "ranked") and accuracy(rows).low <= 0.5:
                made.append(
                    f"On {task.name}, {objective} learning is not shown to beat chance at the largest size."
                )
    if found.judge and accuracy(found.judge).low <= 0.5:
        made.append(
            "The preference model that judges replies is not shown to beat chance on people's comparisons: "
            "their worth means little."
        )
    if len({size for _, size in found.objectives}) < 3:
        made.append("Fewer than three sizes of model: nothing is said of how objectives scale.")
    return made


# tables and figures


def intervention_table(found: Findings) -> Table:
    gap = {
        "nothing": mean(found.before, clusters=found.texts),
        "prompted": None,
        "distilled": mean(found.left, clusters=found.texts),
    }
    rows = tuple(
        (
            way,
            "0, by definition" if way == "prompted" else interval(gap[way]),
            interval(accuracy(found.chosen[way])) if found.chosen.get(way) else "not measured",
            interval(mean(found.worth[way])) if way in found.worth else "not measured",
        )
        for way in WAYS
    )
    columns = (
        "intervention",
        "KL to the prompted model, nats a token",
        "people's comparisons chosen rightly",
        "worth of its replies",
    )
    return Table("A prompt, its distillate, and nothing", columns, rows)


def objective_table(found: Findings) -> Table:
    rows = []
    for (task, size), scores in sorted(
        found.objectives.items(), key=lambda item: (item[0][0], item[0][1].parameters)
    ):
        rows.append(
            (
                task,
                size.name,
                str(size.parameters),
                *(interval(accuracy(scores[name])) for name in (*OBJECTIVES, "imitation, likelihood alone")),
            )
        )
    columns = (
        "task",
        "size",
        "parameters",
        "imitation, by information",
        "binary",
        "ranked",
        "imitation, by likelihood alone",
    )
    note = "One training for each cell; intervals are over held-out dialogues."
    return Table("Three objectives over sizes, accuracy on held-out comparisons", columns, tuple(rows), note)


def pretraining_table(found: Findings) -> Table:
    rows = tuple(
        (str(size), *(interval(rate(found.gains[route, size], found.test)) for route in ROUTES))
        for size in numbers(found)
    )
    note = (
        f"After {found.pretrained} public comparisons. Intervals are over held-out dialogues, not over "
        "trainings."
    )
    return Table("Accuracy after people's comparisons", ("comparisons", *ROUTES.values()), rows, note)


def beside_the_paper(found: Findings, claims: Sequence[Claim]) -> Table:
    """The paper's models are 13M to 52B parameters: shapes are to be compared, not figures."""
    rows = [
        (
            "distilled against prompted",
            "about as good",
            next((words(c) for c in claims if c.name == "distilled_over_prompted"), "not measured"),
        )
    ]
    for claim in claims:
        if claim.name.startswith("ranked_over_imitation_"):
            rows.append(
                (
                    claim.text,
                    "up to about 0.25 on ranked tasks at 52B, little on right-or-wrong ones",
                    words(claim),
                )
            )
        elif claim.name.startswith("binary_pretraining_"):
            rows.append((claim.text, "about 0.10 at 52B below 10,000 comparisons", words(claim)))
    return Table("Beside the paper", ("what", "the paper", "here"), tuple(rows))


def words(claim: Claim) -> str:
    return f"{number(claim.found)} [{number(claim.low)}, {number(claim.high)}]"


def figures(found: Findings, inputs: Inputs) -> list[Figure]:
    made = []
    for task in inputs.tasks:
        sizes = sizes_of(found, task.name)
        x = tuple(math.log10(size.parameters) for size in sizes)
        lines = tuple(
            banded(name, x, [accuracy(found.objectives[task.name, size][name]) for size in sizes])
            for name in OBJECTIVES
        )
        made.append(Figure(f"Objectives on {task.name}", "log10 of parameters", "held-out accuracy", lines))
    x = tuple(math.log10(size) for size in numbers(found))
    lines = tuple(
        banded(text, x, [rate(found.gains[route, size], found.test) for size in numbers(found)])
        for route, text in ROUTES.items()
    )
    made.append(
        Figure("Pretraining on the public", "log10 of people's comparisons", "held-out accuracy", lines)
    )
    return made


def gallery(found: Findings, inputs: Inputs) -> list[Exhibit]:
    """Four held-out prompts at even distances, not chosen by result."""
    places = list(range(0, len(inputs.held_out), max(1, len(inputs.held_out) // 4)))[:4]
    return [
        Exhibit(
            inputs.held_out[place].last,
            tuple((way, found.said[way][place].text) for way in WAYS if way in found.said),
        )
        for place in places
    ]


def deviations(facts: Mapping[str, Any], inputs: Inputs) -> list[str]:
    made = [
        "The prompt is our own conversations, shorter than the paper's fourteen.",
        "The paper's 221 HHH comparisons, TruthfulQA, alignment-tax and toxicity evaluations are not made "
        "here.",
        f"Objectives are compared on {' and '.join(task.name for task in inputs.tasks)}, not on the "
        "paper's six tasks.",
        "The mutual information is read behind a human's turn that says nothing (the paper does not say "
        "what a stands behind).",
        "There is no crowd of people: replies are judged by "
        + ("the planted truth." if inputs.worth is not None else "a preference model."),
    ]
    if set(facts["depths"]) != {1.0}:
        made.append("Sizes are the first layers of each model under its head, not models trained apart.")
    if not inputs.texts:
        made.append(
            "Texts to distil are the prompted model's own replies; the paper's are half pretraining text "
            "and half StackExchange."
        )
    if facts["preference_depth"] < 1:
        made.append(f"Preference models stand on the first {facts['preference_depth']:.0%} of the layers.")
    if facts["weights"] == "lora":
        made.append("Adapters on one frozen base are trained, not all weights.")
    if facts["probe_start"]:
        made.append(
            "Without pretraining, preference heads start at the ridge solution on frozen states (ours), "
            "which is a harder baseline than the paper's."
        )
    judges = sorted({comparison.judge for comparison in inputs.public})
    return [
        *made,
        f"Public comparisons are by {', '.join(judges)}; the paper's are StackExchange, Reddit and edits "
        "of Wikipedia.",
    ]
