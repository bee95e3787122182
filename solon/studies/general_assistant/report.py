"""What A General Language Assistant's study finds, and its report beside the paper's claims."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from solon.alignment.quality import ScoredComparison, accuracy, accuracy_difference
from solon.data.published import first_human_text
from solon.models.base import Sample
from solon.records.report import Claim, Exhibit, Figure, Report, Section, Table, number
from solon.statistics.intervals import Estimate, bootstrap, mean, paired_difference
from solon.studies.general_assistant.inputs import Inputs, Task
from solon.studies.general_assistant.settings import Settings
from solon.study.claims import banded, interval, rate
from solon.study.sections import evenly_spaced
from solon.study.settings import constants
from solon.study.settings import deviations as deviations_of

WAYS = ("nothing", "prompted", "distilled")
OBJECTIVES = ("imitation", "binary", "ranked")
ROUTES = {"none": "no pretraining", "ranked": "ranked pretraining", "binary": "binary pretraining"}
TITLE = (
    "A General Language Assistant: a prompt and its distillate, three objectives, and pretraining on "
    "the public"
)


@dataclass(frozen=True, slots=True)
class Size:
    """One size of model: its name and its parameters without embeddings."""

    name: str
    parameters: int


Objectives = Mapping[tuple[str, Size], Mapping[str, Sequence[ScoredComparison]]]


@dataclass(frozen=True, slots=True)
class Results:
    """Everything the report prints. A "way" is an intervention: nothing, prompted, distilled."""

    kl_before: list[float]  # of each held-out text to the prompted model, nats a token: of the model alone
    kl_after: list[float]  # and of the distilled one
    text_dialogues: list[str]  # the dialogue of each held-out text
    objectives: Objectives  # task and size -> objective -> held-out rows
    test_dialogues: list[str]  # the dialogue of each of people's held-out comparisons
    gains: Mapping[tuple[str, int], Sequence[float]]  # route, number -> how often each was judged right
    chosen: Mapping[str, Sequence[ScoredComparison]]  # way -> people's comparisons
    said: Mapping[str, Sequence[Sample]]  # way -> reply to each held-out prompt
    worth: Mapping[str, Sequence[float]]  # way -> worth of that reply
    judged: Sequence[ScoredComparison]  # by the judge of replies, on people's held-out comparisons
    pretrained: int  # public comparisons that were learned from
    counts: Mapping[str, int]


def report(settings: Settings, results: Results, inputs: Inputs) -> Report:
    """One section a topic, and beside the paper's figures ours."""
    topics = [
        distillation_section(results, inputs),
        objective_section(results.objectives, inputs.tasks),
        pretraining_section(results),
    ]
    claims = [claim for topic in topics for claim in topic.claims]
    last = Section(
        tables=(beside_the_paper(claims),),
        gallery=tuple(gallery(results, inputs)),
        warnings=tuple(warnings(results)),
        counts=results.counts,
    )
    return Report.of(
        TITLE,
        summary(claims),
        [*topics, last],
        deviations=(*deviations(settings, inputs), *deviations_of(settings)),
        constants=constants(settings),
    )


# a prompt, its distillate, and nothing


def distillation_section(results: Results, inputs: Inputs) -> Section:
    """What distilling took of the prompt's KL, and what replies are worth."""
    taken = kl_removed(results)
    text = "share of the prompt's KL that distillation put into the weights"
    warning = (
        "The distilled model is further from the prompted one than the model it began as: lower "
        "distil_learning_rate, or give more texts."
    )
    return Section(
        claims=(Claim.above("distilled", text, taken), *worth_claims(results, inputs)),
        tables=(intervention_table(results),),
        warnings=(warning,) if sum(results.kl_after) > sum(results.kl_before) else (),
    )


def kl_removed(results: Results) -> Estimate:
    """The share of the KL between prompted and unprompted that distilling took away, on held-out texts, with
    a bootstrap over dialogues.
    """
    before_N, after_N = np.array(results.kl_before), np.array(results.kl_after)

    def share(indices: np.ndarray) -> float:
        rows = indices.astype(int)
        return 1 - float(after_N[rows].sum() / before_N[rows].sum())

    return bootstrap([float(row) for row in range(len(before_N))], share, clusters=results.text_dialogues)


def worth_claims(results: Results, inputs: Inputs) -> Iterator[Claim]:
    dialogues = [first_human_text(prompt) for prompt in inputs.held_out]
    unit = (
        "a share, by the planted truth"
        if inputs.worth is not None
        else "nats, by a preference model of people's comparisons"
    )
    for name, first, second, text in (
        ("prompt_worth", "prompted", "nothing", "prompted over unprompted replies to held-out prompts"),
        ("distilled_worth", "distilled", "nothing", "distilled over unprompted replies"),
        ("distilled_over_prompted", "distilled", "prompted", "distilled over prompted replies"),
    ):
        if first in results.worth and second in results.worth:
            gain = paired_difference(results.worth[first], results.worth[second], clusters=dialogues)
            yield Claim.above(name, f"worth of {text}, {unit}", gain)


def intervention_table(results: Results) -> Table:
    kl = {
        "nothing": interval(mean(results.kl_before, clusters=results.text_dialogues)),
        "prompted": "0, by definition",
        "distilled": interval(mean(results.kl_after, clusters=results.text_dialogues)),
    }
    rows = tuple(
        (
            way,
            kl[way],
            interval(accuracy(results.chosen[way])) if results.chosen.get(way) else "not measured",
            interval(mean(results.worth[way])) if way in results.worth else "not measured",
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


# three objectives over sizes


def objective_section(objectives: Objectives, tasks: Sequence[Task]) -> Section:
    """Imitation, binary discrimination and ranked preference modelling, learned from the same comparisons."""
    largest = max((size for _, size in objectives), key=lambda size: size.parameters)
    claims, low = list[Claim](), list[str]()
    for task in tasks:
        rows = objectives[task.name, largest]
        claims += objective_claims(objectives, task, rows)
        low += [
            f"On {task.name}, {objective} learning is not shown to beat chance at the largest size."
            for objective in rows
            if objective in ("binary", "ranked") and accuracy(rows[objective]).low <= 0.5
        ]
    few = len({size for _, size in objectives}) < 3
    scaling = "Fewer than three sizes of model: nothing is said of how objectives scale."
    return Section(
        claims=tuple(claims),
        tables=(objective_table(objectives),),
        figures=tuple(objective_figure(objectives, task.name) for task in tasks),
        warnings=(*low, scaling) if few else tuple(low),
    )


def objective_claims(
    objectives: Objectives, task: Task, rows: Mapping[str, Sequence[ScoredComparison]]
) -> Iterator[Claim]:
    kind = "ranked" if task.ranked else "right-or-wrong"
    for objective in ("ranked", "binary"):
        gain = accuracy_difference(rows[objective], rows["imitation"])
        text = f"accuracy of {objective} over imitation learning on {task.name} ({kind}), at the largest size"
        yield Claim.above(f"{objective}_over_imitation_{task.name}", text, gain)
    sizes = sizes_of(objectives, task.name)
    if len(sizes) > 2:
        text = (
            "accuracy that ranked learning gains over imitation for each tenfold of parameters on "
            f"{task.name}"
        )
        yield Claim.above(f"scaling_{task.name}", text, scaling_gain(objectives, task.name, sizes))


def sizes_of(objectives: Objectives, task: str) -> list[Size]:
    return sorted({size for name, size in objectives if name == task}, key=lambda size: size.parameters)


def scaling_gain(objectives: Objectives, task: str, sizes: Sequence[Size]) -> Estimate:
    """Accuracy for each tenfold of parameters, ranked less imitation: least squares for every held-out
    comparison, then their mean.
    """
    x_S = np.log10([size.parameters for size in sizes])
    weights_S = (x_S - x_S.mean()) / float(np.square(x_S - x_S.mean()).sum())

    def slopes(objective: str) -> list[float]:
        right_SN = [[float(row.right) for row in objectives[task, size][objective]] for size in sizes]
        return list(weights_S @ np.array(right_SN))

    dialogues = [row.dialogue for row in objectives[task, sizes[0]]["ranked"]]
    return paired_difference(slopes("ranked"), slopes("imitation"), clusters=dialogues)


def objective_table(objectives: Objectives) -> Table:
    ordered = sorted(objectives.items(), key=lambda item: (item[0][0], item[0][1].parameters))
    names = (*OBJECTIVES, "imitation, likelihood alone")
    rows = tuple(
        (task, size.name, str(size.parameters), *(interval(accuracy(scores[name])) for name in names))
        for (task, size), scores in ordered
    )
    columns = ("task", "size", "parameters", "imitation, by information", "binary", "ranked")
    note = "One training for each cell; intervals are over held-out dialogues."
    title = "Three objectives over sizes, accuracy on held-out comparisons"
    return Table(title, (*columns, "imitation, by likelihood alone"), rows, note)


def objective_figure(objectives: Objectives, task: str) -> Figure:
    sizes = sizes_of(objectives, task)
    x = tuple(math.log10(size.parameters) for size in sizes)
    lines = tuple(
        banded(name, x, [accuracy(objectives[task, size][name]) for size in sizes]) for name in OBJECTIVES
    )
    return Figure(f"Objectives on {task}", "log10 of parameters", "held-out accuracy", lines)


# pretraining on the public


def pretraining_section(results: Results) -> Section:
    """Whether preference models that first learned from the public need fewer of people's comparisons."""
    sizes = sorted({size for _, size in results.gains})
    rates = {key: rate(right, results.test_dialogues) for key, right in results.gains.items()}
    rows = tuple((str(size), *(interval(rates[route, size]) for route in ROUTES)) for size in sizes)
    note = (
        f"After {results.pretrained} public comparisons. Intervals are over held-out dialogues, not over "
        "trainings."
    )
    x = tuple(math.log10(size) for size in sizes)
    lines = tuple(banded(text, x, [rates[route, size] for size in sizes]) for route, text in ROUTES.items())
    columns = ("comparisons", *ROUTES.values())
    return Section(
        claims=tuple(claim for size in sizes for claim in pretraining_claims(results, size)),
        tables=(Table("Accuracy after people's comparisons", columns, rows, note),),
        figures=(
            Figure("Pretraining on the public", "log10 of people's comparisons", "held-out accuracy", lines),
        ),
    )


def pretraining_claims(results: Results, size: int) -> Iterator[Claim]:
    def gain(first: str, second: str) -> Estimate:
        sides = results.gains[first, size], results.gains[second, size]
        return paired_difference(*sides, clusters=results.test_dialogues)

    for route in ("ranked", "binary"):
        text = f"accuracy that {ROUTES[route]} adds at {size} of people's comparisons"
        yield Claim.above(f"{route}_pretraining_{size}", text, gain(route, "none"))
    text = f"accuracy of binary over ranked pretraining at {size}"
    yield Claim.above(f"binary_over_ranked_{size}", text, gain("binary", "ranked"))


# the whole


def summary(claims: Sequence[Claim]) -> list[str]:
    by_name = {claim.name: claim for claim in claims}
    taken = by_name["distilled"].found
    lines = [f"Distillation put {taken:.0%} of what the prompt changes into the weights."]
    words = {True: "is better than", False: "is worse than", None: "is not shown to differ from"}
    for name, claim in by_name.items():
        if name.startswith("ranked_over_imitation_"):
            task = name.removeprefix("ranked_over_imitation_")
            lines.append(f"On {task}, ranked preference modelling {words[claim.holds]} imitation.")
    for route in ("ranked", "binary"):
        tried = [claim for name, claim in by_name.items() if name.startswith(f"{route}_pretraining_")]
        shown = [claim.name.rpartition("_")[2] for claim in tried if claim.holds]
        where = f"at {', '.join(shown)}" if shown else "at no number"
        lines.append(
            f"{ROUTES[route].capitalize()} on the public is shown to help {where} of people's comparisons, "
            "of "
            f"{len(tried)} numbers tried."
        )
    return lines


def warnings(results: Results) -> Iterator[str]:
    if results.judged and accuracy(results.judged).low <= 0.5:
        yield (
            "The preference model that judges replies is not shown to beat chance on people's comparisons: "
            "their worth means little."
        )


def beside_the_paper(claims: Sequence[Claim]) -> Table:
    """The paper's models are 13M to 52B parameters: shapes are to be compared, not figures."""
    by_name = {claim.name: claim for claim in claims}
    distilled = by_name.get("distilled_over_prompted")
    ours = "not measured" if distilled is None else shown(distilled)
    rows = [("distilled against prompted", "about as good", ours)]
    ranked = "up to about 0.25 on ranked tasks at 52B, little on right-or-wrong ones"
    binary = "about 0.10 at 52B below 10,000 comparisons"
    for claim in claims:
        if claim.name.startswith("ranked_over_imitation_"):
            rows.append((claim.text, ranked, shown(claim)))
        elif claim.name.startswith("binary_pretraining_"):
            rows.append((claim.text, binary, shown(claim)))
    return Table("Beside the paper", ("what", "the paper", "here"), tuple(rows))


def shown(claim: Claim) -> str:
    return f"{number(claim.found)} [{number(claim.low)}, {number(claim.high)}]"


def gallery(results: Results, inputs: Inputs) -> Iterator[Exhibit]:
    """Four held-out prompts at even distances, not chosen by result."""
    for index in evenly_spaced(len(inputs.held_out), 4):
        said = tuple((way, results.said[way][index].text) for way in WAYS if way in results.said)
        yield Exhibit(inputs.held_out[index].last, said)


def deviations(settings: Settings, inputs: Inputs) -> Iterator[str]:
    judge = "the planted truth" if inputs.worth is not None else "a preference model"
    yield "The prompt is our own conversations, shorter than the paper's fourteen."
    yield (
        "The paper's 221 HHH comparisons, TruthfulQA, alignment-tax and toxicity evaluations are not made "
        "here."
    )
    yield (
        f"Objectives are compared on {' and '.join(task.name for task in inputs.tasks)}, not on the paper's "
        "six tasks."
    )
    yield (
        "The mutual information is read behind a human's turn that says nothing (the paper does not say what "
        "it stands behind)."
    )
    yield f"There is no crowd of people: replies are judged by {judge}."
    if set(settings.depths) != {1.0}:
        yield "Sizes are the first layers of each model under its head, not models trained apart."
    if not inputs.texts:
        yield (
            "Texts to distil are the prompted model's own replies; the paper's are half pretraining text and "
            "half StackExchange."
        )
    judges = ", ".join(sorted({comparison.judge for comparison in inputs.public}))
    yield f"Public comparisons are by {judges}; the paper's are StackExchange, Reddit and edits of Wikipedia."
