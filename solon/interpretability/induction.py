"""Induction heads: what each attention head does on repeated tokens, and what a model loses without it
(Olsson et al. 2022, arXiv:2209.11895).

Scores are the paper's, on sequences of random tokens that are repeated, so that nothing but the repetition
can be attended to.

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

# random tokens, how often they stand, and how many draws a score is the mean of (the paper's)
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
    """Rows of `block` different tokens, drawn from `tokens`, `repeats` times over, behind the tokens that
    begin a text.

    Raises InputError where there are fewer tokens than a block has.
    """
    if len(set(tokens)) < block or repeats < 2:
        raise InputError(
            f"blocks of {block} different tokens, twice at the least, cannot be drawn from {len(set(tokens))}"
        )
    rng, pool = random.Random(f"repeated {seed}"), sorted(set(tokens))
    return [(*start, *(rng.sample(pool, block) * repeats)) for _ in range(draws)]


@dataclass(frozen=True, slots=True)
class HeadScores:
    """Of every head, by layer, (L, H), means over draws; and each score's standard error over draws.

    `prefix`: the attention from a token to those that follow an earlier occurrence of it. `copying`: of what
    a head's output raises among the row's tokens, straight through the head of the model, the share of the
    tokens that it attends to, from -1 (none) to 1 (half of it or more). `previous`: the attention to the
    token before, on `text`.
    """

    prefix_LH: npt.NDArray[np.float64]
    copying_LH: npt.NDArray[np.float64]
    previous_LH: npt.NDArray[np.float64]
    prefix_error_LH: npt.NDArray[np.float64]


def head_scores(
    body: Backbone, rows: Sequence[Tokens], text: Sequence[Tokens], *, start: int = 0
) -> HeadScores:
    """Scores of every head. `rows` are those of `repeated_sequences`, with `start` tokens before the first
    block; the rows of `text` have one length.
    """
    prefix, copying, previous = list[Tensor](), list[Tensor](), list[Tensor]()
    layers = [body.get_submodule(name) for name in layer_sites(body)]
    with torch.inference_mode():
        for row in rows:
            heads, tokens_1T = Heads(), pad([row], body.device)
            body.hidden_with_heads(tokens_1T, heads)
            prefix.append(
                torch.stack(
                    [prefix_matching_scores(own[0], tokens_1T[0], start) for own in heads.patterns_BHTT]
                )
            )
            copying.append(
                torch.stack(
                    [
                        copying_scores(body, layer, heads, place, tokens_1T[0], start)
                        for place, layer in enumerate(layers)
                    ]
                )
            )
        for row in text:
            heads = Heads()
            body.hidden_with_heads(pad([row], body.device), heads)
            previous.append(
                torch.stack(
                    [own[0].diagonal(-1, dim1=-2, dim2=-1).mean(dim=-1) for own in heads.patterns_BHTT]
                )
            )
    each = torch.stack(prefix).double()
    error = each.std(dim=0) / len(rows) ** 0.5 if len(rows) > 1 else torch.full_like(each[0], float("nan"))
    means = [torch.stack(own).double().mean(dim=0).cpu().numpy() for own in (prefix, copying, previous)]
    return HeadScores(means[0], means[1], means[2], error.cpu().numpy())


def heads_by_score(scores_LH: npt.NDArray[np.float64]) -> list[Head]:
    """All heads, the highest score first.

    >>> heads_by_score(np.array([[0.1, 0.9], [0.5, 0.2]]))
    [(0, 1), (1, 0), (1, 1), (0, 0)]
    """
    count = scores_LH.shape[1]
    return [(int(index) // count, int(index) % count) for index in np.argsort(-scores_LH, axis=None)]


def prefix_matching_scores(pattern_HTT: Tensor, tokens_T: Tensor, start: int) -> Tensor:
    """(H,). From every token that stood before, the attention to all places right behind one where it stood;
    mean over these tokens.
    """
    same_TT = tokens_T[:, None] == tokens_T[None, :]
    behind_TT = F.pad(same_TT, (1, -1)).tril(0)  # place s follows an earlier occurrence of the token at t
    behind_TT[:, : start + 1] = False
    known_T = same_TT.tril(-1)[:, start:].any(dim=1)
    return (pattern_HTT * behind_TT).sum(dim=-1)[:, known_T].mean(dim=-1)


def copying_scores(
    body: Backbone, layer: torch.nn.Module, heads: Heads, place: int, tokens_T: Tensor, start: int
) -> Tensor:
    """(H,). See `HeadScores.copying`."""
    wanted = tokens_T[start:].unique()
    number_T = torch.searchsorted(wanted, tokens_T.clamp(min=int(wanted[0]), max=int(wanted[-1])))
    attended_TK = F.one_hot(number_T, len(wanted)).to(torch.float32)
    attended_TK[:start] = 0.0
    writes_HTC = head_contributions(layer, heads.mixed_BHTD[place])[0]
    found = []
    for pattern_TT, write_TC in zip(heads.patterns_BHTT[place][0], writes_HTC, strict=True):
        logits_TV = direct_logit_attribution(body, write_TC[start:])
        rise_TK = (logits_TV - logits_TV.mean(dim=-1, keepdim=True))[:, wanted].clamp(min=0)
        share_TK = rise_TK / rise_TK.sum(dim=-1, keepdim=True).clamp(min=1e-12)
        found.append(((pattern_TT[start:].float() @ attended_TK) * share_TK).sum(dim=-1).mean())
    return (torch.stack(found) * 4 - 1).clamp(max=1.0)


def token_losses(
    body: Backbone, rows: Sequence[Tokens], heads: Heads | None = None, *, at_once: int = 32
) -> Tensor:
    """Nats of each token but the first, of rows of one length, (B, T - 1); with `heads` given, of a single
    batch, as these say.
    """
    found = []
    with torch.inference_mode():
        for first in range(0, len(rows), len(rows) if heads is not None else at_once):
            tokens_BT = pad(rows[first : first + (len(rows) if heads is not None else at_once)], body.device)
            hidden = (
                body.hidden(tokens_BT[:, :-1])
                if heads is None
                else body.hidden_with_heads(tokens_BT[:, :-1], heads)
            )
            logits = body.logits(hidden.flatten(0, 1)).float()
            found.append(
                F.cross_entropy(logits, tokens_BT[:, 1:].flatten(), reduction="none").view(len(tokens_BT), -1)
            )
    return torch.cat(found)


def ablate_heads(
    body: Backbone,
    rows: Sequence[Tokens],
    silenced: Sequence[Head],
    *,
    preserve: bool = True,
    at_once: int = 16,
) -> tuple[Tensor, Tensor]:
    """Losses (B, T - 1) of the model as it is and with heads silenced. With `preserve` all heads attend as
    they did before (pattern-preserving ablation), so that only what the silenced ones moved is gone, and not
    what others made of it to see by.
    """
    before, after = [], []
    for first in range(0, len(rows), at_once):
        some = rows[first : first + at_once]
        clean = Heads()
        before.append(token_losses(body, some, clean))
        after.append(
            token_losses(
                body,
                some,
                Heads(frozen=clean.patterns_BHTT if preserve else None, ablated=frozenset(silenced)),
            )
        )
    return torch.cat(before), torch.cat(after)


def in_context_scores(losses_BT: Tensor, *, early: int, late: int) -> list[float]:
    """The in-context learning score of each row: its loss at a late token less that at an early one, nats.
    Below 0: context helps.
    """
    return [float(own) for own in (losses_BT[:, late - 1] - losses_BT[:, early - 1])]


def steepest_fall(steps: Sequence[int], values: Sequence[float], *, window: int = 3) -> tuple[int, float]:
    """(the step where a curve falls fastest, how far it falls there), over `window` neighbouring
    measurements.

    >>> steepest_fall([0, 10, 20, 30, 40], [0.0, 0.0, -1.0, -1.1, -1.1], window=2)
    (15, -1.0)
    """
    if len(steps) < window:
        raise InputError(f"a fall over {window} measurements needs as many; found {len(steps)}")
    falls = [values[place + window - 1] - values[place] for place in range(len(values) - window + 1)]
    place = int(np.argmin(falls))
    return (steps[place] + steps[place + window - 1]) // 2, falls[place]


def first_crossing(steps: Sequence[int], values: Sequence[float], level: float) -> int | None:
    """The first step at which a curve is at a level or above; None where it never is.

    >>> first_crossing([0, 10, 20], [0.0, 0.4, 0.9], 0.5)
    20
    """
    return next((step for step, value in zip(steps, values, strict=True) if value >= level), None)


def principal_components(vectors: npt.NDArray[np.float64], count: int = 2) -> npt.NDArray[np.float64]:
    """Principal components of rows (per-token losses of snapshots, of all models together): (rows, count)."""
    centred = vectors - vectors.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes[:count] * np.where(axes[:count].sum(axis=1, keepdims=True) < 0, -1, 1)
    return np.asarray(centred @ axes.T)


def path_expansion(body: Backbone, row: Tokens) -> tuple[Tensor, Tensor]:
    """Of a body without MLPs: its logits (T, V), and the sum of what the embedding and every head write,
    patterns and norms held as they were. Equal: the model is linear but for these. Paths through several
    heads are not told apart.

    The path straight from the embedding and what each head writes go through the final norm's scale and the
    head one by one.
    """
    layers, heads = [body.get_submodule(name) for name in layer_sites(body)], Heads()
    tokens_1T = pad([row], body.device)
    stream: list[Tensor] = []
    handle = layers[0].register_forward_pre_hook(lambda owner, given: stream.append(given[0]))
    try:
        with torch.inference_mode():
            logits = body.logits(body.hidden_with_heads(tokens_1T, heads)[0]).float()
            terms = [
                stream[0][0],
                *(
                    write
                    for place, layer in enumerate(layers)
                    for write in head_contributions(layer, heads.mixed_BHTD[place])[0]
                ),
            ]
    finally:
        handle.remove()
    norm = getattr(body, "final_norm", None)
    if not isinstance(norm, torch.nn.LayerNorm):
        raise InputError(f"{type(body).__name__} has no layer norm before its head to hold")
    with torch.inference_mode():
        whole = torch.stack(terms).sum(dim=0)
        scale = (whole.var(dim=-1, unbiased=False, keepdim=True) + norm.eps).rsqrt()
        summed = sum(
            body.logits((term - term.mean(dim=-1, keepdim=True)) * scale * norm.weight) for term in terms
        )
        return logits, torch.as_tensor(summed + body.logits(norm.bias[None]))
