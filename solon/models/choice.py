"""Multiple choice by likelihood: a model's probabilities of given choices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from solon.errors import InputError
from solon.models.base import LanguageModel, Sample
from solon.words.question import Question


@dataclass(frozen=True, slots=True)
class Choice:
    """A model's probabilities of the choices of one question.

    `logprobs` are the log-probabilities (nats) of each choice's tokens, summed and not normalised by length,
    so choices with different numbers of `tokens` are not comparable. `belief` are the probabilities
    normalised over the choices; `mass` is the probability of all choices together: near 0, the model was not
    going to choose at all. `cut` is the number of tokens that were removed from the start of the prompt to
    fit, 0 unless requested.
    """

    logprobs: tuple[float, ...]
    tokens: tuple[int, ...]
    belief: tuple[float, ...]
    mass: float
    cut: int = 0


def choose(model: LanguageModel, questions: Sequence[Question]) -> list[Choice]:
    """The model's probabilities of each question's choices.

    A choice is the text of a reply, or a continuation where the prompt ends with an assistant turn. Raises
    InputError on a question without choices.
    """
    for question in questions:
        if not question.choices:
            raise InputError(f"choose() needs choices; this question has none: {question.prompt.last!r}")
    flat = [(question.prompt, choice) for question in questions for choice in question.choices]
    samples = iter(model.score([prompt for prompt, _ in flat], [choice for _, choice in flat]))
    return [choice_from_samples([next(samples) for _ in question.choices]) for question in questions]


def choice_from_samples(samples: Sequence[Sample]) -> Choice:
    """The `Choice` of one question from its scored choices."""
    logprobs = tuple(sample.logprob for sample in samples)
    mass = min(1.0, sum(math.exp(min(logprob, 0.0)) for logprob in logprobs))
    return Choice(
        logprobs,
        tuple(len(sample.logprobs) for sample in samples),
        softmax(logprobs),
        mass,
        max(sample.cut for sample in samples),
    )


def softmax(logprobs: Sequence[float]) -> tuple[float, ...]:
    """Probabilities proportional to exp(logprobs).

    >>> softmax((0.0, 0.0))
    (0.5, 0.5)
    """
    top = max(logprobs)
    weights = [math.exp(logprob - top) for logprob in logprobs]
    return tuple(weight / sum(weights) for weight in weights)
