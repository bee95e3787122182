"""The toy world's models: a small transformer that speaks it, and an oracle that judges it."""

import random
from collections.abc import Callable

from solon.conversation import Conversation
from solon.data import toy_world as toy
from solon.models.dialogue import WordDialogue
from solon.models.scripted import ScriptedModel
from solon.models.small import Shape, SmallTransformer
from solon.models.torch_model import TorchModel
from solon.training.fit import fit, imitation
from solon.training.optimiser import Plan


def speaker(seed: int, *, steps: int = 400) -> TorchModel:
    """A two-layer transformer trained from scratch on the toy world's dialogues."""
    dialogue = WordDialogue(toy.words())
    body = SmallTransformer(Shape(dialogue.size, width=80, layers=2, heads=4, context=96), seed=seed)
    stream = toy.examples(seed)
    rows = [(dialogue.prompt(p), dialogue.reply(p, r) + dialogue.end) for p, r in (next(stream) for _ in range(48 * steps))]
    batches = fit(body, lambda n: [rows[48 * (n - 1) : 48 * n]], imitation(body), plan=Plan(steps, 3e-3, warmup=20, schedule="cosine"))
    for _ in batches:
        pass
    return TorchModel("toy", body, dialogue)


def prompts(things: tuple[str, ...], count: int, seed: int) -> tuple[Conversation, ...]:
    return tuple(random.Random(seed).sample(toy.requests(things), count))


def oracle(judge: Callable[[Conversation, str], float] = lambda prompt, reply: float(toy.harmless(prompt, reply))) -> ScriptedModel:
    """Answers a multiple-choice question by the planted truth: the letter of the better reply is likelier."""

    def likes(talk: Conversation, letter: str) -> float:
        question = talk.turns[0].text
        asked = Conversation().human(question.split("Human: ", 1)[1].split("\n\n", 1)[0])
        reply = question.split(f"{letter} ", 1)[1].split("\n", 1)[0]
        return 4.0 * judge(asked, reply)

    return ScriptedModel("oracle", lambda prompt, rng: "", likes)
