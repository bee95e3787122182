"""Evaluation items: a problem as its data set states it, and a question as a model is asked it."""

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
    """A prompt with the texts to choose from. Without choices a free reply is asked for; without an answer
    none is right, as in opinion surveys. `answer` is the text of the right choice.

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
    """A data set's item, before it becomes a prompt.

    With `options`, `answers` holds the right one, or nothing where none is right (an opinion). Without
    options, a reply is right where `grade` finds it equal to any of `answers`. With `lettered`, options are
    shown under letters and the model chooses a letter; otherwise each option is scored as it stands.
    `opening` begins the assistant's turn. `cluster` names what correlated problems share (a template, a
    passage); without one a problem is a cluster alone. `max_tokens` limits a free reply.

    Raises InputError where an option is empty, two are equal, an answer is no option, more than one is
    right, or there are more than 26 options.
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
        """The index of the right option; None where there is none."""
        return self.options.index(self.answers[0]) if self.options and self.answers else None


def choice_label(index: int) -> str:
    """The letter of an option, as the papers write it.

    >>> choice_label(1)
    '(B)'
    """
    return f"({LETTERS[index]})"


def format_choices(options: Sequence[str]) -> str:
    """Options under letters, one a line, after the heading "Choices:" (Kadavath et al. 2022,
    arXiv:2207.05221).
    """
    return "Choices:\n" + "\n".join(
        f" {choice_label(index)} {option}" for index, option in enumerate(options)
    )


def human_turn(problem: Problem) -> str:
    """The text of the human's turn: the problem, and its options where they are lettered."""
    if not (problem.options and problem.lettered):
        return problem.text
    return f"{problem.text}\n{format_choices(problem.options)}"


def to_question(problem: Problem, examples: Sequence[Problem] = ()) -> Question:
    """The problem as a question, after `examples` with their answers as earlier turns (few-shot).

    Raises InputError on an example without an answer.

    >>> to_question(Problem("Question: 1 + 1?", ("1", "2"), ("2",))).answer
    ' (B)'
    """
    conversation = Conversation()
    for example in examples:
        if not example.answers:
            raise InputError(f"an example needs its answer; {example.text[:60]!r} has none")
        conversation = conversation.human(human_turn(example)).assistant(
            assistant_turn(example, example.answers[0])
        )
    conversation = conversation.human(human_turn(problem)) if problem.text else conversation
    conversation = conversation.assistant(problem.opening) if problem.opening else conversation
    if not problem.options:
        return Question(conversation, (), problem.answers[0] if problem.answers else None, problem.tags)
    choices = tuple(choice_text(problem, index) for index in range(len(problem.options)))
    return Question(
        conversation, choices, None if problem.right is None else choices[problem.right], problem.tags
    )


def choice_text(problem: Problem, index: int) -> str:
    """The text with which a model chooses the option at `index`; it starts with a space after an opening."""
    text = choice_label(index) if problem.lettered else problem.options[index].strip()
    return f" {text}" if problem.opening else text


def assistant_turn(problem: Problem, answer: str) -> str:
    """The assistant's whole turn that gives `answer`, with the worked steps in the tag "worked" before it."""
    text = (
        choice_label(problem.options.index(answer))
        if problem.options and problem.lettered
        else answer.strip()
    )
    worked = problem.tags.get("worked", "")  # an example of reasoning shows its steps
    return (
        f"{problem.opening} {worked}\nThe answer is {text}."
        if worked
        else f"{problem.opening} {text}".strip()
    )
