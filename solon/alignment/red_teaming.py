"""Attacks on a model and defences against them (Red Teaming Language Models, Ganguli et al. 2022,
arXiv:2209.07858; attackers that are models after Perez et al. 2022, arXiv:2202.03286).

A defender gives two replies to every turn, the more harmful of which the dialogue goes on with, as the
paper's red team chose. An attacker is a model that is asked for attacks, with examples or without, or that
was reinforced to find what a defender does badly on.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.cluster import KMeans

from solon.errors import InputError
from solon.models.base import Sample, Speaker, derive
from solon.words.conversation import Conversation

Harmlessness = Callable[[Sequence[Conversation], Sequence[str]], Sequence[float]]
SPEAKER = re.compile(r"\s*(?<!\w)(Human|Assistant|User):.*", re.DOTALL)
NOTHING = Conversation()


# defenders


@dataclass(frozen=True, slots=True)
class Defender:
    """What replies to attacks. `context` stands before the dialogue; of `drawn` replies the two that `guard`
    finds least harmful are shown, and without a guard the first two.
    """

    name: str
    size: str
    model: Speaker
    context: Conversation = NOTHING
    guard: Harmlessness | None = None
    samples: int = 2

    def replies(self, talks: Sequence[Conversation], *, max_tokens: int, seed: int) -> list[tuple[str, str]]:
        """The two replies shown to each dialogue, cut where a reply goes on to speak for someone else."""
        asked = [talk.after(self.context) for talk in talks]
        drawn = self.model.sample(asked, count=self.samples, max_tokens=max_tokens, seed=seed)
        groups = [[cut_other_speakers(sample.text) for sample in group] for group in drawn]
        if self.guard is not None:
            scores = iter(
                self.guard(
                    [talk for talk in talks for _ in range(self.samples)],
                    [text for group in groups for text in group],
                )
            )
            groups = [
                [
                    text
                    for _, text in sorted(((next(scores), text) for text in group), key=lambda own: -own[0])
                ]
                for group in groups
            ]
        return [(group[0], group[1]) for group in groups]


def cut_other_speakers(text: str) -> str:
    """A reply up to where it speaks for somebody else, without space around it.

    >>> cut_other_speakers(" No.\\n\\nHuman: Why not?")
    'No.'
    """
    return SPEAKER.sub("", text).strip()


# dialogues


def dialogues(
    openings: Sequence[str],
    defender: Defender,
    harmlessness: Harmlessness,
    *,
    turns: int,
    follow_up: Callable[[Sequence[Conversation], int], Sequence[str]],
    max_tokens: int,
    seed: int,
) -> list[Conversation]:
    """A dialogue from each opening, of at most `turns` replies: each turn goes on with the more harmful of
    the two shown by `harmlessness`, and then with what `follow_up` says next. One in which the attacker or
    the defender has nothing more to say ends there; a dialogue without any reply has the empty one.
    """
    talks = [Conversation().human(text) for text in openings]
    alive = list(range(len(talks)))
    for turn in range(turns):
        shown = defender.replies(
            [talks[place] for place in alive], max_tokens=max_tokens, seed=derive(seed, "turn", turn)
        )
        scores = iter(
            harmlessness(
                [talks[place] for place in alive for _ in range(2)], [text for pair in shown for text in pair]
            )
        )
        for place, pair in zip(alive, shown, strict=True):
            said = min(((next(scores), text) for text in pair), key=lambda own: own[0])[1]
            talks[place] = talks[place].assistant(said)
        alive = [place for place in alive if talks[place].last.strip()]
        if turn + 1 == turns or not alive:
            break
        nexts = follow_up([talks[place] for place in alive], derive(seed, "next", turn))
        for place, text in zip(alive, nexts, strict=True):
            if text.strip():
                talks[place] = talks[place].human(text.strip())
        alive = [place for place in alive if talks[place].awaits_reply]
    return talks


def turn_scores(talks: Sequence[Conversation], harmlessness: Harmlessness) -> list[tuple[float, ...]]:
    """The harmlessness of every assistant turn of each dialogue, given all before it."""
    places = [
        (number, place)
        for number, talk in enumerate(talks)
        for place, turn in enumerate(talk.turns)
        if turn.role == "assistant"
    ]
    scores = harmlessness(
        [Conversation(talks[number].turns[:place]) for number, place in places],
        [talks[number].turns[place].text for number, place in places],
    )
    found: list[list[float]] = [[] for _ in talks]
    for (number, _), score in zip(places, scores, strict=True):
        found[number].append(score)
    return [tuple(own) for own in found]


def assign_defenders(attackers: Sequence[str], defenders: Sequence[str], *, seed: int) -> list[str]:
    """Which defender each attack meets: every attacker meets all of them in an order of chance that is drawn
    anew for each round, so neither skill nor intent can go with a defender. One entry of `attackers` for
    every attack.
    """
    if not defenders:
        raise InputError("there is no defender to assign attacks to")
    orders: dict[str, itertools.chain[str]] = {}

    def rounds(attacker: str) -> itertools.chain[str]:
        drawn = (
            random.Random(derive(seed, "assigned", attacker, number)).sample(list(defenders), len(defenders))
            for number in itertools.count()
        )
        return itertools.chain.from_iterable(drawn)

    return [next(orders.setdefault(attacker, rounds(attacker))) for attacker in attackers]


# attackers


def parse_attack(text: str) -> str:
    """What an attacker wrote: the first line that says something, without the number, dash or quotes that
    lists have.

    >>> parse_attack(' 4. "How do I pick a lock?"\\n5. What')
    'How do I pick a lock?'
    """
    lines = [
        re.sub(r"^\s*(\d+[.)]|[-*])?\s*", "", line).strip().strip('"').strip() for line in text.splitlines()
    ]
    return next((line for line in lines if line), "")


def attack_reward(
    defender: Defender,
    harmlessness: Harmlessness,
    refusal: Callable[[str], str],
    *,
    max_tokens: int,
    seed: int,
) -> Callable[..., list[float]]:
    """The reward for an attacker (see `improve`): by how much the worse of the two replies that the defender
    shows is less harmless than a refusal of the same attack. Scores of different prompts do not compare, and
    an attacker that is paid for low ones finds nonsense that every reply to is scored low (the toy world's
    wrote "please tell"). What is no attack at all earns one less than the least beside it.
    """

    def reward(prompts: Sequence[Conversation], samples: Sequence[Sample]) -> list[float]:
        said = [parse_attack(sample.text) for sample in samples]
        real = [place for place, text in enumerate(said) if text]
        talks = [Conversation().human(said[place]) for place in real]
        shown = defender.replies(talks, max_tokens=max_tokens, seed=seed) if talks else []
        texts = [
            text for place, pair in zip(real, shown, strict=True) for text in (*pair, refusal(said[place]))
        ]
        scores = harmlessness([talk for talk in talks for _ in range(3)], texts)
        harm = {
            place: scores[3 * number + 2] - min(scores[3 * number : 3 * number + 2])
            for number, place in enumerate(real)
        }
        floor = min(harm.values(), default=0.0) - 1
        return [harm.get(place, floor) for place in range(len(said))]

    return reward


# the map


@dataclass(frozen=True, slots=True)
class AttackMap:
    """Attacks on a plane, (N, 2); the cluster of each; and for each cluster the places of the attacks nearest
    its centre.
    """

    positions_N2: np.ndarray
    cluster_N: np.ndarray
    nearest: tuple[tuple[int, ...], ...]


def map_attacks(
    states_NC: np.ndarray,
    *,
    clusters: int,
    seed: int,
    layout: Callable[[np.ndarray, int], np.ndarray] | None = None,
) -> AttackMap:
    """Mean residual vectors (N, C) on a plane: the first two principal components, or what `layout` makes of
    the first fifty. Clusters are k-means on those fifty. Raises InputError on fewer attacks than clusters, or
    on NaN.
    """
    if len(states_NC) < max(clusters, 3) or not np.isfinite(states_NC).all():
        raise InputError(
            f"{len(states_NC)} attacks do not make {clusters} clusters, or their states are not finite"
        )
    centred = states_NC - states_NC.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:50]
    # a component's sign is arbitrary; fix it
    axes *= np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])[:, None]
    parts = centred @ axes.T
    fitted = KMeans(clusters, n_init=10, random_state=seed % 2**32).fit(parts)
    far = np.square(parts[:, None] - fitted.cluster_centers_[None]).sum(axis=-1)
    nearest = tuple(
        tuple(
            int(place)
            for place in np.argsort(np.where(fitted.labels_ == own, far[:, own], np.inf))[:3]
            if fitted.labels_[place] == own
        )
        for own in range(clusters)
    )
    plane = parts[:, :2] if layout is None else layout(parts, seed)
    return AttackMap(np.asarray(plane), np.asarray(fitted.labels_), nearest)
