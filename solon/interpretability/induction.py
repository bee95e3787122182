"""Induction heads: scores of attention heads on repeated tokens, and a model's losses without heads (Olsson
et al. 2022, arXiv:2209.11895).

Scores follow the paper: on repeated sequences of random tokens, repetition is the only pattern to attend to.

Shapes: B rows, H heads, T tokens, V vocabulary, C channels, L layers.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from solon.errors import InputError
from solon.models.activations import direct_logit_attribution, layer_sites
from solon.models.backbones.backbone import Backbone, pad
from solon.models.backbones.heads import Heads, head_contributions
from solon.models.base import Tokens

# random tokens in a block, its repetitions, and the draws that a score averages (the paper's)
BLOCK, REPEATS, DRAWS = 25, 4, 10
Head = tuple[int, int]  # layer and head, both from 0


def repeated_sequences(
    tokens: Sequence[int],
    *,
    seed: int,
    start: Sequence[int] = (),
    block: int = BLOCK,
    repeats: int = REPEATS,
    draws: int = DRAWS,
) -> list[Tokens]:
    """`draws` rows: the `start` tokens of a text, then `block` different random tokens of `tokens`, `repeats`
    times. Raises InputError on fewer tokens than a block has, and on fewer than two repeats.
    """
    if len(set(tokens)) < block or repeats < 2:
        raise InputError(
            f"blocks of {block} different tokens, twice at the least, cannot be drawn from {len(set(tokens))}"
        )
    rng, pool = random.Random(f"repeated {seed}"), sorted(set(tokens))
    return [(*start, *(rng.sample(pool, block) * repeats)) for _ in range(draws)]


@dataclass(frozen=True, slots=True)
class HeadScores:
    """Scores of every head, (L, H), means over draws.

    `prefix`: prefix matching, the attention from a token to those that follow an earlier occurrence of it,
    with its standard error over draws. `copying`: of the rise in the logits of a row's tokens by the head's
    direct effect, the share of the attended tokens, from -1 (none) to 1 (half or more). `previous`: the
    attention to the previous token, on ordinary text.
    """

    prefix_LH: npt.NDArray[np.float64]
    copying_LH: npt.NDArray[np.float64]
    previous_LH: npt.NDArray[np.float64]
    prefix_error_LH: npt.NDArray[np.float64]


def head_scores(
    backbone: Backbone, rows: Sequence[Tokens], text: Sequence[Tokens], *, start: int = 0
) -> HeadScores:
    """Scores of every head. `rows` are those of `repeated_sequences`, with `start` tokens before the first
    block; the rows of `text` have one length.
    """
    prefix, copying, previous = list[Tensor](), list[Tensor](), list[Tensor]()
    layers = [backbone.get_submodule(name) for name in layer_sites(backbone)]
    with torch.inference_mode():
        for row in rows:
            heads, tokens_1T = Heads(), pad([row], backbone.device)
            backbone.hidden_with_heads(tokens_1T, heads)
            patterns = [pattern_BHTT[0] for pattern_BHTT in heads.patterns_BHTT]
            matching = [prefix_matching_scores(pattern, tokens_1T[0], start) for pattern in patterns]
            copied = [
                copying_scores(backbone, pattern, head_contributions(layer, mixed)[0], tokens_1T[0], start)
                for layer, pattern, mixed in zip(layers, patterns, heads.mixed_BHTD, strict=True)
            ]
            prefix.append(torch.stack(matching))
            copying.append(torch.stack(copied))
        for row in text:
            heads = Heads()
            backbone.hidden_with_heads(pad([row], backbone.device), heads)
            diagonals = [pattern[0].diagonal(-1, dim1=-2, dim2=-1) for pattern in heads.patterns_BHTT]
            previous.append(torch.stack([diagonal_HT.mean(dim=-1) for diagonal_HT in diagonals]))
    each = torch.stack(prefix).double()
    error = each.std(dim=0) / len(rows) ** 0.5 if len(rows) > 1 else torch.full_like(each[0], float("nan"))
    means = [torch.stack(scores).double().mean(dim=0).cpu().numpy() for scores in (prefix, copying, previous)]
    return HeadScores(means[0], means[1], means[2], error.cpu().numpy())


def heads_by_score(scores_LH: npt.NDArray[np.float64]) -> list[Head]:
    """All heads, the highest score first.

    >>> heads_by_score(np.array([[0.1, 0.9], [0.5, 0.2]]))
    [(0, 1), (1, 0), (1, 1), (0, 0)]
    """
    count = scores_LH.shape[1]
    return [(int(index) // count, int(index) % count) for index in np.argsort(-scores_LH, axis=None)]


def prefix_matching_scores(pattern_HTT: Tensor, tokens_T: Tensor, start: int) -> Tensor:
    """The mean, over tokens that occurred before, of the attention to positions right after an earlier
    occurrence, (H,).
    """
    same_TT = tokens_T[:, None] == tokens_T[None, :]
    behind_TT = F.pad(same_TT, (1, -1)).tril(0)  # position s follows an earlier occurrence of token t
    behind_TT[:, : start + 1] = False
    known_T = same_TT.tril(-1)[:, start:].any(dim=1)
    return (pattern_HTT * behind_TT).sum(dim=-1)[:, known_T].mean(dim=-1)


def copying_scores(
    backbone: Backbone, pattern_HTT: Tensor, writes_HTC: Tensor, tokens_T: Tensor, start: int
) -> Tensor:
    """The copying score of each head of a layer, (H,), from its attention and what it writes to the residual
    stream; see `HeadScores`.
    """
    vocabulary = tokens_T[start:].unique()
    number_T = torch.searchsorted(vocabulary, tokens_T.clamp(min=int(vocabulary[0]), max=int(vocabulary[-1])))
    attended_TK = F.one_hot(number_T, len(vocabulary)).to(torch.float32)
    attended_TK[:start] = 0.0
    scores = []
    for pattern_TT, write_TC in zip(pattern_HTT, writes_HTC, strict=True):
        logits_TV = direct_logit_attribution(backbone, write_TC[start:])
        rise_TK = (logits_TV - logits_TV.mean(dim=-1, keepdim=True))[:, vocabulary].clamp(min=0)
        share_TK = rise_TK / rise_TK.sum(dim=-1, keepdim=True).clamp(min=1e-12)
        scores.append(((pattern_TT[start:].float() @ attended_TK) * share_TK).sum(dim=-1).mean())
    return (torch.stack(scores) * 4 - 1).clamp(max=1.0)


def token_losses(
    backbone: Backbone, rows: Sequence[Tokens], heads: Heads | None = None, *, at_once: int = 32
) -> Tensor:
    """The loss (nats) of each token but the first, (B, T - 1), of rows of one length. With `heads`, which
    record, freeze or silence attention heads, all rows are one batch.
    """
    losses = []
    with torch.inference_mode():
        for first in range(0, len(rows), len(rows) if heads is not None else at_once):
            tokens_BT = pad(
                rows[first : first + (len(rows) if heads is not None else at_once)], backbone.device
            )
            hidden = (
                backbone.hidden(tokens_BT[:, :-1])
                if heads is None
                else backbone.hidden_with_heads(tokens_BT[:, :-1], heads)
            )
            logits = backbone.logits(hidden.flatten(0, 1)).float()
            losses.append(
                F.cross_entropy(logits, tokens_BT[:, 1:].flatten(), reduction="none").view(len(tokens_BT), -1)
            )
    return torch.cat(losses)


def ablate_heads(
    backbone: Backbone,
    rows: Sequence[Tokens],
    silenced: Sequence[Head],
    *,
    preserve: bool = True,
    at_once: int = 16,
) -> tuple[Tensor, Tensor]:
    """Losses (B, T - 1), nats, of the intact model and with heads silenced. With `preserve` all heads keep
    their attention patterns (pattern-preserving ablation), so that only the silenced heads' direct outputs
    are removed.
    """
    before, after = [], []
    for first in range(0, len(rows), at_once):
        batch = rows[first : first + at_once]
        clean = Heads()
        before.append(token_losses(backbone, batch, clean))
        after.append(
            token_losses(
                backbone,
                batch,
                Heads(frozen=clean.patterns_BHTT if preserve else None, ablated=frozenset(silenced)),
            )
        )
    return torch.cat(before), torch.cat(after)


def in_context_scores(losses_BT: Tensor, *, early: int, late: int) -> list[float]:
    """The in-context learning score of each row: its loss at token `late` minus that at token `early`, nats;
    below 0 where context helps.
    """
    return [float(score) for score in (losses_BT[:, late - 1] - losses_BT[:, early - 1])]


def steepest_fall(steps: Sequence[int], values: Sequence[float], *, window: int = 3) -> tuple[int, float]:
    """(the middle step, the fall) of the steepest fall of a curve over `window` neighbouring measurements.
    Raises InputError on fewer measurements.

    >>> steepest_fall([0, 10, 20, 30, 40], [0.0, 0.0, -1.0, -1.1, -1.1], window=2)
    (15, -1.0)
    """
    if len(steps) < window:
        raise InputError(f"a fall over {window} measurements needs as many; found {len(steps)}")
    falls = [values[start + window - 1] - values[start] for start in range(len(values) - window + 1)]
    start = int(np.argmin(falls))
    return (steps[start] + steps[start + window - 1]) // 2, falls[start]


def first_crossing(steps: Sequence[int], values: Sequence[float], level: float) -> int | None:
    """The first step at which a curve reaches a level; None where it never does.

    >>> first_crossing([0, 10, 20], [0.0, 0.4, 0.9], 0.5)
    20
    """
    return next((step for step, value in zip(steps, values, strict=True) if value >= level), None)


def principal_components(vectors: npt.NDArray[np.float64], count: int = 2) -> npt.NDArray[np.float64]:
    """The first `count` principal components of rows, such as per-token losses of snapshots: (rows,
    count).
    """
    centred = vectors - vectors.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes[:count] * np.where(axes[:count].sum(axis=1, keepdims=True) < 0, -1, 1)
    return np.asarray(centred @ axes.T)


def path_expansion(backbone: Backbone, row: Tokens) -> tuple[Tensor, Tensor]:
    """For an attention-only model: its logits (T, V), and the sum of the direct paths from the embedding and
    from every head, with attention patterns and the final norm's scale fixed. The two are equal, since the
    model is linear otherwise. Paths through several heads are not separated. Raises InputError on a model
    without a final layer norm.
    """
    layers, heads = [backbone.get_submodule(name) for name in layer_sites(backbone)], Heads()
    tokens_1T = pad([row], backbone.device)
    stream: list[Tensor] = []
    handle = layers[0].register_forward_pre_hook(lambda owner, inputs: stream.append(inputs[0]))
    try:
        with torch.inference_mode():
            logits = backbone.logits(backbone.hidden_with_heads(tokens_1T, heads)[0]).float()
            terms = [
                stream[0][0],
                *(
                    write
                    for index, layer in enumerate(layers)
                    for write in head_contributions(layer, heads.mixed_BHTD[index])[0]
                ),
            ]
    finally:
        handle.remove()
    norm = getattr(backbone, "final_norm", None)
    if not isinstance(norm, torch.nn.LayerNorm):
        raise InputError(f"{type(backbone).__name__} has no layer norm before its head to hold")
    with torch.inference_mode():
        stream_TC = torch.stack(terms).sum(dim=0)
        scale = (stream_TC.var(dim=-1, unbiased=False, keepdim=True) + norm.eps).rsqrt()
        summed = sum(
            backbone.logits((term - term.mean(dim=-1, keepdim=True)) * scale * norm.weight) for term in terms
        )
        return logits, torch.as_tensor(summed + backbone.logits(norm.bias[None]))
