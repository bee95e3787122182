"""Descriptions of features by a model, and their ratings by a judge (Scaling Monosemanticity, "Assessing
feature interpretability").

A model sees passages with the token of highest activation marked and describes what they share. A judge rates
on the paper's scale from 0 to 3 how well the description fits a passage. A rating is the expectation over the
judge's probabilities of the four numbers, not a sample.
"""

from __future__ import annotations

from collections.abc import Sequence

from solon.models.base import LanguageModel, Speaker
from solon.models.choice import choose
from solon.words.conversation import Conversation
from solon.words.question import Question

DESCRIBE_PROMPT = (
    "Below are passages. In each, one place is marked with << >>. A detector inside a language model "
    "responded at the marked places. Say in at most ten words "
    "what the marked places have in common, counting what comes before them. Answer with the description "
    "alone.\n\n{passages}"
)
RATING_PROMPT = (
    "A detector inside a language model is described as: {label}\n\nIt responded at the place marked with "
    "<< >> in this passage:\n\n{passage}\n\nHow well does the "
    "description go with that place?\n0: not at all\n1: only loosely, or to something near it\n2: "
    "mostly\n3: exactly\nAnswer with one number."
)
SCALE = ("0", "1", "2", "3")


def mark_token(words: Sequence[str], index: int) -> str:
    """A passage with the token at `index` marked.

    >>> mark_token(["to", " the", " lake"], 1)
    'to<< the>> lake'
    """
    return "".join([*words[:index], f"<<{words[index]}>>", *words[index + 1 :]])


def describe_features(
    speaker: Speaker, passages: Sequence[Sequence[str]], *, max_tokens: int = 30, seed: int = 0
) -> list[str]:
    """A description of each feature from its marked passages: the first line of a greedy reply, empty where
    the reply is.
    """
    prompts = [
        Conversation().human(
            DESCRIBE_PROMPT.format(passages="\n\n".join(f"{n + 1}. {text}" for n, text in enumerate(group)))
        )
        for group in passages
    ]
    sampled = speaker.sample(prompts, max_tokens=max_tokens, temperature=0.0, seed=seed)
    return [
        next((line.strip() for line in group[0].text.splitlines() if line.strip()), "") for group in sampled
    ]


def rate_labels(judge: LanguageModel, labels: Sequence[str], passages: Sequence[str]) -> list[float]:
    """The expected rating, 0 to 3, of each label for the marked passage beside it."""
    questions = [
        Question(Conversation().human(RATING_PROMPT.format(label=label, passage=passage)), SCALE)
        for label, passage in zip(labels, passages, strict=True)
    ]
    return [sum(rating * p for rating, p in enumerate(choice.belief)) for choice in choose(judge, questions)]
