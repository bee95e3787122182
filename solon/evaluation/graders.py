"""Whether a free reply is right: by its words, by its number, by its first word. None where it holds nothing that could be judged."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

from solon.question import Grade, Problem

NUMBER = re.compile(r"-?\$?\d[\d,]*(?:\.\d+)?")
FINAL = re.compile(r"(?:####|answer is:?|answer:)\s*\$?\s*(-?\$?\d[\d,]*(?:\.\d+)?)", re.IGNORECASE)


def normalised(text: str) -> str:
    """Lower case, without articles, punctuation and extra space: the form that NQ-open and TriviaQA are scored in.

    >>> normalised("The  Beatles!")
    'beatles'
    """
    bare = text.lower().translate(str.maketrans("", "", string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def first_line(text: str) -> str:
    """The first line that says anything."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def exact(reply: str, answers: Sequence[str]) -> bool | None:
    """Whether the reply's first line is one of the answers, normalised; None where it says nothing.

    >>> exact(" the Beatles.", ["Beatles"]), exact("I think it was them", ["Beatles"]), exact("", ["Beatles"])
    (True, False, None)
    """
    said = normalised(first_line(reply))
    return said in {normalised(answer) for answer in answers} if said else None


def number(reply: str, answers: Sequence[str]) -> bool | None:
    """Whether the number after "answer is" or ####, or without these the last one, is the answer's; None where there is none.

    >>> number("so 3 + 4 = 7. The answer is 7.", ["7"]), number("7.00", ["7"]), number("seven", ["7"])
    (True, True, None)
    """
    marked = FINAL.findall(reply)
    found = marked[-1] if marked else (NUMBER.findall(reply) or [""])[-1]
    return any(abs(_value(found) - _value(answer)) < 1e-6 for answer in answers) if found else None


def _value(text: str) -> float:
    return float(text.replace(",", "").replace("$", ""))


def word(reply: str, answers: Sequence[str]) -> bool | None:
    """Whether the first word is the answer's.

    >>> word("signs. And then", ["signs"])
    True
    """
    words = re.findall(r"[\w'-]+", reply)
    return normalised(words[0]) in {normalised(answer) for answer in answers} if words else None


GRADES = {"exact": exact, "number": number, "word": word}


def graded(problem: Problem, reply: str) -> bool | None:
    """Whether a reply to the problem is right, as its data set compares them; None where it cannot be judged."""
    grade: Grade = problem.grade
    said = f"{problem.opening} {reply}" if grade == "number" else reply  # "The answer is" may stand in the opening
    return GRADES[grade](said, problem.answers)
