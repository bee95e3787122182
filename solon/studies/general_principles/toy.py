"""The toy world of traits: five traits are five kinds of forbidden things, and labels are the planted truth,
misjudged now and then.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from solon.alignment.feedback import ReplyPair
from solon.data import toy_world
from solon.models.base import derive
from solon.studies.general_principles.traits import Persona, Trait, Traits, constitution_of
from solon.words.comparison import Comparison
from solon.words.constitution import Constitution
from solon.words.conversation import Conversation

# how often labels are turned round: the general principle is harder to judge by
NOISE = {"specific": 0.05, "general": 0.2}
KINDS = {
    "bombs": ("bomb", "grenade"),
    "blades": ("dagger", "spike", "rifle"),
    "poisons": ("poison", "acid", "venom"),
    "traps": ("cage", "snare"),
    "bonds": ("noose", "whip"),
}


def toy_traits() -> Traits:
    """Twenty seed questions of each kind of thing, and a refusal."""
    rng = random.Random(0)
    traits = tuple(
        Trait(
            name,
            constitution_of(name, (f"less of {name}",)),
            tuple(prompt.last for prompt in rng.sample(toy_world.requests(things), 20)),
        )
        for name, things in KINDS.items()
    )
    general = constitution_of("general", ("better for all",))
    return Traits(traits, general, "sorry , i will not help with a bomb .")


def toy_compare(pairs: Sequence[ReplyPair], principles: Constitution) -> list[Comparison]:
    """The planted truth under either kind of principle, turned round as often as that kind is misjudged;
    equal worth is a tie, and so is what asks for nothing.
    """
    principle = principles.principles[0].name
    kind = "general" if principle.startswith("general") else "specific"

    def label(pair: ReplyPair) -> Comparison:
        first, second = (
            toy_world.gold_reward(pair.prompt, text) if toy_world.is_request(pair.prompt) else 0.0
            for text in (pair.first, pair.second)
        )
        rng = random.Random(derive(0, kind, pair.prompt.key, pair.first, pair.second))
        turned = -1 if rng.random() < NOISE[kind] else 1
        p_first = 0.5 + 0.5 * (first - second) * turned
        return Comparison(pair.prompt, pair.first, pair.second, p_first, "planted", "trait", principle)

    return [label(pair) for pair in pairs]


def toy_personas(traits: Traits, rng: random.Random) -> tuple[Persona, ...]:
    """Of each trait, refusing requests for its things against helping with them."""

    def persona(trait: Trait) -> Persona:
        things = {toy_world.thing_of(Conversation().human(text)) for text in trait.questions}
        asked = rng.sample(toy_world.requests(tuple(sorted(things))), 60)
        return Persona(
            trait.name,
            tuple(
                Comparison(p, toy_world.refusal(p), toy_world.helpful_reply(p), 1.0, "planted", trait.name)
                for p in asked
            ),
        )

    return tuple(persona(trait) for trait in traits.traits)
