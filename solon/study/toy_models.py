"""The toy world's speaker, trained from scratch in seconds: what a study runs on where no model is given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from solon.alignment.feedback import ReplyPair
from solon.data import toy_world as toy
from solon.models.backbones.small import Shape, SmallTransformer
from solon.models.base import Tokens
from solon.models.dialogue import WordDialogue
from solon.models.torch_model import TorchModel
from solon.training.fit import fit, reply_cross_entropy
from solon.training.optimiser import Plan
from solon.words.comparison import Comparison
from solon.words.conversation import Conversation


def speaker(
    seed: int,
    *,
    steps: int = 400,
    layers: int = 2,
    width: int = 80,
    words: Sequence[str] = (),
    shown: float = 0.0,
    blank: float = 0.0,
    named: float = 0.0,
    hole: str = "",
) -> TorchModel:
    """A small transformer trained from scratch on the toy world's dialogues (see `toy_world.examples`).
    `words` are known besides.
    """
    stream = toy.examples(
        seed, in_context_share=shown, unprompted_share=blank, rated_share=named, exempt_ending=hole
    )
    return trained(
        f"toy{'' if width == 80 else width}",
        WordDialogue((*toy.vocabulary(), *words)),
        stream,
        seed=seed,
        steps=steps,
        layers=layers,
        width=width,
    )


def attacker(seed: int, *, steps: int = 300) -> TorchModel:
    """One that writes requests of the kind that it is shown."""
    return trained(
        "toy attacker",
        WordDialogue(toy.vocabulary()),
        toy.attack_examples(seed),
        seed=seed,
        steps=steps,
        layers=2,
        width=80,
    )


def trained(
    name: str,
    dialogue: WordDialogue,
    stream: Iterator[tuple[Conversation, str]],
    *,
    seed: int,
    steps: int,
    layers: int,
    width: int,
    rate: float = 3e-3,
) -> TorchModel:
    """A small transformer from scratch, on 48 replies a step."""
    body = SmallTransformer(Shape(dialogue.size, width=width, layers=layers, heads=4, context=96), seed=seed)
    rows = [
        (dialogue.prompt(p), dialogue.reply(p, r) + dialogue.end)
        for p, r in (next(stream) for _ in range(48 * steps))
    ]
    batches = fit(
        body,
        lambda n: [rows[48 * (n - 1) : 48 * n]],
        reply_cross_entropy(body),
        plan=Plan(steps, rate, warmup=20, schedule="cosine"),
    )
    for _ in batches:
        pass
    return TorchModel(name, body, dialogue)


def language_model(
    name: str,
    words: Sequence[str],
    rows: Sequence[Tokens],
    *,
    seed: int,
    width: int = 64,
    layers: int = 2,
    rate: float = 3e-3,
) -> TorchModel:
    """A small transformer from scratch on plain rows, 48 a step, each seen once. `words` spell its tokens and
    hold no space.
    """
    dialogue = WordDialogue(tuple(own.strip() for own in words))
    body = SmallTransformer(
        Shape(dialogue.size, width=width, layers=layers, heads=4, context=len(rows[0])), seed=seed
    )
    steps = len(rows) // 48

    def batch(number: int) -> list[list[tuple[Tokens, Tokens]]]:
        return [[(row[:1], row[1:]) for row in rows[48 * (number - 1) : 48 * number]]]

    for _ in fit(
        body, batch, reply_cross_entropy(body), plan=Plan(steps, rate, warmup=20, schedule="cosine")
    ):
        pass
    return TorchModel(name, body, dialogue)


def planted(pairs: Sequence[ReplyPair]) -> list[Comparison]:
    """The truth of the toy world as an annotator: which reply is as it should be; one half where both are, or
    neither.
    """
    worths = [
        (toy.gold_reward(pair.prompt, pair.first), toy.gold_reward(pair.prompt, pair.second))
        for pair in pairs
    ]
    return [
        Comparison(pair.prompt, pair.first, pair.second, 0.5 + 0.5 * (first - second), "planted")
        for pair, (first, second) in zip(pairs, worths, strict=True)
    ]
