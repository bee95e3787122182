"""AI feedback: soft labels of comparisons by a model, under a principle (Constitutional AI, arXiv:2212.08073,
section 4.1).

- `label_multiple_choice`: the normalised probability of the letters (A) and (B).
- `label_with_reasoning`: the same after a sampled chain of thought. Its probabilities saturate, so the paper
  clamps them.
- `label_contrastive` (ours, for models too small to choose letters): s(d), d the difference of the replies'
  log-probability ratios (nats) after a principled and an unprincipled system message.
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
    """Two replies to one prompt, not yet compared."""

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
    """Soft labels from the letters' probabilities, under a principle drawn for each pair.

    With `both_orders` the log-odds of the two orders of presentation are averaged, which cancels a preference
    for one letter; `position_bias` measures it. The paper asks in one order.
    """
    principles = [_draw(constitution, pair, seed) for pair in pairs]
    forward = choose(
        judge, [_asked(pair, principle) for pair, principle in zip(pairs, principles, strict=True)]
    )
    backward = (
        choose(
            judge,
            [_asked(_turned(pair), principle) for pair, principle in zip(pairs, principles, strict=True)],
        )
        if both_orders
        else None
    )
    return _labelled(judge.name, pairs, principles, forward, backward)


def label_with_reasoning(
    judge: LanguageModel,
    pairs: Sequence[ReplyPair],
    constitution: Constitution,
    *,
    seed: int,
    max_tokens: int = 128,
) -> list[Comparison]:
    """Labels after a chain of thought of at most `max_tokens` tokens in each order. They are not clamped
    here; `Comparison.clamped(0.4, 0.6)` does so as in the paper, which bounds the score difference that a
    label asks for to ln(0.6/0.4) = 0.405 nats, or 70 Elo.
    """
    principles = [_draw(constitution, pair, seed) for pair in pairs]
    readings: list[list[Choice]] = []
    thoughts: list[list[str]] = []
    for order in ("forward", "backward"):
        turned = pairs if order == "forward" else [_turned(pair) for pair in pairs]
        requests = [
            _letters(pair, principle).assistant("Let's think step by step:")
            for pair, principle in zip(turned, principles, strict=True)
        ]
        sampled = judge.sample(requests, max_tokens=max_tokens, seed=derive(seed, "thought", order))
        texts = [group[0].text.strip() for group in sampled]
        questions = [
            Question(
                Conversation(request.turns[:-1]).assistant(f"{request.last} {text}\n\nThe answer is:"),
                LETTERS,
            )
            for request, text in zip(requests, texts, strict=True)
        ]
        readings.append(choose(judge, questions))
        thoughts.append(texts)
    name, rationales = f"{judge.name} reasoned", list(zip(*thoughts, strict=True))
    return _labelled(name, pairs, principles, *readings, thoughts=rationales)


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
    unprincipled, x), in nats.

    `prefaces` are the two system messages, with `{principle}` replaced by the preference question. There is
    no order of presentation; `readings` has one pair of ratios. Raises InputError on an empty reply.
    """
    principles = [_draw(constitution, pair, seed) for pair in pairs]
    prompts, replies = [], []
    for pair, principle in zip(pairs, principles, strict=True):
        for preface in prefaces:
            prompt = Conversation(tuple(t for t in pair.prompt.turns if t.role != "system")).system(
                preface.format(principle=principle.preference)
            )
            prompts += [prompt, prompt]
            replies += [pair.first, pair.second]
    scores = [sample.logprob for sample in judge.score(prompts, replies)]
    rows = []
    for number, (pair, principle) in enumerate(zip(pairs, principles, strict=True)):
        good_first, good_second, bad_first, bad_second = scores[4 * number : 4 * number + 4]
        ratios = (good_first - bad_first, good_second - bad_second)
        label = _sigmoid(scale * (ratios[0] - ratios[1]))
        rows.append(
            Comparison(
                pair.prompt,
                pair.first,
                pair.second,
                label,
                f"{judge.name} contrastive",
                "harmless",
                principle.name,
                (ratios,),
            )
        )
    return rows


@dataclass(frozen=True, slots=True)
class PositionBias:
    """A judge's preference for the reply that is shown first, over `n` pairs read in both orders.

    `lean` is the mean log-odds (nats) for (A), 0 without bias; `flips` is the share of pairs whose preferred
    reply changes with the order.
    """

    lean: float
    flips: float
    n: int


def position_bias(comparisons: Sequence[Comparison]) -> PositionBias:
    """The bias in comparisons with readings in both orders. Raises InputError where there is none."""
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
    """For each comparison by people, whether the label prefers the same reply; a label of 0.5 does not."""
    people = [c.p_first > 0.5 for c in comparisons]
    return [
        label.p_first != 0.5 and (label.p_first > 0.5) == prefers_first
        for prefers_first, label in zip(people, labelled, strict=True)
    ]


def _labelled(
    name: str,
    pairs: Sequence[ReplyPair],
    principles: Sequence[Principle],
    forward: Sequence[Choice],
    backward: Sequence[Choice] | None,
    *,
    thoughts: Sequence[tuple[str, ...]] = (),
) -> list[Comparison]:
    rows = []
    for number, (pair, principle) in enumerate(zip(pairs, principles, strict=True)):
        a, b = forward[number].logprobs
        readings = [(a, b)]
        if backward is not None:
            shown_a, shown_b = backward[number].logprobs
            readings.append((shown_b, shown_a))
        odds = sum(first - second for first, second in readings) / len(readings)
        rationales = thoughts[number] if thoughts else ()
        rows.append(
            Comparison(
                pair.prompt,
                pair.first,
                pair.second,
                _sigmoid(odds),
                name,
                "harmless",
                principle.name,
                tuple(readings),
                rationales,
            )
        )
    return rows


def _asked(pair: ReplyPair, principle: Principle) -> Question:
    return Question(_letters(pair, principle).assistant("The answer is:"), LETTERS)


def _letters(pair: ReplyPair, principle: Principle) -> Conversation:
    """The paper's layout: the conversation, the principle's question, the options."""
    speakers = {"human": "Human", "assistant": "Assistant", "system": "System"}
    transcript = "\n".join(f"{speakers[turn.role]}: {turn.text}" for turn in pair.prompt.turns)
    options = f"Options:\n (A) {pair.first.strip()}\n (B) {pair.second.strip()}"
    return Conversation().human(
        "Consider the following conversation between a human and an "
        f"assistant:\n\n{transcript}\n\n{principle.preference}\n\n{options}"
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
