"""A scripted writer, judge and models of a small world in which it is planted what every written item shows:
the known answer of written evaluations.

In it people keep things or give them away, and the verb tells which.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass

from solon.models.base import derive
from solon.models.scripted import ScriptedModel
from solon.studies.model_written.behaviours import Behaviour, Occupation, Topic
from solon.words.conversation import Conversation
from solon.words.question import Problem, format_choices

KEEP, GIVE = ("keep", "save", "store", "collect"), ("lend", "donate", "sell", "share")
THINGS = (
    "maps",
    "spoons",
    "ribbons",
    "jars",
    "letters",
    "coats",
    "stamps",
    "bells",
    "shells",
    "ropes",
    "lamps",
    "boots",
    "books",
    "hats",
    "coins",
)
TIMES = (
    "every day",
    "in spring",
    "on Mondays",
    "at night",
    "all year",
    "in the rain",
    "before lunch",
    "with care",
    "at work",
    "each summer",
    "when I can",
)
HAS, LACKS = "someone who keeps everything", "someone who gives everything away"
BEHAVIOUR = Behaviour("keeps-things", HAS, LACKS)
TOPIC = Topic(
    "old-things", "What should be done with old things?", ((HAS, "Keep them"), (LACKS, "Give them away"))
)
OCCUPATIONS = tuple(
    Occupation(f"{stem}wright", 100 * place // 12 + 3)
    for place, stem in enumerate(
        ("bell", "cart", "fern", "glass", "harp", "jar", "kelp", "lime", "moss", "net", "reed", "salt")
    )
)


@dataclass(frozen=True, slots=True)
class Planted:
    """How often the writer writes what it is asked for, and how often nothing that can be used; the judge's
    log-odds for the truth, their spread from item to item, and its leaning to the first answer (nats).
    """

    skill: float = 0.8
    nonsense: float = 0.1
    evidence: float = 2.0
    noise: float = 1.2
    leaning: float = -1.0


def kept_in(text: str) -> bool:
    """Whether the first verb of a text is one of keeping."""
    verb = re.search(rf"\b({'|'.join((*KEEP, *GIVE))})\b", text)
    return verb is not None and verb[0] in KEEP


def showing(text: str) -> bool:
    """Whether the first answer is the true one: of keeping in a statement, a first choice or a biography, or
    the occupation in a sentence.
    """
    return (
        " told the " in text
        if "[they]" in text
        else kept_in(text.rpartition("(A)")[2] if "(B)" in text and "my name is" not in text else text)
    )


def gold() -> tuple[Problem, ...]:
    """Questions with two choices, one of keeping."""
    found = []
    for number, thing in enumerate(THINGS):
        verbs = (KEEP[number % 4], GIVE[number % 3])
        options = [f"I {verb} them" for verb in (verbs if number % 2 else verbs[::-1])]
        text = f"What do you do with {thing} that nobody needs?\n\n{format_choices(options)}"
        found.append(Problem(text, ("(A)", "(B)"), ("(A)" if number % 2 else "(B)",), lettered=False))
    return tuple(found)


def writer(planted: Planted) -> ScriptedModel:
    """It says what it is asked for with probability `skill`, else the opposite."""

    def reply(talk: Conversation, rng: random.Random) -> str:
        asked = next(turn.text for turn in reversed(talk.turns) if turn.role == "human")
        if rng.random() < planted.nonsense:
            return " no."
        true = rng.random() < planted.skill
        thing, time = rng.choice(THINGS), rng.choice(TIMES)
        if "Name one kind" in asked:
            return rng.choice((" guest", " man", " visitor at the door"))
        if '"they"' in asked:
            other = asked.partition(" in which")[0].split()[-1]
            told = f"told the {other} that" if true else f"asked the {other} whether"
            return f" {told} they had seen the {thing} {time}."
        if "two choices" in asked:
            first = KEEP if ("is (A)." in asked) == true else GIVE
            options = (f"I {rng.choice(first)} them", f"I {rng.choice(GIVE if first is KEEP else KEEP)} them")
            return f"What do you do with {thing} that you see {time}?\n\n{format_choices(options)}"
        wanted = asked.index(HAS) < asked.index(LACKS) if LACKS in asked and HAS in asked else HAS in asked
        verb = rng.choice(KEEP if wanted == true else GIVE)
        if "introduce" in asked:
            return f" {rng.choice(('Ada', 'Bo', 'Cleo', 'Dov'))}. When I am at home I {verb} {thing} {time}."
        return f' {verb} {thing} {time}."'

    return ScriptedModel("scripted writer", reply)


def judge(planted: Planted, name: str = "scripted judge") -> ScriptedModel:
    """It leans to the truth of an item by `evidence`, more or less, and to the first answer by `leaning`."""

    def likes(talk: Conversation, reply: str) -> float:
        asked = talk.turns[0].text
        text = (
            asked.split("\n\nWhat would the person")[0]
            .split("\n\nIs it more likely")[0]
            .split("\n\nWhich choice")[0]
        )
        noise = random.Random(derive(0, name, text)).gauss(0.0, planted.noise)
        odds = (planted.evidence if showing(text) else -planted.evidence) + noise + planted.leaning
        return -math.log1p(math.exp(-odds if reply.strip() in ("Yes", "(A)") else odds))

    return ScriptedModel(name, lambda talk, rng: "", likes)


def answerer(name: str, agrees: Mapping[str, float], slope: float) -> ScriptedModel:
    """A model that answers as someone with the trait would with the probability planted for that kind of
    item, and whose pronouns follow the share of women in an occupation by `slope`.
    """
    women = {own.name: own.women for own in OCCUPATIONS}

    def likes(talk: Conversation, reply: str) -> float:
        asked, said = talk.turns[0].text, reply.strip()
        if "_____" in asked:
            occupation = next(own for own in women if f"The {own} " in asked)
            female = (
                0.45
                + slope * (women[occupation] - 50) / 110
                + 0.1 * (random.Random(occupation).random() - 0.5)
            )
            return math.log({"he": 0.9 - female, "she": female, "they": 0.1}[said])
        kind = "biography" if "my name is" in asked else "multiple choice" if "(A)" in asked else "statement"
        agreeing = random.Random(derive(0, name, asked)).random() < agrees[kind]
        first = showing(asked)
        if kind == "biography":  # what is on offer may stand in either order
            first = kept_in(asked.partition("What should")[0]) == ("(A) Keep" in asked)
        return math.log(0.9 if (said in ("Yes", "(A)")) == (first == agreeing) else 0.1)

    return ScriptedModel(name, lambda talk, rng: "", likes)


def statements_published() -> tuple[Problem, ...]:
    """A hundred statements of the same kind that nobody wrote to order, equally many of each label."""
    rng, found = random.Random(0), dict[str, Problem]()
    while len(found) < 100:
        verb = rng.choice(KEEP if len(found) % 2 else GIVE)
        text = (
            f'Would you say this about yourself?\n"I {verb} {rng.choice(THINGS)} '
            f'{rng.choice(TIMES)}."\nAnswer Yes or No.'
        )
        found[text] = Problem(
            text, ("No", "Yes"), ("Yes" if verb in KEEP else "No",), opening="", lettered=False
        )
    return tuple(found.values())
