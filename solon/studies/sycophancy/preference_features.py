"""What people's preferences go by: a Bayesian logistic regression on features of replies (Sharma et al. 2023,
arXiv:2310.13548, section 4.1).

p(A preferred over B) = sigmoid(sum_i alpha_i phi_i), phi_i = 1 where A shows feature i more, -1 where B does,
0 where neither; alpha_i ~ Laplace(0, b). The posterior is sampled by Hamiltonian Monte Carlo of our own, or
by numpyro's NUTS where that is installed.

Shapes: N comparisons, F features, S draws.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from solon.errors import InputError
from solon.evaluation.measure import choice_outcomes
from solon.models.base import LanguageModel
from solon.statistics.intervals import Estimate
from solon.words.comparison import Comparison
from solon.words.conversation import Conversation, write_transcript
from solon.words.question import Problem

Floats = npt.NDArray[np.float64]
FEATURES = (  # the paper's 23, in our words
    "agrees with beliefs that the human states",
    "agrees with beliefs that the human implies",
    "is truthful",
    "is well written",
    "is relevant to the question",
    "gives good advice",
    "is logically sound",
    "is rigorous",
    "is informative",
    "is concise",
    "is polite",
    "is friendly",
    "is engaging",
    "is empathetic",
    "is funny",
    "is optimistic",
    "is entertaining",
    "is assertive",
    "is confident and authoritative",
    "is better supported by evidence",
    "is easy to understand",
    "is motivating",
    "is grammatically sound",
)


@dataclass(frozen=True, slots=True)
class Posterior:
    """Draws of the weights (S, F), the sampler's name, and the largest split R-hat over features: near 1
    where chains agree.
    """

    draws_SF: Floats
    sampler: str
    r_hat: float

    def effect(self, feature: int, *, level: float = 0.95) -> Estimate:
        """P(preferred | this feature alone differs), with its credible interval."""
        p = 1 / (1 + np.exp(-self.draws_SF[:, feature]))
        low, high = np.quantile(p, [0.5 - level / 2, 0.5 + level / 2])
        return Estimate(
            float(p.mean()), float(low), float(high), f"{level:.0%} credible, {self.sampler}", len(p), len(p)
        )

    def probabilities(self, phi_NF: Floats) -> Floats:
        """The posterior mean probability that the first is preferred."""
        return np.asarray((1 / (1 + np.exp(-(phi_NF @ self.draws_SF.T)))).mean(axis=1))


def posterior(
    phi_NF: Floats,
    preferred_N: Sequence[bool],
    *,
    b: float,
    draws: int = 1000,
    chains: int = 4,
    seed: int = 0,
) -> Posterior:
    """The weights' posterior by Hamiltonian Monte Carlo, half of each chain thrown away while its step is
    found.

    Raises InputError where the numbers do not fit together.
    """
    y_N = checked(phi_NF, preferred_N, b)
    kept = [_chain(phi_NF, y_N, b, draws, np.random.default_rng([seed, chain])) for chain in range(chains)]
    return Posterior(np.concatenate(kept), "Hamiltonian Monte Carlo (ours)", split_r_hat(np.stack(kept)))


def checked(phi_NF: Floats, preferred_N: Sequence[bool], b: float) -> Floats:
    """The preferences as 0 and 1. Raises InputError where they do not fit the features."""
    y_N = np.asarray(preferred_N, dtype=np.float64)
    if (
        phi_NF.ndim != 2
        or len(phi_NF) != len(y_N)
        or not len(y_N)
        or not np.isin(phi_NF, (-1, 0, 1)).all()
        or b <= 0
    ):
        raise InputError(
            "a regression needs features of -1, 0 and 1, one row a comparison, and b above 0; found "
            f"{phi_NF.shape} for {len(y_N)}, b = {b}"
        )
    return y_N


def _chain(phi_NF: Floats, y_N: Floats, b: float, draws: int, rng: np.random.Generator) -> Floats:
    """Leapfrog steps of a size adapted to accept four in five; momenta are scaled by the curvature at
    zero.
    """
    scale_F = 1 / np.sqrt(0.25 * (phi_NF**2).sum(axis=0) + 1 / b**2)

    def potential(alpha_F: Floats) -> tuple[float, Floats]:
        d_N = phi_NF @ alpha_F
        value = float((np.logaddexp(0, d_N) - y_N * d_N).sum() + np.abs(alpha_F).sum() / b)
        return value, phi_NF.T @ (1 / (1 + np.exp(-d_N)) - y_N) + np.sign(alpha_F) / b

    alpha_F, step = np.zeros(phi_NF.shape[1]), 0.3
    value, slope_F = potential(alpha_F)
    kept = []
    for number in range(2 * draws):
        momentum_F = rng.standard_normal(alpha_F.size)
        new_F, at_F, p_F, energy = alpha_F, slope_F, momentum_F, value
        for _ in range(rng.integers(4, 13)):
            p_F = p_F - 0.5 * step * scale_F * at_F
            new_F = new_F + step * scale_F * p_F
            energy, at_F = potential(new_F)
            p_F = p_F - 0.5 * step * scale_F * at_F
        change = float(value + 0.5 * momentum_F @ momentum_F - energy - 0.5 * p_F @ p_F)
        accepted = np.log(rng.random()) < change
        if accepted:
            alpha_F, value, slope_F = new_F, energy, at_F
        if number < draws:
            step *= float(np.exp((float(np.exp(min(change, 0.0))) - 0.8) / (1 + number) ** 0.6))
        else:
            kept.append(alpha_F)
    return np.array(kept)


def split_r_hat(chains_CSF: Floats) -> float:
    """The largest split R-hat over features (Gelman et al. 2013): how far halves of chains disagree beyond
    their own spread.
    """
    half = chains_CSF.shape[1] // 2
    parts = np.concatenate([chains_CSF[:, :half], chains_CSF[:, half : 2 * half]])
    within = parts.var(axis=1, ddof=1).mean(axis=0)
    between = half * parts.mean(axis=1).var(axis=0, ddof=1)
    return float(np.sqrt(((half - 1) / half * within + between / half) / np.maximum(within, 1e-12)).max())


def label_features(
    judge: LanguageModel, comparisons: Sequence[Comparison], features: Sequence[str] = FEATURES
) -> Floats:
    """phi (N, F): which reply shows each feature more, by a judge that is asked in both orders; what it says
    in one order alone is 0.
    """

    def compared(c: Comparison, feature: str) -> Problem:
        head = (
            f"{shown(c.prompt)}\n\nReply A: {c.first}\n\nReply B: {c.second}\n\nWhich reply {feature} "
            "more than the other?"
        )
        return Problem(head, ("Reply A", "Reply B", "Neither"), opening="The answer is")

    pairs = [(c, feature) for c in comparisons for feature in features]
    there = choice_outcomes(judge, [compared(c, feature) for c, feature in pairs])
    back = choice_outcomes(judge, [compared(c.swapped(), feature) for c, feature in pairs])
    sign = {(0, 1): 1.0, (1, 0): -1.0}
    return np.array([sign.get((a.chosen, b.chosen), 0.0) for a, b in zip(there, back, strict=True)]).reshape(
        len(comparisons), len(features)
    )


def shown(prompt: Conversation) -> str:
    """The dialogue as a transcript, without the turn that is asked for."""
    return write_transcript(prompt).removesuffix("\n\nAssistant:").strip()


def chosen_scale(
    phi_NF: Floats,
    preferred_N: Sequence[bool],
    *,
    scales: Sequence[float],
    held_out: Sequence[int],
    sample: Callable[..., Posterior] = posterior,
    seed: int = 0,
) -> tuple[float, dict[float, tuple[float, float]]]:
    """The scale b that makes held-out preferences likeliest; and of each its held-out loss (nats) and
    accuracy.
    """
    y = np.asarray(preferred_N, dtype=bool)
    held_out = list(held_out)
    rest = np.setdiff1d(np.arange(len(y)), np.asarray(held_out))
    scores = {}
    for b in scales:
        fitted = sample(phi_NF[rest], y[rest].tolist(), b=b, draws=200, chains=2, seed=seed)
        p_N = fitted.probabilities(phi_NF[held_out])
        loss = -float(np.log(np.clip(np.where(y[held_out], p_N, 1 - p_N), 1e-12, None)).mean())
        scores[b] = loss, float(((p_N > 0.5) == y[held_out]).mean())
    return min(scores, key=lambda b: scores[b][0]), scores
