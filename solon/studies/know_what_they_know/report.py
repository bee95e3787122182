"""The study of self-knowledge beside the paper's claims."""

from __future__ import annotations

from collections.abc import Iterator

from solon.records.report import Exhibit, Report, Section
from solon.statistics.calibration import MIN_ITEMS
from solon.studies.know_what_they_know.answers import choice_section, p_true_section
from solon.studies.know_what_they_know.inputs import Inputs
from solon.studies.know_what_they_know.knowing import ALL, knowing_section
from solon.studies.know_what_they_know.results import Results
from solon.studies.know_what_they_know.settings import Settings
from solon.study.settings import constants
from solon.study.settings import deviations as deviations_of


def report(settings: Settings, results: Results, inputs: Inputs) -> Report:
    """One section a topic: multiple choice, P(True), P(IK)."""
    asked = sum(map(len, results.problems.values()))
    summary = (
        f"{results.main}: {asked} questions in {len(results.problems)} tasks, {settings.samples} samples "
        "each, "
        f"P(IK) by {settings.method}; {len(inputs.choices)} sets of multiple choice."
    )
    rest = Section(
        gallery=tuple(gallery(results)),
        warnings=tuple(warnings(results)),
        counts={**results.counts, **unjudged(results)},
    )
    return Report.of(
        f"What {results.main} knows of what it knows",
        [summary],
        [
            choice_section(results),
            p_true_section(results),
            knowing_section(results, [model.name for model in inputs.models[1:]]),
            rest,
        ],
        deviations=(*deviations(settings), *deviations_of(settings)),
        constants=constants(settings),
    )


def gallery(results: Results) -> Iterator[Exhibit]:
    """The questions that P(IK) is most wrong about, either way."""
    for task, problems in results.problems.items():
        p_ik, samples = results.p_ik[task, results.main, ALL], results.samples[task, results.main]
        ordered = sorted(p_ik, key=lambda question: p_ik[question] - samples[question].share)
        most = ((ordered[-1], "it thinks it knows"), (ordered[0], "it does not think that it knows"))
        for question, words in most:
            answers = samples[question]
            parts = (
                ("asked", problems[question].text),
                ("right", " | ".join(problems[question].answers)),
                ("some samples", "\n".join(dict.fromkeys(text.strip() for text in answers.texts[:8]))),
            )
            title = f"{task}: {words}: P(IK) {p_ik[question]:.2f}, {answers.share:.2f} of samples right"
            yield Exhibit(title, parts)


def unjudged(results: Results) -> dict[str, int]:
    """Samples that could not be graded."""
    return {
        f"{task}, samples of {model} that could not be judged, taken as wrong": sum(
            right is None for answers in samples for right in answers.right
        )
        for (task, model), samples in results.samples.items()
    }


def warnings(results: Results) -> Iterator[str]:
    few = {name for (name, _), rows in results.choices.items() if len(rows) < MIN_ITEMS}
    few |= {task for task, problems in results.problems.items() if len(problems) < MIN_ITEMS}
    if few:
        yield f"calibration errors on fewer than {MIN_ITEMS} items are mostly noise: {', '.join(sorted(few))}"
    for task, problems in results.problems.items():
        known = sum(results.known(task, results.main, range(len(problems))))
        if known < 10:
            yield (
                f"{task}: {results.main} knows {known} of {len(problems)} questions; what tells them from "
                "the "
                "others is hardly measured"
            )


def deviations(settings: Settings) -> Iterator[str]:
    yield (
        "Models, tasks and sizes are those given here, not the paper's 800M to 52B; there is no python "
        "synthesis, which needs a sandbox."
    )
    yield "Prompts have the paper's form in our own words; worked examples of the fixed prompt are ours."
    yield "Multiple choice has one right option; True or False draws one wrong answer of each item."
    yield (
        f"The entropy baseline is of {settings.samples} samples, the paper's of 200; the mean loss of "
        "samples "
        "stuffed into one context is not measured."
    )
    if not settings.hard_copies:
        yield "P(IK) learns one soft row a question, in expectation the paper's one row a sample."
    if settings.hidden_options:
        yield "Options of multiple choice are not shown; each is scored as it stands."
