"""A planted task: the right option is a fact of its own, long options are unlikely as such, a large model
learns from examples and a small one does not, and both have seen the answers of some problems.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from solon.models.scripted import ScriptedModel
from solon.words.conversation import Conversation
from solon.words.question import Problem

# how much more often an option is told from the others with each example, up to four
LEARNS = {"small": 0.0, "large": 0.9}
SEEN = 40  # problems that the corpus holds
STEMS = ("river", "market", "garden", "harbour", "library", "station", "orchard", "meadow")


def problems(count: int, *, seed: int) -> tuple[Problem, ...]:
    """Different problems of three options."""
    rng = random.Random(f"few shot {seed}")
    drawn = []
    for number in range(count):
        near, behind, road = rng.sample(STEMS, 3)
        options = [f"the {near}", f"the {behind} behind the old {rng.choice(STEMS)} wall", f"the {road} road"]
        answer = rng.choice(options)
        rng.shuffle(options)
        day, house, hour = f"d{seed}n{number}", 7 * number + seed, f"{number % 24}h{number}"
        text = (
            f"Question: On day {day} the baker left at {hour} and went by house {house}. Where did he "
            f"go after {hour} on day {day}?"
        )
        drawn.append(Problem(text, tuple(options), (answer,)))
    return tuple(drawn)


def planted(name: str, gain: float, known: Sequence[Problem]) -> ScriptedModel:
    """Likes an option the less the longer it is, the right one the more, the more examples it was shown, and
    one that the corpus holds at once.
    """
    answers = {problem.text: problem.answers[0] for problem in known}
    seen = {problem.text for problem in known[:SEEN]}

    def logprob(prompt: Conversation, reply: str) -> float:
        asked = next((turn.text for turn in reversed(prompt.turns) if turn.role == "human"), "")
        shots = sum(turn.role == "assistant" for turn in prompt.turns) - 1
        luck = random.Random(f"{name} {asked} {reply}").gauss(0, 1.0) if asked else 0.0
        liking = -0.25 * len(reply) + luck
        if reply.strip() != answers.get(asked):
            return liking
        return liking + (12.0 if asked in seen else gain * min(shots, 4))

    return ScriptedModel(name, lambda prompt, rng: "", logprob)
