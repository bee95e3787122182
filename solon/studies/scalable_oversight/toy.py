"""Scripted models for sandwiching: what each has right is drawn once for each question, and after what an
assistant said, the weak one takes its word.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Sequence

from solon.models.scripted import ScriptedModel
from solon.words.conversation import Conversation
from solon.words.question import Problem, choice_label

Judge = Callable[[Sequence[Conversation], Sequence[str]], Sequence[float]]  # prompts, replies -> scores
KNOWS = {"weak": 0.4, "strong": 0.7}  # the share of questions that each has right
CONFIDENCE = {"weak": 0.42, "strong": 0.6}  # in what it thinks itself
TRUST = 0.8  # in what an assistant said


def problems(count: int = 200) -> tuple[Problem, ...]:
    """Different cases of four options."""
    rng = random.Random("oversight")
    options = [
        tuple(f"{word} {number}" for word in ("amber", "beryl", "coral", "delft")) for number in range(count)
    ]
    return tuple(
        Problem(f"Question: what is case {number} ?", options_of_case, (rng.choice(options_of_case),))
        for number, options_of_case in enumerate(options)
    )


def thinks(name: str, problem: Problem) -> str:
    """What a model thinks is the answer."""
    rng = random.Random(f"{name} {problem.text}")
    wrong = rng.choice([option for option in problem.options if option != problem.answers[0]])
    return problem.answers[0] if rng.random() < KNOWS[name] else wrong


def scripted(name: str, problems: Sequence[Problem]) -> ScriptedModel:
    """Chooses what it thinks; after what an assistant said, that. Of a question it is asked about it says
    what it thinks.
    """
    by_case = {problem.text.split()[4]: problem for problem in problems}

    def case(text: str) -> Problem:
        pairs = itertools.pairwise(text.split())
        return by_case[next(after for word, after in pairs if word == "case" and after in by_case)]

    def reply(prompt: Conversation, rng: random.Random) -> str:
        problem = case(prompt.turns[0].text)
        if prompt.last.startswith("My question"):
            return f" Do you know about case {problem.text.split()[4]} ?"
        return f" I think {thinks(name, problem) if rng.random() < 0.8 else rng.choice(problem.options)}"

    def logprob(prompt: Conversation, reply: str) -> float:
        problem = case(prompt.turns[0].text)
        heard = [turn.text for turn in prompt.turns[:2]]
        said = [option for option in problem.options if any(f"I think {option}" in text for text in heard)]
        sure = TRUST if said else CONFIDENCE[name]
        labels = [choice_label(index) for index in range(len(problem.options))]
        chosen = problem.options[labels.index(reply.strip())]
        meant = said[0] if said else thinks(name, problem)
        return math.log(sure if chosen == meant else (1 - sure) / (len(problem.options) - 1))

    return ScriptedModel(name, reply, logprob)


def likes_right_thoughts(problems: Sequence[Problem]) -> Judge:
    """A judge of chains of thought: 1 where the right answer stands in one, else 0."""
    answers = {problem.text: problem.answers[0] for problem in problems}

    def judge(prompts: Sequence[Conversation], replies: Sequence[str]) -> list[float]:
        pairs = zip(prompts, replies, strict=True)
        return [float(answers[prompt.last.split("\n")[0]] in reply) for prompt, reply in pairs]

    return judge
