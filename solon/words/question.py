"""What an evaluation asks: a problem as its data set states it, and the question that a model is put."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from solon.errors import InputError
from solon.words.conversation import Conversation

Grade = Literal["exact", "number", "word"]
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True)
class Question:
    """No choices means a free reply; no answer means an opinion, which has no gold.

    Raises InputError where a choice is empty, two are equal, or the answer is none of them.
    """

    prompt: Conversation
    choices: tuple[str, ...] = ()
    answer: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if any(not choice.strip() for choice in self.choices):
            raise InputError(f"a choice is empty in {self.choices!r}; every choice needs text to be scored")
        if len(set(self.choices)) != len(self.choices):
            raise InputError(
                f"two choices are equal in {self.choices!r}; their probabilities could not be told apart"
            )
        if self.choices and self.answer is not None and self.answer not in self.choices:
            raise InputError(f"the answer {self.answer!r} is none of the choices {self.choices!r}")


@dataclass(frozen=True, slots=True)
class Problem:
    """What a data set asks, before it is put into words for a model.

    With `options`, `answers` holds the one that is right, or nothing where there is no right one (an
    opinion). Without, a reply is right where it is any of `answers`, as `grade` compares them. `lettered`
    options are shown under letters, and a letter is what the model chooses; others are replied as they stand.
    `opening` is how the assistant's turn begins. `cluster` names what problems share that makes their
    outcomes go together (a template, a passage); without one each stands for itself. `tokens` is the room
    that a free reply has.

    Raises InputError where an option is empty, two are equal, or the answer is none of them.
    """

    text: str
    options: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    cluster: str = ""
    opening: str = "Answer:"
    lettered: bool = True
    grade: Grade = "exact"
    max_tokens: int = 16
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        Question(Conversation(), self.options, self.answers[0] if self.options and self.answers else None)
        if self.options and len(self.answers) > 1:
            raise InputError(
                f"{len(self.answers)} answers among the options {self.options!r}; one is right, or none is "
                "known"
            )
        if len(self.options) > len(LETTERS):
            raise InputError(f"{len(self.options)} options; letters go to {len(LETTERS)}")

    @property
    def key(self) -> str:
        """16 hexadecimal digits over what is asked and what answers it, the same on every machine."""
        content = json.dumps([self.text, self.options, self.opening, self.answers])
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @property
    def right(self) -> int | None:
        """The place of the right option."""
        return self.options.index(self.answers[0]) if self.options and self.answers else None


def choice_label(place: int) -> str:
    """
    >>> choice_label(1)
    '(B)'
    """
    return f"({LETTERS[place]})"


def format_choices(options: Sequence[str]) -> str:
    """Options under letters, as the papers write them."""
    return "Choices:\n" + "\n".join(
        f" {choice_label(place)} {option}" for place, option in enumerate(options)
    )


def human_turn(problem: Problem) -> str:
    """What the human says."""
    if not (problem.options and problem.lettered):
        return problem.text
    return f"{problem.text}\n{format_choices(problem.options)}"


def to_question(problem: Problem, examples: Sequence[Problem] = ()) -> Question:
    """The problem as a question, after worked `examples` (each with its answer) in turns before it.

    >>> to_question(Problem("Question: 1 + 1?", ("1", "2"), ("2",))).answer
    ' (B)'
    """
    talk = Conversation()
    for example in examples:
        if not example.answers:
            raise InputError(f"an example needs its answer; {example.text[:60]!r} has none")
        talk = talk.human(human_turn(example)).assistant(assistant_turn(example, example.answers[0]))
    talk = talk.human(human_turn(problem)) if problem.text else talk
    talk = talk.assistant(problem.opening) if problem.opening else talk
    if not problem.options:
        return Question(talk, (), problem.answers[0] if problem.answers else None, problem.tags)
    choices = tuple(choice_text(problem, place) for place in range(len(problem.options)))
    return Question(talk, choices, None if problem.right is None else choices[problem.right], problem.tags)


def choice_text(problem: Problem, place: int) -> str:
    """What a model says to choose an option; after an opening it goes on with a space."""
    text = choice_label(place) if problem.lettered else problem.options[place].strip()
    return f" {text}" if problem.opening else text


def assistant_turn(problem: Problem, answer: str) -> str:
    """The assistant's whole turn that gives an answer."""
    text = (
        choice_label(problem.options.index(answer))
        if problem.options and problem.lettered
        else answer.strip()
    )
    worked = problem.tags.get("worked", "")  # an example of reasoning has to reason
    return (
        f"{problem.opening} {worked}\nThe answer is {text}."
        if worked
        else f"{problem.opening} {text}".strip()
    )
