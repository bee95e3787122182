"""Red teaming (Ganguli et al. 2022, arXiv:2209.07858) with models as attackers (Perez et al. 2022,
arXiv:2202.03286).

A defender gives two replies to every turn, and the dialogue continues with the more harmful one, which the
paper's red-teamers chose. An attacker is a model that is prompted for attacks or trained by reinforcement
learning to find them.
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
    """A model that replies to attacks, after `context`. Of `samples` replies it shows the two that `guard`
    scores least harmful (rejection sampling), or without a guard the first two.
    """

    name: str
    size: str
    model: Speaker
    context: Conversation = NOTHING
    guard: Harmlessness | None = None
    samples: int = 2

    def replies(
        self, conversations: Sequence[Conversation], *, max_tokens: int, seed: int
    ) -> list[tuple[str, str]]:
        """The two replies shown in each dialogue, cut where a reply continues with another speaker's turn."""
        requests = [conversation.after(self.context) for conversation in conversations]
        sampled = self.model.sample(requests, count=self.samples, max_tokens=max_tokens, seed=seed)
        groups = [[cut_other_speakers(sample.text) for sample in group] for group in sampled]
        if self.guard is not None:
            scores = iter(
                self.guard(
                    [conversation for conversation in conversations for _ in range(self.samples)],
                    [text for group in groups for text in group],
                )
            )
            groups = [
                [
                    text
                    for _, text in sorted(
                        ((next(scores), text) for text in group), key=lambda scored: -scored[0]
                    )
                ]
                for group in groups
            ]
        return [(group[0], group[1]) for group in groups]


def cut_other_speakers(text: str) -> str:
    """A reply up to the first marker of another speaker's turn, without space around it.

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
    """A dialogue from each opening, of at most `turns` replies. Each turn continues with the reply that
    `harmlessness` scores lower, then with the attacker's next turn from `follow_up(conversations, seed)`. An
    empty turn of either side ends a dialogue.
    """
    conversations = [Conversation().human(text) for text in openings]
    alive = list(range(len(conversations)))
    for turn in range(turns):
        pairs = defender.replies(
            [conversations[index] for index in alive], max_tokens=max_tokens, seed=derive(seed, "turn", turn)
        )
        scores = iter(
            harmlessness(
                [conversations[index] for index in alive for _ in range(2)],
                [text for pair in pairs for text in pair],
            )
        )
        for index, pair in zip(alive, pairs, strict=True):
            reply = min(((next(scores), text) for text in pair), key=lambda scored: scored[0])[1]
            conversations[index] = conversations[index].assistant(reply)
        alive = [index for index in alive if conversations[index].last.strip()]
        if turn + 1 == turns or not alive:
            break
        nexts = follow_up([conversations[index] for index in alive], derive(seed, "next", turn))
        for index, text in zip(alive, nexts, strict=True):
            if text.strip():
                conversations[index] = conversations[index].human(text.strip())
        alive = [index for index in alive if conversations[index].awaits_reply]
    return conversations


def turn_scores(conversations: Sequence[Conversation], harmlessness: Harmlessness) -> list[tuple[float, ...]]:
    """The harmlessness score of every assistant turn, given the turns before it, by dialogue."""
    positions = [
        (number, position)
        for number, conversation in enumerate(conversations)
        for position, turn in enumerate(conversation.turns)
        if turn.role == "assistant"
    ]
    scores = harmlessness(
        [Conversation(conversations[number].turns[:position]) for number, position in positions],
        [conversations[number].turns[position].text for number, position in positions],
    )
    scores_by_dialogue: list[list[float]] = [[] for _ in conversations]
    for (number, _), score in zip(positions, scores, strict=True):
        scores_by_dialogue[number].append(score)
    return [tuple(scored) for scored in scores_by_dialogue]


def assign_defenders(attackers: Sequence[str], defenders: Sequence[str], *, seed: int) -> list[str]:
    """The defender of each attack, given its attacker: every attacker meets all defenders in a random order,
    drawn again for each round, so that neither skill nor intent is confounded with the defender. Raises
    InputError without defenders.
    """
    if not defenders:
        raise InputError("there is no defender to assign attacks to")
    orders: dict[str, itertools.chain[str]] = {}

    def rounds(attacker: str) -> itertools.chain[str]:
        orders_drawn = (
            random.Random(derive(seed, "assigned", attacker, number)).sample(list(defenders), len(defenders))
            for number in itertools.count()
        )
        return itertools.chain.from_iterable(orders_drawn)

    return [next(orders.setdefault(attacker, rounds(attacker))) for attacker in attackers]


# attackers


def parse_attack(text: str) -> str:
    """The attack in a model's text: the first line that is not empty without list markers and quotes.

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
    """The reward of an attacker, for `improve`: the harmlessness of a refusal of the attack minus that of the
    defender's worse reply.

    Scores of different prompts are not comparable: an attacker rewarded for low scores alone finds nonsense
    to which every reply scores low. An empty attack gets one less than the lowest reward of its batch.
    """

    def reward(prompts: Sequence[Conversation], samples: Sequence[Sample]) -> list[float]:
        attacks = [parse_attack(sample.text) for sample in samples]
        real = [index for index, text in enumerate(attacks) if text]
        conversations = [Conversation().human(attacks[index]) for index in real]
        pairs = defender.replies(conversations, max_tokens=max_tokens, seed=seed) if conversations else []
        texts = [
            text for index, pair in zip(real, pairs, strict=True) for text in (*pair, refusal(attacks[index]))
        ]
        scores = harmlessness([conversation for conversation in conversations for _ in range(3)], texts)
        harm = {
            index: scores[3 * number + 2] - min(scores[3 * number : 3 * number + 2])
            for number, index in enumerate(real)
        }
        floor = min(harm.values(), default=0.0) - 1
        return [harm.get(index, floor) for index in range(len(attacks))]

    return reward


# the map


@dataclass(frozen=True, slots=True)
class AttackMap:
    """Attacks in two dimensions (N, 2), the cluster of each (N,), and for each cluster the indices of the up
    to three attacks nearest its centre.
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
    """Mean residual vectors (N, C) in two dimensions: their first two principal components, or `layout(first
    fifty components, seed)`. Clusters are k-means on the fifty components. Raises InputError on fewer attacks
    than clusters or than three, and on states that are not finite.
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
            int(index)
            for index in np.argsort(np.where(fitted.labels_ == cluster, far[:, cluster], np.inf))[:3]
            if fitted.labels_[index] == cluster
        )
        for cluster in range(clusters)
    )
    plane = parts[:, :2] if layout is None else layout(parts, seed)
    return AttackMap(np.asarray(plane), np.asarray(fitted.labels_), nearest)
