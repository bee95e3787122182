"""The toy worlds for tests: small models that are trained once, prompts, and an oracle that judges.

Models are those of `solon.study.toy_models`, trained on padded batches, which is several times faster for
rows this short, and kept on disk for all workers and later sessions (see `conftest.py`).
"""

import fcntl
import hashlib
import os
import random
from collections.abc import Callable, Iterator, Sequence

import torch

from solon.data import toy_world as toy
from solon.models.backbones.small import Shape, SmallTransformer
from solon.models.backbones.small_files import load_small, save_small
from solon.models.dialogue import WordDialogue
from solon.models.scripted import ScriptedModel
from solon.models.torch_model import TorchModel
from solon.studies.know_what_they_know import toy_facts
from solon.training.fit import Example, fit
from solon.training.losses import LossTotal
from solon.training.optimiser import Plan
from solon.words.conversation import Conversation
from solon.words.question import Problem, to_question
from tests.paths import kept_models

Stream = Iterator[tuple[Conversation, str]]


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


# models


def speaker(
    seed: int,
    *,
    steps: int = 400,
    words: Sequence[str] = (),
    in_context_share: float = 0.0,
    unprompted_share: float = 0.0,
) -> TorchModel:
    """It speaks of the toy world (see `toy_world.examples`); `words` are known besides."""
    stream = toy.examples(seed, in_context_share=in_context_share, unprompted_share=unprompted_share)
    key = (steps, *words, in_context_share, unprompted_share)
    return trained("toy", (*toy.vocabulary(), *words), stream, key, seed=seed, steps=steps)


def attacker(seed: int, *, steps: int) -> TorchModel:
    """It writes requests of the kind that it is shown."""
    stream = toy.attack_examples(seed)
    return trained("toy attacker", toy.vocabulary(), stream, (steps,), seed=seed, steps=steps)


PEOPLE = 100  # a task: a probe of 80 channels needs more questions to learn from than the study's toy has


def facts(task: str) -> list[Problem]:
    """Questions of one task about more people than the study's toy world has."""
    return [toy_facts.question(f"{task[0]}{number}", task) for number in range(PEOPLE)]


def is_planted(problem: Problem) -> bool:
    """Whether `knower` was taught the answer."""
    return toy_facts.taught(problem.text.split()[4], problem.tags["subject"], seed=0)


def knower() -> TorchModel:
    """It knows half of the facts and guesses the others; it neither judges nor reads sources. It sees each
    question equally often.
    """
    problems = [problem for task in toy_facts.TASKS for problem in facts(task)]

    def examples() -> Stream:
        rng = random.Random(0)
        while True:
            for problem in rng.sample(problems, len(problems)):
                guess = rng.choice(toy_facts.VALUES[problem.tags["subject"]])
                yield to_question(problem).prompt, problem.answers[0] if is_planted(problem) else guess

    words = sorted({*toy_facts.words(), *(problem.text.split()[4] for problem in problems)})
    return trained("toy0", words, examples(), (PEOPLE,), seed=0, steps=800, rate=6e-3)


def trained(
    name: str, words: Sequence[str], stream: Stream, key: tuple, *, seed: int, steps: int, rate: float = 3e-3
) -> TorchModel:
    """A small transformer from scratch, on 48 replies a step; read from disk where the same was trained
    before. `key` tells models of one name, seed and rate apart.
    """
    folder = kept_models() / hashlib.sha256(repr((name, seed, rate, key)).encode()).hexdigest()[:16]
    with open(f"{folder}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            made = train(name, WordDialogue(tuple(words)), stream, seed=seed, steps=steps, rate=rate)
            save_small(made, folder.with_suffix(".unfinished"))
            os.rename(folder.with_suffix(".unfinished"), folder)
    kept = load_small(folder)
    return TorchModel(name, kept.module, kept.dialogue)


def train(
    name: str, dialogue: WordDialogue, stream: Stream, *, seed: int, steps: int, rate: float
) -> TorchModel:
    backbone = SmallTransformer(Shape(dialogue.size, width=80, layers=2, heads=4, context=96), seed=seed)
    rows = [
        (dialogue.prompt(prompt), dialogue.reply(prompt, reply) + dialogue.end)
        for prompt, reply in (next(stream) for _ in range(48 * steps))
    ]

    def batch(number: int) -> list[list[Example]]:
        by_length = sorted(rows[48 * (number - 1) : 48 * number], key=lambda row: len(row[0]) + len(row[1]))
        return [by_length[:32], by_length[32:]]

    plan = Plan(steps, rate, warmup=20, schedule="cosine")
    for _ in fit(backbone, batch, padded_cross_entropy(backbone), plan=plan):
        pass
    return TorchModel(name, backbone, dialogue)


def padded_cross_entropy(backbone: SmallTransformer) -> Callable[[Sequence[Example]], LossTotal]:
    """`reply_cross_entropy` over rows padded at their ends, where a causal model sees no padding."""

    def loss(examples: Sequence[Example]) -> LossTotal:
        longest = max(len(prompt) + len(reply) for prompt, reply in examples)
        tokens_BT = torch.zeros(len(examples), longest, dtype=torch.long)
        asked_BT = torch.zeros(len(examples), longest, dtype=torch.bool)
        for row, (prompt, reply) in enumerate(examples):
            tokens_BT[row, : len(prompt) + len(reply)] = torch.tensor(prompt + reply)
            asked_BT[row, len(prompt) : len(prompt) + len(reply)] = True
        hidden_NC = backbone.hidden(tokens_BT[:, :-1])[asked_BT[:, 1:]]
        logprobs_NV = backbone.logits(hidden_NC).log_softmax(dim=-1)
        logprobs = logprobs_NV.gather(1, tokens_BT[asked_BT][:, None])
        return LossTotal(-logprobs.sum(), float(logprobs.numel()))

    return loss
