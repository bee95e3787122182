"""What a feature stands for, said by a model and rated by one (Scaling Monosemanticity, "Assessing feature
interpretability").

A model is shown texts in which the feature fires, the token that fires most marked, and says what they share.
A judge then rates on the paper's scale of 0 to 3 how well that label goes with a text, as a belief over the
four numbers, so that ratings are expectations and not draws.
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


def mark_token(words: Sequence[str], place: int) -> str:
    """A passage with one of its tokens marked.

    >>> mark_token(["to", " the", " lake"], 1)
    'to<< the>> lake'
    """
    return "".join([*words[:place], f"<<{words[place]}>>", *words[place + 1 :]])


def describe_features(
    speaker: Speaker, passages: Sequence[Sequence[str]], *, max_tokens: int = 30, seed: int = 0
) -> list[str]:
    """A label for each feature from its marked passages: the first line that is said, greedily; empty where
    nothing is.
    """
    prompts = [
        Conversation().human(
            DESCRIBE_PROMPT.format(passages="\n\n".join(f"{n + 1}. {text}" for n, text in enumerate(own)))
        )
        for own in passages
    ]
    drawn = speaker.sample(prompts, max_tokens=max_tokens, temperature=0.0, seed=seed)
    return [next((line.strip() for line in own[0].text.splitlines() if line.strip()), "") for own in drawn]


def rate_labels(judge: LanguageModel, labels: Sequence[str], passages: Sequence[str]) -> list[float]:
    """The expected rating, 0 to 3, of each label for the marked passage beside it."""
    questions = [
        Question(Conversation().human(RATING_PROMPT.format(label=label, passage=passage)), SCALE)
        for label, passage in zip(labels, passages, strict=True)
    ]
    return [sum(rating * p for rating, p in enumerate(own.belief)) for own in choose(judge, questions)]
