"""Prompts that ask a model whether an answer is right: P(True) and none of the above (Kadavath et al. 2022,
arXiv:2207.05221).

A problem becomes another problem with the options True and False, so that what measures choices measures
P(True). Prompts follow the paper, shortened; the worked examples of the fixed prompt are ours.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from solon.errors import InputError
from solon.evaluation.graders import extract_answer, first_line, grade_reply
from solon.evaluation.measure import STOPS, Outcome
from solon.models.base import Sample, Speaker
from solon.words.question import Problem, to_question

NONE = "none of the above"
JUDGEMENT_REQUEST = "Is the proposed answer:"
TRUE, FALSE = "True", "False"


def none_of_the_above(problem: Problem) -> Problem:
    """The problem with its last option replaced by "none of the above", which is right where that option was
    (section 3.2). Raises InputError where the problem has no options or has this one.
    """
    if not problem.options or has_none_option(problem):
        raise InputError(
            f"none of the above needs options that do not have it yet; found {problem.options!r}"
        )
    answers = tuple(NONE if answer == problem.options[-1] else answer for answer in problem.answers)
    return replace(problem, options=(*problem.options[:-1], NONE), answers=answers)


def has_none_option(problem: Problem) -> bool:
    """Whether an option is "none of the above"."""
    return any(option.lower().rstrip(".") == NONE for option in problem.options)


def hidden_options(problem: Problem) -> Problem:
    """The problem with its options not shown; each is scored as it stands (BIG-bench's default format)."""
    return replace(problem, lettered=False)


def true_or_false(problem: Problem, *, seed: int) -> tuple[Problem, Problem]:
    """The right option and a random wrong one, each as a proposed answer (section 3.3). Raises InputError
    unless the problem has both.
    """
    if problem.right is None or len(problem.options) < 2:
        raise InputError(
            f"True or False needs a right option and a wrong one; {problem.text[:60]!r} has "
            f"{problem.options!r}"
        )
    wrong = random.Random(f"{seed} {problem.text}").choice(
        [option for option in problem.options if option != problem.options[problem.right]]
    )
    return propose_answer(problem, problem.answers[0], right=True), propose_answer(
        problem, wrong, right=False
    )


def propose_answer(
    problem: Problem, answer: str, *, right: bool | None, ideas: Sequence[str] = ()
) -> Problem:
    """The problem of whether `answer` is true, after brainstormed `ideas` if there are any (section 4.1).

    `right` says which option is right; None where it is not known. The probability of the first option is
    P(True).
    """
    brainstormed = (
        "\n".join(
            ["Here are some brainstormed ideas:", *(f"- {answer_text(problem, idea)}" for idea in ideas), ""]
        )
        if ideas
        else ""
    )
    text = (
        f"{problem.text}\n{brainstormed}Proposed Answer: {answer_text(problem, answer) or '(nothing)'}\n"
        f"{JUDGEMENT_REQUEST}"
    )
    answers = () if right is None else (TRUE if right else FALSE,)
    cluster = problem.cluster or to_question(problem).prompt.key
    return Problem(text, (TRUE, FALSE), answers, cluster, "The proposed answer is:", tags=problem.tags)


def answer_text(problem: Problem, reply: str) -> str:
    """A reply as a proposed answer: its first line; all of it on one line where reasoning was asked for."""
    return " ".join(reply.split()) if "worked" in problem.tags else first_line(reply)


# worked examples of the fixed prompt: question, brainstormed ideas, the proposed one, whether it is true
FIXED_EXAMPLES = (
    (
        "Which metal is liquid at room temperature?",
        ("mercury", "gallium", "lead", "mercury", "tin"),
        "mercury",
        True,
    ),
    (
        "Who painted the ceiling of the Sistine Chapel?",
        ("Raphael", "Leonardo", "Michelangelo", "Raphael", "Giotto"),
        "Raphael",
        False,
    ),
    ("What is 17 + 26?", ("43", "33", "43", "53", "42"), "43", True),
    (
        "On which continent is the Atacama desert?",
        ("Africa", "South America", "Asia", "Africa", "Australia"),
        "Africa",
        False,
    ),
    ("How many strings does a standard violin have?", ("four", "five", "four", "six", "four"), "four", True),
    ("Which planet has the shortest year?", ("Venus", "Mars", "Mercury", "Venus", "Earth"), "Venus", False),
    (
        "What gas do plants take in to make sugar?",
        ("oxygen", "carbon dioxide", "nitrogen", "carbon dioxide", "carbon dioxide"),
        "carbon dioxide",
        True,
    ),
    ("In which year did the Berlin Wall fall?", ("1991", "1987", "1989", "1991", "1985"), "1991", False),
    (
        "What is the capital of New Zealand?",
        ("Wellington", "Auckland", "Wellington", "Sydney", "Wellington"),
        "Wellington",
        True,
    ),
    ("What is 9 times 8?", ("81", "72", "64", "72", "63"), "64", False),
)


def fixed_examples(*, ideas: bool) -> list[Problem]:
    """The ten examples of the fixed prompt, half of them true, with or without brainstormed ideas."""
    problems = [
        (Problem(f"Question: {question}", (), (answer,)), ideas_shown, answer, right)
        for question, ideas_shown, answer, right in FIXED_EXAMPLES
    ]
    return [
        propose_answer(problem, answer, right=right, ideas=ideas_shown if ideas else ())
        for problem, ideas_shown, answer, right in problems
    ]


@dataclass(frozen=True, slots=True)
class SampledAnswers:
    """Samples of one problem at temperature 1, and its greedy sample, with grades (None: no grade, counted as
    wrong), log-probabilities (nats) and numbers of tokens.
    """

    texts: tuple[str, ...]
    right: tuple[bool | None, ...]
    logprobs: tuple[float, ...]
    tokens: tuple[int, ...]
    greedy: str
    greedy_right: bool | None
    greedy_logprob: float
    greedy_tokens: int

    @property
    def share(self) -> float:
        """The share of right samples: the target of P(IK)."""
        return sum(right is True for right in self.right) / len(self.right)

    @property
    def entropy(self) -> float:
        """The entropy of answers to the question (nats), estimated by the mean of -log P over samples: a
        baseline of section 5.
        """
        return -sum(self.logprobs) / len(self.logprobs)

    @property
    def greedy_loss(self) -> float:
        """The mean loss of the greedy sample (nats a token): another baseline."""
        return -self.greedy_logprob / max(self.greedy_tokens, 1)


def samples_from_row(row: Mapping[str, Any]) -> SampledAnswers:
    """The samples in a stored row."""
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in row.items()
        if name != "key"
    }
    return SampledAnswers(**fields)


def agreement(problem: Problem, samples: SampledAnswers) -> float:
    """The share of samples that give the most common answer; samples without an answer count against it."""
    answers = [extract_answer(problem, text) for text in samples.texts]
    return max((answers.count(answer) for answer in set(answers) - {""}), default=0) / len(answers)


def sample_answers(
    model: Speaker, problems: Sequence[Problem], *, examples: Sequence[Problem], samples: int, seed: int
) -> list[SampledAnswers]:
    """`samples` replies at temperature 1 to each problem, and its greedy reply, graded, after the same
    few-shot `examples`. Raises InputError unless all problems have one grader and one reply length.
    """
    rows: list[SampledAnswers] = []
    prompts = [to_question(problem, examples).prompt for problem in problems]
    kinds = {(problem.max_tokens, problem.grade) for problem in problems}
    if len(kinds) != 1:
        raise InputError(
            f"problems drawn together need one grade and one length of reply; found {sorted(kinds)}"
        )
    tokens, grade = kinds.pop()
    groups = model.sample(prompts, count=samples, max_tokens=tokens, stop=STOPS[grade], seed=seed)
    best = model.sample(prompts, max_tokens=tokens, temperature=0.0, stop=STOPS[grade], seed=seed)
    for problem, group, [top] in zip(problems, groups, best, strict=True):
        rows.append(grade_samples(problem, group, top))
    return rows


def grade_samples(problem: Problem, group: Sequence[Sample], top: Sample) -> SampledAnswers:
    """Samples and the greedy sample `top`, graded."""
    return SampledAnswers(
        tuple(sample.text for sample in group),
        tuple(grade_reply(problem, sample.text) for sample in group),
        tuple(sample.logprob for sample in group),
        tuple(len(sample.logprobs) for sample in group),
        top.text,
        grade_reply(problem, top.text),
        top.logprob,
        len(top.logprobs),
    )


def propose_sample(
    problem: Problem, samples: SampledAnswers, *, ideas: int, seed: int, index: int | None = None
) -> tuple[Problem, int]:
    """A sample as a proposed answer, and its index. The sample is that at `index`, or a random one; with
    `ideas` that many samples are shown before it, itself at a random position among them.
    """
    rng = random.Random(f"{seed} {problem.text}")
    chosen = rng.randrange(len(samples.texts)) if index is None else index
    other_texts = [text for number, text in enumerate(samples.texts) if number != chosen]
    shown_texts = rng.sample(other_texts, min(ideas - 1, len(other_texts))) if ideas else []
    if ideas:
        shown_texts.insert(rng.randrange(len(shown_texts) + 1), samples.texts[chosen])
    return propose_answer(
        problem, samples.texts[chosen], right=samples.right[chosen] is True, ideas=shown_texts
    ), chosen


def p_true(row: Outcome) -> float:
    """P(True), renormalised over True and False."""
    return row.belief[0]


def with_source(problem: Problem, source: str) -> Problem:
    """The problem after a source text or a hint (sections 5.4 and 5.5)."""
    return replace(problem, text=f"{source.strip()}\n\n{problem.text}")


def addition(
    count: int, *, digits: Sequence[int] = (1, 2, 3), operands: Sequence[int] = (2, 3), seed: int
) -> list[Problem]:
    """`count` different sums, divided equally among digits and numbers of operands. Raises InputError where
    there are not that many.
    """
    rng, seen, problems = random.Random(f"sums {seed}"), set[str](), list[Problem]()
    kinds = [(d, o) for d in digits for o in operands]
    for number in range(50 * count):
        d, o = kinds[number % len(kinds)]
        values = [rng.randrange(10 ** (d - 1) if d > 1 else 0, 10**d) for _ in range(o)]
        text = f"Question: What is {' + '.join(map(str, values))}?"
        if text not in seen and len(problems) < count:
            seen.add(text)
            problems.append(
                Problem(
                    text,
                    (),
                    (str(sum(values)),),
                    grade="number",
                    max_tokens=8,
                    tags={"subject": f"{o} numbers of {d} digits"},
                )
            )
    if len(problems) < count:
        raise InputError(f"there are not {count} different sums of {digits} digits and {operands} numbers")
    return problems
