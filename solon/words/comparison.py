"""Which of two replies is better, as a probability."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace

from solon.errors import InputError
from solon.words.conversation import Conversation


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two replies to one prompt and the probability that the first is better.

    `p_first` is 0 or 1 for a hard label, 0.5 for a tie, and the share of votes for a panel. `readings` holds
    a model judge's raw log-probabilities (nats) of the first and the second reply, one pair for each order
    of presentation; clamped or averaged labels never replace them. `rationales` holds the chain of thought
    behind each reading, if there was one. `axis` names what was compared: "helpful", "harmless", a trait, or
    "" where unknown. Raises InputError where `p_first` is no probability.
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
        """The same label with the replies in the other order."""
        return replace(
            self,
            first=self.second,
            second=self.first,
            p_first=1.0 - self.p_first,
            readings=tuple((b, a) for a, b in self.readings),
        )

    def clamped(self, low: float, high: float) -> Comparison:
        """The same comparison with its label clamped to [low, high]; readings are unchanged. Constitutional
        AI clamps chain-of-thought labels to 0.40-0.60 (arXiv:2212.08073, section 4.1).
        """
        return replace(self, p_first=min(max(self.p_first, low), high))

    def hardened(self) -> Comparison:
        """The same comparison with its label rounded to 0 or 1; a tie stays 0.5."""
        return replace(self, p_first=0.5 if self.p_first == 0.5 else float(self.p_first > 0.5))

    @property
    def key(self) -> str:
        """The SHA-256 of the prompt and both replies; the label does not count."""
        content = json.dumps([self.prompt.key, self.first, self.second])
        return hashlib.sha256(content.encode()).hexdigest()
