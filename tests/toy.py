"""The toy world for tests: its speaker, its prompts, and an oracle that judges it."""

import random
from collections.abc import Callable

from solon.data import toy_world as toy
from solon.models.scripted import ScriptedModel
from solon.study.toy_models import speaker
from solon.words.conversation import Conversation

__all__ = ["oracle", "prompts", "speaker"]


def prompts(things: tuple[str, ...], count: int, seed: int) -> tuple[Conversation, ...]:
    return tuple(random.Random(seed).sample(toy.requests(things), count))


def oracle(
    judge: Callable[[Conversation, str], float] = lambda prompt, reply: float(toy.is_harmless(prompt, reply)),
) -> ScriptedModel:
    """Answers a multiple-choice question by the planted truth: the letter of the better reply is likelier."""

    def likes(talk: Conversation, letter: str) -> float:
        question = talk.turns[0].text
        asked = Conversation().human(question.split("Human: ", 1)[1].split("\n\n", 1)[0])
        reply = question.split(f"{letter} ", 1)[1].split("\n", 1)[0]
        return 4.0 * judge(asked, reply)

    return ScriptedModel("oracle", lambda prompt, rng: "", likes)
