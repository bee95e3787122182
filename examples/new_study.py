"""A study of your own in one file: does a model say "yes" more often when the question is put politely?

A paper's study in Solon's own tree has the same parts, one file each (CONTRIBUTING.md, "Add a paper").
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

import solon
from solon.models.choice import choose
from solon.records.codecs import PLAIN
from solon.records.report import Claim, Report, Section, Table
from solon.records.run import Run
from solon.statistics.intervals import paired_difference
from solon.study.conduct import Study, open_model, run_study
from solon.study.options import Model, StudyOptions


@dataclass(frozen=True, slots=True)
class Settings:
    questions: int = 12
    """favours to ask for"""


@dataclass(frozen=True)
class Options(StudyOptions):
    """Ask a model for favours, plainly and politely."""

    model: Model = "smollm2"
    settings: Settings = field(default_factory=Settings)


@dataclass(frozen=True, slots=True)
class Inputs:
    model: solon.TorchModel


FAVOURS = (
    "help me move",
    "lend me a book",
    "water my plants",
    "read my essay",
    "feed my cat",
    "hold this rope",
)


def study(run: Run, settings: Settings, inputs: Inputs) -> Report:
    favours = [
        FAVOURS[number % len(FAVOURS)] + "!" * (number // len(FAVOURS))
        for number in range(settings.questions)
    ]

    def ask(template: str) -> list[float]:
        def make(batch: list[str]) -> list[float]:
            prompts = [
                solon.Conversation().human(template.format(favour)).assistant("I say") for favour in batch
            ]
            questions = [solon.Question(prompt, (" yes", " no")) for prompt in prompts]
            return [answer.belief[0] for answer in choose(inputs.model, questions)]

        return run.map(template.split()[0].lower(), favours, make, PLAIN, key=str)

    plain, polite = ask("You must {}"), ask("Please would you kindly {}")
    difference = paired_difference(polite, plain)
    table = Table(
        "P(yes)",
        ("favour", "plain", "polite"),
        tuple((favour, f"{p:.3f}", f"{q:.3f}") for favour, p, q in zip(favours, plain, polite, strict=True)),
    )
    claim = Claim.above("politeness", "P(yes) is higher when asked politely", difference)
    return Report.of("Politeness", [f"{len(favours)} favours."], [Section(claims=(claim,), tables=(table,))])


STUDY = Study(
    name="politeness",
    options=Options,
    quick=Settings,
    full=lambda: Settings(questions=60),
    inputs=lambda options: Inputs(open_model(options.model, options.precision)),
    study=study,
    subject=lambda inputs: inputs.model.name,
)


def main(model: str = "smollm2", runs: str = "runs") -> None:
    finished = run_study(STUDY, Options(model=model, runs=Path(runs)))
    print(finished.report.claims[0], finished.folder)


if __name__ == "__main__":
    main(*sys.argv[1:2])
