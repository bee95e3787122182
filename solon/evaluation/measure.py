"""Raw outcomes of a model on an evaluation's problems. Every score is computed from them without the
model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from solon.errors import InputError
from solon.evaluation.graders import grade_reply
from solon.models.base import LanguageModel, Sample, Speaker, Stop
from solon.models.choice import softmax
from solon.words.question import Problem, Question, to_question

STOPS = {"exact": ("\n",), "word": ("\n",), "number": ()}


@dataclass(frozen=True, slots=True)
class Outcome:
    """One problem with options: each option's log-probability (nats, summed over its tokens) and number of
    tokens. `right` is the index of the right option, None where there is none; `cut` is how many tokens the
    prompt lost to fit the context. Raises InputError on a log-probability that is not finite.
    """

    key: str
    cluster: str
    options: tuple[str, ...]
    right: int | None
    logprobs: tuple[float, ...]
    tokens: tuple[int, ...]
    cut: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if any(not math.isfinite(logprob) for logprob in self.logprobs) or len(self.logprobs) != len(
            self.options
        ):
            raise InputError(
                f"the options {self.options!r} have the log-probabilities {self.logprobs}; each needs one "
                "that is finite"
            )

    @property
    def belief(self) -> tuple[float, ...]:
        """Probabilities renormalised over the options."""
        return softmax(self.logprobs)

    @property
    def mass(self) -> float:
        """The options' total probability before renormalisation; near 0 the model would not choose any."""
        return min(1.0, sum(math.exp(min(logprob, 0.0)) for logprob in self.logprobs))

    @property
    def chosen(self) -> int:
        """The index of the likeliest option; of several the first."""
        return self.logprobs.index(max(self.logprobs))

    @property
    def tied(self) -> bool:
        """Whether several options are likeliest."""
        return self.logprobs.count(max(self.logprobs)) > 1

    @property
    def correct(self) -> bool | None:
        """Whether the likeliest option is the right one; None where none is right."""
        return None if self.right is None else self.chosen == self.right


@dataclass(frozen=True, slots=True)
class ReplyOutcome:
    """A reply to one problem without options, its log-probability (nats) and number of tokens. `correct` is
    None where the reply contains nothing that can be graded; `stop` is a value of `Stop`.
    """

    key: str
    cluster: str
    text: str
    correct: bool | None
    stop: str
    logprob: float
    tokens: int
    tags: Mapping[str, str] = field(default_factory=dict)


def choice_outcomes(
    model: LanguageModel,
    problems: Sequence[Problem],
    *,
    examples: Sequence[Problem] = (),
    truncate: bool = False,
) -> list[Outcome]:
    """The outcome of each problem with options, after the same few-shot `examples`. Prefixes that prompts
    share are computed once in a call. With `truncate` a prompt that does not fit the context loses its first
    tokens, and `Outcome.cut` counts them. Raises InputError on a problem without options.
    """
    for problem in problems:
        if not problem.options:
            raise InputError(f"{problem.text[:60]!r} has no options to choose from: sample replies instead")
    return question_outcomes(
        model, [(problem, to_question(problem, examples)) for problem in problems], truncate=truncate
    )


def question_outcomes(
    model: LanguageModel, pairs: Sequence[tuple[Problem, Question]], *, truncate: bool = False
) -> list[Outcome]:
    """The outcomes of problems asked as given questions, whose choices are the problems' options in order."""
    flat = [(question.prompt, choice) for _, question in pairs for choice in question.choices]
    extra: dict[str, Any] = {"truncate": True} if truncate else {}
    samples = iter(model.score([prompt for prompt, _ in flat], [choice for _, choice in flat], **extra))
    rows = []
    for problem, question in pairs:
        scored = [next(samples) for _ in question.choices]
        logprobs, tokens = (
            tuple(sample.logprob for sample in scored),
            tuple(len(sample.logprobs) for sample in scored),
        )
        key, cut = question.prompt.key, max(sample.cut for sample in scored)
        rows.append(
            Outcome(
                key,
                problem.cluster or key,
                problem.options,
                problem.right,
                logprobs,
                tokens,
                cut,
                problem.tags,
            )
        )
    return rows


def reply_outcomes(
    model: Speaker, problems: Sequence[Problem], *, examples: Sequence[Problem] = (), seed: int = 0
) -> list[ReplyOutcome]:
    """The graded greedy reply (temperature 0) to every problem, after the same few-shot `examples`."""
    prompts = [to_question(problem, examples).prompt for problem in problems]
    rows: dict[int, ReplyOutcome] = {}
    for tokens, grade in sorted({(problem.max_tokens, problem.grade) for problem in problems}):
        indices = [
            index
            for index, problem in enumerate(problems)
            if (problem.max_tokens, problem.grade) == (tokens, grade)
        ]
        batch = [prompts[index] for index in indices]
        sampled = model.sample(batch, max_tokens=tokens, temperature=0.0, stop=STOPS[grade], seed=seed)
        rows |= {
            index: reply_outcome(problems[index], prompts[index].key, group[0])
            for index, group in zip(indices, sampled, strict=True)
        }
    return [rows[index] for index in range(len(problems))]


def reply_outcome(problem: Problem, key: str, sample: Sample) -> ReplyOutcome:
    """A sampled reply as a graded row under `key`."""
    return ReplyOutcome(
        key,
        problem.cluster or key,
        sample.text,
        grade_reply(problem, sample.text),
        sample.stop.value,
        sample.logprob,
        len(sample.logprobs),
        problem.tags,
    )


def is_truncated(row: ReplyOutcome) -> bool:
    """Whether the token limit ended the reply."""
    return row.stop == Stop.LENGTH.value


def has_nested_options(problem: Problem) -> bool:
    """Whether one option is a prefix of another: its probability then includes the other's."""
    options = [option.strip() for option in problem.options]
    return not problem.lettered and any(a != b and b.startswith(a) for a in options for b in options)


def with_problem_keys(rows: Sequence[Outcome], problems: Sequence[Problem]) -> list[Outcome]:
    """Outcomes with the keys and clusters of the problems asked without examples."""
    keys = [to_question(problem).prompt.key for problem in problems]
    return [
        replace(row, key=key, cluster=problem.cluster or key)
        for row, key, problem in zip(rows, keys, problems, strict=True)
    ]
