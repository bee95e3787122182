"""Graders of free replies: by text, by number, by first word. A grade is None where a reply contains nothing
that can be graded.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

from solon.words.question import Grade, Problem

NUMBER = re.compile(r"-?\$?\d[\d,]*(?:\.\d+)?")
FINAL = re.compile(r"(?:####|answer is:?|answer:)\s*\$?\s*(-?\$?\d[\d,]*(?:\.\d+)?)", re.IGNORECASE)


def normalise(text: str) -> str:
    """Lower case without articles, punctuation and extra space, as NQ-open and TriviaQA are scored.

    >>> normalise("The  Beatles!")
    'beatles'
    """
    bare = text.lower().translate(str.maketrans("", "", string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def first_line(text: str) -> str:
    """The first line that is not blank, without space around it."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def grade_exact(reply: str, answers: Sequence[str]) -> bool | None:
    """Whether the reply's first line is one of the answers, both normalised; None where it is empty.

    >>> [grade_exact(reply, ["Beatles"]) for reply in (" the Beatles.", "I think it was them", "")]
    [True, False, None]
    """
    candidate = normalise(first_line(reply))
    return candidate in {normalise(answer) for answer in answers} if candidate else None


def grade_number(reply: str, answers: Sequence[str]) -> bool | None:
    """Whether the number after "answer is" or ####, else the last number, equals that of an answer; None
    where the reply has no number.

    >>> [grade_number(reply, ["7"]) for reply in ("so 3 + 4 = 7. The answer is 7.", "7.00", "seven")]
    [True, True, None]
    """
    final = final_number(reply)
    return any(abs(_value(final) - _value(answer)) < 1e-6 for answer in answers) if final else None


def final_number(reply: str) -> str:
    """The number after "answer is" or ####, else the last number, as written; empty where there is none."""
    marked = FINAL.findall(reply)
    return str(marked[-1] if marked else (NUMBER.findall(reply) or [""])[-1])


def _value(text: str) -> float:
    return float(text.replace(",", "").replace("$", ""))


def grade_word(reply: str, answers: Sequence[str]) -> bool | None:
    """Whether the reply's first word is an answer, both normalised; None where it has no word.

    >>> grade_word("signs. And then", ["signs"])
    True
    """
    candidate = first_word(reply)
    return normalise(candidate) in {normalise(answer) for answer in answers} if candidate else None


def first_word(reply: str) -> str:
    """The first word of a reply; empty where there is none."""
    return next(iter(re.findall(r"[\w'-]+", reply)), "")


GRADERS = {"exact": grade_exact, "number": grade_number, "word": grade_word}


def grade_reply(problem: Problem, reply: str) -> bool | None:
    """Whether a reply is right by the problem's grader; None where it cannot be graded."""
    grade: Grade = problem.grade
    return GRADERS[grade](_whole(problem, reply), problem.answers)


def extract_answer(problem: Problem, reply: str) -> str:
    """The answer in a reply, normalised by the problem's grader so that equal answers are equal strings;
    empty where there is none.

    >>> sums = Problem("Question: 3 + 4?", (), ("7",), opening="", grade="number")
    >>> extract_answer(sums, "3 and 4 make 7.0") == extract_answer(sums, "It is 7")
    True
    """
    if problem.grade == "number":
        final = final_number(_whole(problem, reply))
        return f"{_value(final):.10g}" if final else ""
    return normalise(first_word(reply) if problem.grade == "word" else first_line(reply))


def _whole(problem: Problem, reply: str) -> str:
    """The reply; for numbers with the opening before it, which may contain "The answer is"."""
    return f"{problem.opening} {reply}" if problem.grade == "number" else reply
