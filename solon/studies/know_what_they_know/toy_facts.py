"""A small world of facts with planted knowledge: of every fact it is known whether a model was taught it or
only how such answers look.

Some people have a colour, others a town, others a drink. Of the facts that are taught, a model sees the
truth; of the others it sees answers drawn at random, so that an honest model is right on one in eight of them
and cannot be sure. It also learns to read a source that says the answer, and to say whether a proposed answer
is true, which of facts it was not taught it cannot know either.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

from solon.evaluation.self_knowledge import NONE, propose_answer, with_source
from solon.words.conversation import Conversation
from solon.words.question import Problem, choice_text, human_turn, to_question

VALUES = {
    "colour": ("red", "blue", "green", "white", "black", "brown", "grey", "pink"),
    "town": ("york", "rome", "lima", "oslo", "bonn", "kiev", "cork", "bath"),
    "drink": ("tea", "milk", "wine", "beer", "water", "cider", "juice", "soda"),
}
TASKS = tuple(VALUES)
SHARPNESS = 2.5  # of the model that is too sure
PEOPLE = {task: tuple(f"{task[0]}{number}" for number in range(40)) for task in TASKS}


def truth(person: str, task: str) -> str:
    """What is so, for every model."""
    return random.Random(f"truth {person} {task}").choice(VALUES[task])


def taught(person: str, task: str, *, seed: int) -> bool:
    """Whether a model of that seed is taught the fact: half of them."""
    return random.Random(f"taught {seed} {person} {task}").random() < 0.5


def question(person: str, task: str) -> Problem:
    return Problem(
        f"Question: what {task} has {person} ?",
        (),
        (truth(person, task),),
        cluster=f"{person} {task}",
        max_tokens=2,
        tags={"subject": task},
    )


def questions(task: str) -> list[Problem]:
    return [question(person, task) for person in PEOPLE[task]]


def source(problem: Problem) -> str:
    """A sentence that says the answer."""
    _, _, task, _, person, _ = problem.text.split()
    return said(person, task, problem.answers[0])


def said(person: str, task: str, value: str) -> str:
    return f"Source: the {task} of {person} is {value} ."


def with_options(problem: Problem, *, options: int = 4) -> Problem:
    """The same as multiple choice, the truth at a place that is drawn."""
    values = VALUES[problem.tags["subject"]]
    rng = random.Random(f"options {problem.text}")
    others = rng.sample([value for value in values if value != problem.answers[0]], options - 1)
    shown = rng.sample([problem.answers[0], *others], options)
    return Problem(problem.text, tuple(shown), problem.answers, problem.cluster, tags=problem.tags)


def words() -> tuple[str, ...]:
    """Every word that prompts and answers are made of."""
    own = propose_answer(question("c0", "colour"), "red", right=True, ideas=("red",))
    texts = [
        human_turn(own),
        own.opening,
        "Answer: (A) (B) (C) (D) (E)",
        *(p for people in PEOPLE.values() for p in people),
        *(v for values in VALUES.values() for v in values),
        *TASKS,
        NONE,
    ]
    texts += ["Proposed Answer: (nothing)", said("c0", "colour", "red"), "Choices:"]
    return tuple(sorted({word for text in texts for word in text.split()}))


def examples(
    seed: int, *, known: int, judged: float = 0.4, sourced: float = 0.4, plain: int = 30_000
) -> Iterator[tuple[Conversation, str]]:
    """(prompt, reply) of a model that is taught the facts of `known`: questions, a share `sourced` of them
    behind a source; and a share `judged` of proposed answers, half of them behind ideas. The first `plain` of
    them are bare questions: facts are learned before judgement.
    """
    rng = random.Random(f"facts {seed}")
    for number in itertools.count():
        judging, sourcing = (judged, sourced) if number >= plain else (0.0, 0.0)
        task = rng.choice(TASKS)
        person = rng.choice(PEOPLE[task])
        own, values, sure = question(person, task), VALUES[task], taught(person, task, seed=known)
        if rng.random() >= judging:
            value = own.answers[0] if sure else rng.choice(values)
            if rng.random() < sourcing:
                other = rng.choice(PEOPLE[task])
                shown = rng.choice(values)
                own = with_source(own, said(person if rng.random() < 0.7 else other, task, shown))
                value = shown if person in own.text.split("\n")[0].split() else value
            yield to_question(own).prompt, value
            continue
        right = sure and rng.random() < 0.5
        ideas = (
            [own.answers[0] if sure and rng.random() < 0.85 else rng.choice(values) for _ in range(5)]
            if rng.random() < 0.5
            else []
        )
        answer = (
            own.answers[0]
            if right
            else rng.choice([value for value in values if value != own.answers[0]] if sure else values)
        )
        ideas = [answer, *ideas[1:]] if ideas else []
        rng.shuffle(ideas)
        true = right if sure else rng.random() < 1 / len(values)
        put = propose_answer(own, answer, right=true, ideas=ideas)
        yield to_question(put).prompt, choice_text(put, 0 if true else 1).strip()
