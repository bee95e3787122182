"""Reading a model's opinion as probabilities over given choices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from solon.errors import InputError
from solon.models.base import LanguageModel, Sample
from solon.words.question import Question


@dataclass(frozen=True, slots=True)
class Choice:
    """What a model made of one question.

    `logprobs` are the raw log-probabilities (nats) of each choice's tokens, summed and not normalised by
    length, so choices of unequal `tokens` are not on equal terms. `belief` is renormalised over the choices;
    `mass` is the probability that the model puts on the choices together: a mass near 0 says it was not going
    to choose at all. `cut` is how many of the prompt's first tokens were left out to fit, 0 unless that was
    asked for.
    """

    logprobs: tuple[float, ...]
    tokens: tuple[int, ...]
    belief: tuple[float, ...]
    mass: float
    cut: int = 0


def choose(model: LanguageModel, questions: Sequence[Question]) -> list[Choice]:
    """The model's belief over each question's choices.

    A choice is the text of a reply, or of its continuation where the prompt ends on the assistant's side.
    Raises InputError on a question without choices.
    """
    for question in questions:
        if not question.choices:
            raise InputError(f"choose() needs choices; this question has none: {question.prompt.last!r}")
    flat = [(question.prompt, choice) for question in questions for choice in question.choices]
    samples = iter(model.score([prompt for prompt, _ in flat], [choice for _, choice in flat]))
    return [choice_from_samples([next(samples) for _ in question.choices]) for question in questions]


def choice_from_samples(samples: Sequence[Sample]) -> Choice:
    """What the scored choices of one question come to."""
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
