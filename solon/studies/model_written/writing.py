"""Evaluations that a model writes (Discovering Language Model Behaviors with Model-Written Evaluations, Perez
et al. 2022, arXiv:2212.09251).

A writer is asked for items that should carry a given label. A judge, which is a preference model or a
language model, says how surely each does, without being told which was asked for; of every label the surest
are kept, equally many. The words that ask are ours, the rows come out in the published forms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np

from solon.data.published import Defect
from solon.errors import InputError
from solon.models.base import LanguageModel, Speaker, derive
from solon.models.choice import softmax
from solon.words.conversation import Conversation
from solon.words.question import Question

Scorer = Callable[[Sequence[Conversation], Sequence[str]], Sequence[float]]


@dataclass(frozen=True, slots=True)
class Brief:
    """What the writer is asked for: an item about `subject` that carries `label`. Briefs of one round are
    asked together, under one seed.
    """

    subject: str
    label: str
    prompt: Conversation
    round: int = 0


@dataclass(frozen=True, slots=True)
class Item:
    """What was written, in the words that a model will be asked. `confidence` is the judge's probability of
    the label that was asked for.
    """

    subject: str
    label: str
    text: str
    confidence: float = 0.0


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of evaluation: its briefs, each answered `count` times; what makes an item's text of the
    writer's words, or raises Defect; what the judge is asked of (subject, text), whose choices are the
    labels; and an item's published row. `left_out` says of what was given to begin with what could not be
    used.
    """

    name: str
    briefs: tuple[Brief, ...]
    count: int
    tidy: Callable[[str], str]
    check: Callable[[str, str], Question]
    row: Callable[[Item], dict[str, Any]]
    left_out: tuple[str, ...] = ()

    @property
    def labels(self) -> dict[str, list[str]]:
        """What each subject's items may be labelled."""
        found: dict[str, dict[str, None]] = {}
        for brief in self.briefs:
            found.setdefault(brief.subject, {})[brief.label] = None
        return {subject: list(own) for subject, own in found.items()}


# writing


def written(
    writer: Speaker, kind: Kind, briefs: Sequence[Brief], *, max_tokens: int, temperature: float, seed: int
) -> list[list[str]]:
    """The writer's words for each brief, `kind.count` times, as they come."""
    found = []
    for number, some in groupby(briefs, key=lambda brief: brief.round):
        prompts = [brief.prompt for brief in some]
        own = derive(seed, kind.name, number)
        groups = writer.sample(
            prompts, count=kind.count, max_tokens=max_tokens, temperature=temperature, seed=own
        )
        found += [[sample.text for sample in group] for group in groups]
    return found


def tidied(kind: Kind, brief: Brief, words: Sequence[str]) -> tuple[list[Item], list[str]]:
    """Items, and for what could be none the reason."""
    items, reasons = [], []
    opening = brief.prompt.last if not brief.prompt.awaits_reply else ""
    for text in words:
        try:
            items.append(Item(brief.subject, brief.label, kind.tidy(opening + text)))
        except Defect as defect:
            reasons.append(str(defect))
    return items, reasons


def without_repeats(items: Sequence[Item]) -> tuple[list[Item], int, int]:
    """Each text once, by its letters and digits alone; how many repeated another, and how many were
    written for several labels, which none of them can be right of.

    >>> rows = [("Yes", "I am."), ("No", "i am"), ("No", "I go."), ("No", "I go")]
    >>> without_repeats([Item("a", label, text) for label, text in rows])[1:]
    (1, 2)
    """
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(item.subject + "".join(filter(str.isalnum, item.text.casefold())), []).append(item)
    clear = [own for own in groups.values() if len({item.label for item in own}) == 1]
    kept = [own[0] for own in clear]
    return kept, sum(len(own) - 1 for own in clear), len(items) - sum(map(len, clear))


# judging


def beliefs(score: Scorer, questions: Sequence[Question]) -> list[tuple[float, ...]]:
    """The judge's probability of each choice: softmax of the scores of the choices as replies. Of a language
    model, whose scores are log-probabilities (see `liking`), this is its renormalised belief; of a preference
    model, its preference among the replies.
    """
    flat = [(question.prompt, choice) for question in questions for choice in question.choices]
    scores = iter(score([prompt for prompt, _ in flat], [choice for _, choice in flat]))
    return [softmax([next(scores) for _ in question.choices]) for question in questions]


def liking(model: LanguageModel) -> Scorer:
    """A language model as a judge: log-probabilities (nats) of the replies."""
    return lambda prompts, replies: [sample.logprob for sample in model.score(prompts, replies)]


def judged(kind: Kind, score: Scorer, items: Sequence[Item]) -> list[Item]:
    """Items with the judge's probability of the label that was asked for."""
    questions = [kind.check(item.subject, item.text) for item in items]
    found = []
    for item, question, belief in zip(items, questions, beliefs(score, questions), strict=True):
        confidence = belief[labels_of(question).index(item.label)]
        if not math.isfinite(confidence):
            raise InputError(f"the judge's scores of {item.text[:60]!r} are not finite")
        found.append(replace(item, confidence=confidence))
    return found


def labels_of(question: Question) -> list[str]:
    """The labels that a judge's choices stand for; after an opening a choice begins with a space."""
    return [choice.strip() for choice in question.choices]


def balanced(items: Sequence[Item], labels: Mapping[str, Sequence[str]], *, each: int) -> list[Item]:
    """Of every subject and each of its `labels` the `each` surest items, or as many as the label with the
    fewest has, which may be none: all labels of a subject equally often. Since labels are ranked apart, a
    judge's leaning to one answer costs nothing.

    >>> some = [Item("a", "Yes", "p", 0.9), Item("a", "Yes", "q", 0.6), Item("a", "No", "r", 0.2)]
    >>> [item.text for item in balanced(some, {"a": ("Yes", "No")}, each=10)]
    ['p', 'r']
    """
    kept: set[int] = set()
    for subject, wanted in labels.items():
        groups = [
            sorted(
                (own for own in items if (own.subject, own.label) == (subject, label)),
                key=lambda own: -own.confidence,
            )
            for label in wanted
        ]
        kept |= {id(item) for own in groups for item in own[: min(each, *map(len, groups))]}
    return [item for item in items if id(item) in kept]


def spread(vectors_NC: np.ndarray) -> Callable[[np.ndarray], float]:
    """How different texts are: half the mean square, over dimensions, of the difference between two different
    ones of those whose places are given. Where `vectors_NC` is standardised by dimension, 1 is as different
    as any two of all of them. A statistic for `statistics.bootstrap`; a text drawn twice is not held against
    itself.
    """
    if not np.isfinite(vectors_NC).all() or not vectors_NC.size:
        raise InputError("texts to be set apart need finite vectors")
    square_N = np.square(vectors_NC).mean(axis=1)
    apart_NN = (square_N[:, None] + square_N[None]) / 2 - vectors_NC @ vectors_NC.T / vectors_NC.shape[1]

    def distance(places: np.ndarray) -> float:
        own, counts = np.unique(places.astype(int), return_counts=True)
        weights = np.outer(counts, counts).astype(float)
        np.fill_diagonal(weights, 0.0)
        return float((weights * apart_NN[np.ix_(own, own)]).sum() / max(weights.sum(), 1.0))

    return distance
