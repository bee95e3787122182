"""Whether a free reply is right: by its words, by its number, by its first word. None where it holds nothing
that could be judged.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

from solon.words.question import Grade, Problem

NUMBER = re.compile(r"-?\$?\d[\d,]*(?:\.\d+)?")
FINAL = re.compile(r"(?:####|answer is:?|answer:)\s*\$?\s*(-?\$?\d[\d,]*(?:\.\d+)?)", re.IGNORECASE)


def normalise(text: str) -> str:
    """Lower case, without articles, punctuation and extra space: the form that NQ-open and TriviaQA are
    scored in.

    >>> normalise("The  Beatles!")
    'beatles'
    """
    bare = text.lower().translate(str.maketrans("", "", string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def first_line(text: str) -> str:
    """The first line that says anything."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def grade_exact(reply: str, answers: Sequence[str]) -> bool | None:
    """Whether the reply's first line is one of the answers, normalised; None where it says nothing.

    >>> [grade_exact(reply, ["Beatles"]) for reply in (" the Beatles.", "I think it was them", "")]
    [True, False, None]
    """
    candidate = normalise(first_line(reply))
    return candidate in {normalise(answer) for answer in answers} if candidate else None


def grade_number(reply: str, answers: Sequence[str]) -> bool | None:
    """Whether the number after "answer is" or ####, or without these the last one, is the answer's; None
    where there is none.

    >>> [grade_number(reply, ["7"]) for reply in ("so 3 + 4 = 7. The answer is 7.", "7.00", "seven")]
    [True, True, None]
    """
    final = final_number(reply)
    return any(abs(_value(final) - _value(answer)) < 1e-6 for answer in answers) if final else None


def final_number(reply: str) -> str:
    """The number that a reply ends on, as it is written; empty where there is none."""
    marked = FINAL.findall(reply)
    return str(marked[-1] if marked else (NUMBER.findall(reply) or [""])[-1])


def _value(text: str) -> float:
    return float(text.replace(",", "").replace("$", ""))


def grade_word(reply: str, answers: Sequence[str]) -> bool | None:
    """Whether the first word is the answer's.

    >>> grade_word("signs. And then", ["signs"])
    True
    """
    candidate = first_word(reply)
    return normalise(candidate) in {normalise(answer) for answer in answers} if candidate else None


def first_word(reply: str) -> str:
    return next(iter(re.findall(r"[\w'-]+", reply)), "")


GRADERS = {"exact": grade_exact, "number": grade_number, "word": grade_word}


def grade_reply(problem: Problem, reply: str) -> bool | None:
    """Whether a reply to the problem is right, as its data set compares them; None where it cannot be
    judged.
    """
    grade: Grade = problem.grade
    return GRADERS[grade](_whole(problem, reply), problem.answers)


def extract_answer(problem: Problem, reply: str) -> str:
    """What a reply answers, in the form that its data set compares answers in, so that replies that answer
    alike are equal; empty where nothing.

    >>> sums = Problem("Question: 3 + 4?", (), ("7",), opening="", grade="number")
    >>> extract_answer(sums, "3 and 4 make 7.0") == extract_answer(sums, "It is 7")
    True
    """
    if problem.grade == "number":
        final = final_number(_whole(problem, reply))
        return f"{_value(final):.10g}" if final else ""
    return normalise(first_word(reply) if problem.grade == "word" else first_line(reply))


def _whole(problem: Problem, reply: str) -> str:
    """ "The answer is" may stand in the opening."""
    return f"{problem.opening} {reply}" if problem.grade == "number" else reply
