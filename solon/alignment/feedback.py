"""AI feedback: a model compares two replies under a principle, and its belief is kept soft.

Three ways to ask (Constitutional AI section 4.1, and one of our own):

- `label_multiple_choice`: "(A) ... (B) ...", the label is the normalised probability of the two letters;
- `label_with_reasoning`: the same after a sampled chain of thought, whose saturated probabilities are meant
to be clamped, as a view;
- `label_contrastive` (ours, for models too small to read letters): how much likelier the reply is behind a
principled preface
  than behind an unprincipled one. Its label is s(d), d the difference of the two replies' log-ratios in nats.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from solon.errors import InputError
from solon.models.base import LanguageModel, derive
from solon.models.choice import Choice, choose
from solon.words.comparison import Comparison
from solon.words.constitution import Constitution, Principle
from solon.words.conversation import Conversation
from solon.words.question import Question

LETTERS = (" (A)", " (B)")

PREFACES = (
    "You are a thoughtful assistant. Before you answer, you ask yourself: {principle} You always give that "
    "better answer.",
    "You are a careless assistant. Before you answer, you ask yourself: {principle} You always give the "
    "other, worse answer.",
)


@dataclass(frozen=True, slots=True)
class ReplyPair:
    """Two replies to one prompt, waiting to be compared."""

    prompt: Conversation
    first: str
    second: str

    @property
    def key(self) -> str:
        """The key of the comparison that it becomes, which does not depend on the label."""
        return Comparison(self.prompt, self.first, self.second, 0.5, "").key


def label_multiple_choice(
    judge: LanguageModel,
    pairs: Sequence[ReplyPair],
    constitution: Constitution,
    *,
    seed: int,
    both_orders: bool = True,
) -> list[Comparison]:
    """Soft labels from the letters' probabilities under a principle drawn for each pair.

    In both orders the two log-odds are averaged, which cancels a liking for one letter; `position_bias`
    reports it.
    """
    rules = [_draw(constitution, pair, seed) for pair in pairs]
    forward = choose(judge, [_asked(pair, rule) for pair, rule in zip(pairs, rules, strict=True)])
    backward = (
        choose(judge, [_asked(_turned(pair), rule) for pair, rule in zip(pairs, rules, strict=True)])
        if both_orders
        else None
    )
    return _labelled(judge.name, pairs, rules, forward, backward, ())


def label_with_reasoning(
    judge: LanguageModel,
    pairs: Sequence[ReplyPair],
    constitution: Constitution,
    *,
    seed: int,
    max_tokens: int = 128,
) -> list[Comparison]:
    """The same after a chain of thought in each order. The labels are as they come: clamp them with
    `clamped(0.4, 0.6)`.

    With both replies clamped to 40-60, a label asks for a score difference of at most ln(0.6/0.4) = 0.405
    nats, 70 Elo.
    """
    rules = [_draw(constitution, pair, seed) for pair in pairs]
    readings: list[list[Choice]] = []
    thoughts: list[list[str]] = []
    for order in ("forward", "backward"):
        turned = pairs if order == "forward" else [_turned(pair) for pair in pairs]
        asked = [
            _letters(pair, rule).assistant("Let's think step by step:")
            for pair, rule in zip(turned, rules, strict=True)
        ]
        drawn = judge.sample(asked, max_tokens=max_tokens, seed=derive(seed, "thought", order))
        said = [group[0].text.strip() for group in drawn]
        concluded = [
            Conversation(talk.turns[:-1]).assistant(f"{talk.last} {thought}\n\nThe answer is:")
            for talk, thought in zip(asked, said, strict=True)
        ]
        readings.append(choose(judge, [Question(talk, LETTERS) for talk in concluded]))
        thoughts.append(said)
    return _labelled(
        f"{judge.name} reasoned", pairs, rules, readings[0], readings[1], list(zip(*thoughts, strict=True))
    )


def label_contrastive(
    judge: LanguageModel,
    pairs: Sequence[ReplyPair],
    constitution: Constitution,
    *,
    seed: int,
    prefaces: tuple[str, str] = PREFACES,
    scale: float = 1.0,
) -> list[Comparison]:
    """p_first = s(scale * (ratio(first) - ratio(second))), ratio(y) = log p(y | principled, x) - log p(y |
    unprincipled, x).

    `prefaces` are the two system messages; a `{principle}` in them is filled with the drawn preference
    question. There is no order to be biased by; `readings` holds the one pair of ratios. Raises InputError on
    an empty reply.
    """
    rules = [_draw(constitution, pair, seed) for pair in pairs]
    prompts, replies = [], []
    for pair, rule in zip(pairs, rules, strict=True):
        for preface in prefaces:
            told = Conversation(tuple(t for t in pair.prompt.turns if t.role != "system")).system(
                preface.format(principle=rule.preference)
            )
            prompts += [told, told]
            replies += [pair.first, pair.second]
    scores = [sample.logprob for sample in judge.score(prompts, replies)]
    found = []
    for number, (pair, rule) in enumerate(zip(pairs, rules, strict=True)):
        good_first, good_second, bad_first, bad_second = scores[4 * number : 4 * number + 4]
        ratios = (good_first - bad_first, good_second - bad_second)
        label = _sigmoid(scale * (ratios[0] - ratios[1]))
        found.append(
            Comparison(
                pair.prompt,
                pair.first,
                pair.second,
                label,
                f"{judge.name} contrastive",
                "harmless",
                rule.name,
                (ratios,),
            )
        )
    return found


@dataclass(frozen=True, slots=True)
class PositionBias:
    """How a judge leans towards what it is shown first.

    `lean` is its mean log-odds for (A) over both orders, in nats: 0 for a fair judge. `flips` is the share of
    pairs whose preferred reply changes with the order, of `n` pairs that were read in both.
    """

    lean: float
    flips: float
    n: int


def position_bias(comparisons: Sequence[Comparison]) -> PositionBias:
    """Read off comparisons labelled in both orders. Raises InputError where none was."""
    both = [c.readings for c in comparisons if len(c.readings) == 2]
    if not both:
        raise InputError("position bias needs comparisons that were read in both orders; these were not")
    forward = [first - second for (first, second), _ in both]
    # log-odds for the first reply, which was shown as (B)
    backward = [first - second for _, (first, second) in both]
    lean = sum(f - b for f, b in zip(forward, backward, strict=True)) / (2 * len(both))
    flips = sum((f > 0) != (b > 0) for f, b in zip(forward, backward, strict=True)) / len(both)
    return PositionBias(lean, flips, len(both))


def agreement(comparisons: Sequence[Comparison], labelled: Sequence[Comparison]) -> list[bool]:
    """For each comparison people have decided, whether the labels prefer the same reply; a label of 0.5
    prefers none.
    """
    people = [c.p_first > 0.5 for c in comparisons]
    return [
        label.p_first != 0.5 and (label.p_first > 0.5) == own
        for own, label in zip(people, labelled, strict=True)
    ]


def _labelled(
    name: str,
    pairs: Sequence[ReplyPair],
    rules: Sequence[Principle],
    forward: Sequence[Choice],
    backward: Sequence[Choice] | None,
    thoughts: Sequence[tuple[str, ...]],
) -> list[Comparison]:
    found = []
    for number, (pair, rule) in enumerate(zip(pairs, rules, strict=True)):
        a, b = forward[number].logprobs
        readings = [(a, b)]
        if backward is not None:
            shown_a, shown_b = backward[number].logprobs
            readings.append((shown_b, shown_a))
        odds = sum(first - second for first, second in readings) / len(readings)
        rationales = thoughts[number] if thoughts else ()
        found.append(
            Comparison(
                pair.prompt,
                pair.first,
                pair.second,
                _sigmoid(odds),
                name,
                "harmless",
                rule.name,
                tuple(readings),
                rationales,
            )
        )
    return found


def _asked(pair: ReplyPair, rule: Principle) -> Question:
    return Question(_letters(pair, rule).assistant("The answer is:"), LETTERS)


def _letters(pair: ReplyPair, rule: Principle) -> Conversation:
    """The published layout: the conversation, the principle's question, the options."""
    speakers = {"human": "Human", "assistant": "Assistant", "system": "System"}
    talk = "\n".join(f"{speakers[turn.role]}: {turn.text}" for turn in pair.prompt.turns)
    options = f"Options:\n (A) {pair.first.strip()}\n (B) {pair.second.strip()}"
    return Conversation().human(
        "Consider the following conversation between a human and an "
        f"assistant:\n\n{talk}\n\n{rule.preference}\n\n{options}"
    )


def _turned(pair: ReplyPair) -> ReplyPair:
    return ReplyPair(pair.prompt, pair.second, pair.first)


def _draw(constitution: Constitution, pair: ReplyPair, seed: int) -> Principle:
    return constitution.draw_preference_principle(
        random.Random(derive(seed, "preference", pair.prompt.key, pair.first, pair.second))
    )


def _sigmoid(x: float) -> float:
    """
    >>> _sigmoid(0.0), _sigmoid(-1000.0)
    (0.5, 0.0)
    """
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
