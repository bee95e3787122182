"""What the study works on: questions, an assistant, and those who answer with its help: people (answers are
read from a file) or a weak model; or scripted models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from solon.alignment.preference import PreferenceModel
from solon.data.evaluations import read_evaluation
from solon.data.tables import Row, read_rows
from solon.errors import InputError
from solon.models.base import LanguageModel
from solon.models.huggingface import load_classifier
from solon.studies.scalable_oversight.oversight import LEVELS, Answer, Person, question_of
from solon.studies.scalable_oversight.settings import Settings, quick
from solon.studies.scalable_oversight.toy import likes_right_thoughts, problems, scripted
from solon.study.conduct import TOY, is_toy, open_model, skipped_counts
from solon.study.fingerprint import Keyed, content_hash
from solon.study.options import Model, StudyOptions
from solon.words.conversation import Conversation
from solon.words.question import Problem

Judge = Keyed[[Sequence[Conversation], Sequence[str]], Sequence[float]]  # prompts, replies -> scores
NOBODY = (
    "nobody takes part: give --weak with a model that stands in for people, or --people with their answers"
)


@dataclass(frozen=True)
class Options(StudyOptions):
    """Measure what help from a model is worth to those who know little: simulated by a weak model, or people,
    never together.
    """

    model: Model = TOY
    """the assistant: smollm2, gemma3-270m, a model folder, or a hub id; toy: scripted models, offline"""
    weak: str = ""
    """a model that stands in for people"""
    questions_from: Path | None = None
    """an evaluation with options and answers"""
    examples_from: Path | None = None
    """another, that the assistant's worked examples are drawn from"""
    people: Path | None = None
    """people's answers: rows of participant, condition (assisted, unassisted), question, options, answer,
    chosen and confidence (25 to 100)
    """
    judge: Path | None = None
    """a preference model's folder, to choose among chains of thought"""
    settings: Settings = field(default_factory=quick)


@dataclass(frozen=True, slots=True)
class Inputs:
    """`weak` stands in for people where it is given; `people` are answers that people gave; `judge` chooses
    among chains of thought. Raises InputError where nobody takes part.
    """

    strong: LanguageModel
    weak: LanguageModel | None
    problems: tuple[Problem, ...]
    examples: tuple[Problem, ...] = ()
    people: tuple[Answer, ...] = ()
    judge: Judge | None = None
    counts: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        if self.weak is None and not self.people:
            raise InputError(NOBODY)


def read(options: Options) -> Inputs:
    """What the flags name. Raises InputError on a file of another form, or where nobody takes part."""
    if is_toy(options):
        return toy()
    assert options.questions_from is not None  # the paper's needs name it as required
    evaluation = read_evaluation(options.questions_from)
    problems = _usable(evaluation.problems)
    if not problems:
        raise InputError(
            f"{options.questions_from} is {evaluation.kind}: it holds no options with a known answer"
        )
    shown = () if options.examples_from is None else _usable(read_evaluation(options.examples_from).problems)
    examples = without_questions(shown, problems)
    dropped = "examples that are questions too, or of their template, not shown"
    counts = skipped_counts(evaluation.reading, evaluation.name) | {dropped: len(shown) - len(examples)}
    people = () if options.people is None else read_people(options.people)
    if not people and not options.weak:
        raise InputError(NOBODY)
    judge: Judge | None = None
    if options.judge is not None:
        preference_model = PreferenceModel(options.judge.name, *load_classifier(options.judge))
        judge = Keyed(content_hash(options.judge), preference_model.score)
    strong = open_model(options.model, options.precision)
    weak = open_model(options.weak, options.precision) if options.weak else None
    return Inputs(strong, weak, problems, examples, people, judge, tuple(counts.items()))


def toy() -> Inputs:
    """A weak model that takes a stronger one's word, and a judge that likes right thoughts a little."""
    asked = problems()
    judge = Keyed("likes right thoughts", likes_right_thoughts(asked))
    return Inputs(scripted("strong", asked), scripted("weak", asked), asked, judge=judge)


def _usable(problems: Sequence[Problem]) -> tuple[Problem, ...]:
    return tuple(problem for problem in problems if problem.options and problem.answers)


def without_questions(examples: Sequence[Problem], questions: Sequence[Problem]) -> tuple[Problem, ...]:
    """Examples that are no question, nor of the template of one: none is asked with its answer in view."""
    asked = {(problem.text, problem.options) for problem in questions}
    templates = {problem.cluster for problem in questions} - {""}
    return tuple(
        example
        for example in examples
        if (example.text, example.options) not in asked and example.cluster not in templates
    )


def read_people(path: Path) -> tuple[Answer, ...]:
    """People's answers, as the web app will write them. Raises InputError, with the line, on a row that is
    not one.
    """
    answers = []
    for line, row in read_rows(path):
        try:
            answers.append(_answer(row))
        except InputError as error:
            raise InputError(f"{path}, line {line}: {error}") from error
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{path}, line {line}: not an answer of a person ({error}); its fields are {sorted(row)}"
            ) from error
    return tuple(answers)


def _answer(row: Row) -> Answer:
    """One row. Raises InputError on a value that is not expected, KeyError and the like on a missing one."""
    options = [str(option) for option in row["options"]]
    chosen, stated = options.index(str(row["chosen"])), float(row["confidence"])
    confidence = stated / 100 if stated > 1 else stated
    if row["condition"] not in ("assisted", "unassisted"):
        raise InputError(f"condition is assisted or unassisted; found {row['condition']!r}")
    nearest = min(LEVELS, key=lambda level: abs(level - confidence))
    if abs(nearest - confidence) > 1e-6:
        raise InputError(f"confidence is 25, 42, 60, 80 or 100; found {row['confidence']!r}")
    text = str(row["question"])  # the evaluation has it with the word that begins it
    question = Problem(text if text.startswith("Question:") else f"Question: {text}", tuple(options))
    return Answer(
        Person(str(row["participant"])),
        question_of(question),
        row["condition"],
        chosen,
        nearest,
        right=options[chosen] == str(row["answer"]),
        options=len(options),
    )
