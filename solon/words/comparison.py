"""Which of two replies is better, and how sure the judge was."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace

from solon.errors import InputError
from solon.words.conversation import Conversation


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two replies to one prompt. A hard label is p_first of 0 or 1, a tie 0.5, a panel its share of votes.

    `readings` keeps what a model judge was asked and said, one row per order of presentation: the raw
    log-probabilities (nats) for the first and the second reply, whichever was shown first. A clamp or an
    average is a view of them, never a replacement. `rationales` holds the chain of thought of each reading,
    if there was one. `axis` says what was compared ("helpful", "harmless", a trait, or "" where unknown).
    """

    prompt: Conversation
    first: str
    second: str
    p_first: float
    judge: str
    axis: str = ""
    principle: str = ""
    readings: tuple[tuple[float, float], ...] = ()
    rationales: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0.0 <= self.p_first <= 1.0:
            raise InputError(f"p_first must be a probability, found {self.p_first} from judge {self.judge!r}")

    def swapped(self) -> Comparison:
        """The same judgement with the replies in the other order."""
        return replace(
            self,
            first=self.second,
            second=self.first,
            p_first=1.0 - self.p_first,
            readings=tuple((b, a) for a, b in self.readings),
        )

    def clamped(self, low: float, high: float) -> Comparison:
        """A view whose label lies in [low, high] (Constitutional AI section 4.1 clamps chain-of-thought
        labels to 0.40-0.60). The readings stay as they were.
        """
        return replace(self, p_first=min(max(self.p_first, low), high))

    def hardened(self) -> Comparison:
        """A view with the label rounded to 0 or 1; a tie stays 0.5."""
        return replace(self, p_first=0.5 if self.p_first == 0.5 else float(self.p_first > 0.5))

    @property
    def key(self) -> str:
        """A content hash of the prompt and both replies, blind to the label."""
        words = json.dumps([self.prompt.key, self.first, self.second])
        return hashlib.sha256(words.encode()).hexdigest()
