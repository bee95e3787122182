"""Batched sampling over a slot cache: a finished row leaves, a waiting one takes its slot.

Every prompt is prefilled alone and once, whatever `count`, in blocks of a fixed size, and prompts that begin
with the same whole blocks share them; every row draws from its own random stream; every decoding step runs a
multiple of eight slots. So a reply is a function of weights, prompt, seed and settings alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

import numpy as np
import torch
from torch import Tensor

from solon.errors import InputError
from solon.models.backbones.backbone import Backbone
from solon.models.backbones.cache import KeysValues, SlotCache
from solon.models.base import Stop, Tokens
from solon.models.memory import free_memory, is_out_of_memory

BLOCK = 256
PREFILL = 128  # tokens of a prompt that are computed together
EIGHT = 8  # rows are computed in eights, in which a row's numbers do not depend on how many there are
SLOTS = 32  # decoding is bound by memory up to about here


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt's tokens and one seed for each sample wanted. `stopped` says whether the reply so far hit a
    stop string.
    """

    prompt: tuple[int, ...]
    seeds: tuple[int, ...]
    stopped: Callable[[list[int]], bool]


@dataclass(slots=True)
class Row:
    """One reply being drawn."""

    place: tuple[int, int]  # request, copy
    request: Request
    uniforms: np.ndarray
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to draw: temperature 0 is the likeliest token; top_p 1 keeps the whole distribution."""

    max_tokens: int
    temperature: float
    top_p: float
    ends: frozenset[int]


def generate(
    body: Backbone, requests: Sequence[Request], rules: SamplingParams
) -> Iterator[tuple[tuple[int, int], Row, Stop]]:
    """Yields ((request, copy), row, why it ended) as rows finish, in any order.

    Where memory runs out, the rows that are not finished begin again in half as many slots, which changes no
    reply; a warning says so.
    """
    wanted = {
        (number, copy): None for number, request in enumerate(requests) for copy in range(len(request.seeds))
    }
    slots = min(SLOTS, -(-len(wanted) // EIGHT) * EIGHT)
    while wanted:
        try:
            for found in _generate(body, requests, list(wanted), rules, slots):
                del wanted[found[0]]
                yield found
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or slots <= EIGHT:
                raise
        if wanted:
            slots //= 2
            free_memory(f"going on with {slots} replies at a time")


@torch.inference_mode()
def _generate(
    body: Backbone,
    requests: Sequence[Request],
    wanted: Sequence[tuple[int, int]],
    rules: SamplingParams,
    most: int,
) -> Iterator[tuple[tuple[int, int], Row, Stop]]:
    """The replies wanted, in at most so many slots."""
    slots = min(most, -(-len(wanted) // EIGHT) * EIGHT)
    cache = SlotCache(slots)
    waiting, step = _admissions(body, requests, wanted, rules), None
    rows: dict[int, Row] = {}
    tokens_B = torch.zeros(slots, dtype=torch.long, device=body.device)
    while True:
        for slot in range(slots):
            while slot not in rows and (admitted := next(waiting, None)) is not None:
                row, prefix = admitted
                if (stop := _ended(row, rules, body.context)) is not None:
                    yield row.place, row, stop
                    continue
                cache.insert(slot, prefix)
                rows[slot], tokens_B[slot] = row, row.tokens[-1]
        if not rows:
            return
        # nothing waits: the last rows go on among themselves
        if (fewer := -(-len(rows) // EIGHT) * EIGHT) < slots:
            cache.select(sorted(rows), fewer)
            tokens_B = tokens_B[torch.tensor(sorted(rows) + [0] * (fewer - len(rows)), device=body.device)]
            rows, slots = {place: rows[slot] for place, slot in enumerate(sorted(rows))}, fewer
        step = step or body.stepper()  # of the weights as they are in this call
        cache.grow()
        logits_BV = step(tokens_B, cache)
        live = sorted(rows)
        _draw(logits_BV if len(live) == slots else logits_BV[live], [rows[slot] for slot in live], rules)
        for slot in live:
            tokens_B[slot] = rows[slot].tokens[-1]
            if (stop := _ended(rows[slot], rules, body.context)) is not None:
                cache.clear(slot)
                row = rows.pop(slot)
                yield row.place, row, stop


def _admissions(
    body: Backbone, requests: Sequence[Request], wanted: Sequence[tuple[int, int]], rules: SamplingParams
) -> Iterator[tuple[Row, KeysValues]]:
    """Each row with its first token drawn and its prompt's keys and values; a prompt is run once for all its
    copies.
    """
    copies: dict[int, list[int]] = {}
    for number, copy in wanted:
        copies.setdefault(number, []).append(copy)
    prompts = prefill_prompts(body, [requests[number].prompt for number in copies])
    for (number, own), (hidden_1C, prefix) in zip(copies.items(), prompts, strict=True):
        # eight equal rows: one alone takes another kernel
        logits_1V = body.logits(hidden_1C.expand(EIGHT, -1))[:1]
        for copy in own:
            uniforms = np.random.Generator(np.random.Philox(requests[number].seeds[copy])).random(
                rules.max_tokens
            )
            row = Row((number, copy), requests[number], uniforms)
            _draw(logits_1V, [row], rules)
            yield row, prefix


def prefill_prompts(body: Backbone, prompts: Sequence[Tokens]) -> Iterator[tuple[Tensor, KeysValues]]:
    """The last hidden state (1, C) and the keys and values of each prompt, in order.

    Blocks are cut at fixed places and not where prompts happen to part, so that what a prompt gives never
    depends on the others. Keys and values of a block that later prompts share are kept until the last of them
    has been served. The block that a prompt ends in is always computed: its hidden state is wanted.
    """
    names: dict[tuple[int, Tokens], int] = {}  # (the block before, a block) -> its number
    chains = []
    for prompt in prompts:
        chain = [-1]
        for start in range(0, len(prompt) - PREFILL, PREFILL):
            chain.append(names.setdefault((chain[-1], prompt[start : start + PREFILL]), len(names)))
        chains.append(chain[1:])
    awaited = Counter(block for chain in chains for block in chain)
    kept: dict[int, KeysValues] = {}
    for prompt, chain in zip(prompts, chains, strict=True):
        if not prompt:
            raise InputError("a reply needs a prompt of at least one token")
        shared = list(takewhile(kept.__contains__, chain))
        prefix = concatenate([kept[block] for block in shared])
        for place, start in enumerate(range(len(shared) * PREFILL, len(prompt), PREFILL), start=len(shared)):
            hidden_TC, whole = body.prefill(
                torch.tensor(prompt[start : start + PREFILL], device=body.device), prefix
            )
            if place < len(chain) and awaited[chain[place]] > 1:
                kept[chain[place]] = [
                    (key[:, :, start:].clone(), value[:, :, start:].clone()) for key, value in whole
                ]
            prefix = whole
        for block in chain:
            awaited[block] -= 1
            if not awaited[block]:
                kept.pop(block, None)
        yield hidden_TC[-1:], whole


def concatenate(blocks: Sequence[KeysValues]) -> KeysValues | None:
    """Keys and values of consecutive blocks as those of one prefix."""
    if not blocks:
        return None
    layers = zip(*blocks, strict=True)
    return [
        (torch.cat([key for key, _ in layer], dim=2), torch.cat([value for _, value in layer], dim=2))
        for layer in layers
    ]


def _draw(logits_NV: Tensor, rows: Sequence[Row], rules: SamplingParams) -> None:
    """Append one token to each row by inverting its distribution at the row's next uniform number."""
    most_N1 = logits_NV.amax(dim=-1, keepdim=True).float()
    weights_NV = (logits_NV - most_N1).exp_()
    sums_NK, total_N = block_sums(weights_NV)
    if rules.temperature == 0:
        chosen_N = logits_NV.argmax(dim=-1)
    else:
        uniforms = torch.tensor([row.uniforms[len(row.tokens)] for row in rows], device=logits_NV.device)
        if rules.temperature == 1 and rules.top_p == 1:
            chosen_N = inverse_cdf(weights_NV, uniforms, sums_NK)
        else:
            tempered_NV = ((logits_NV - most_N1) / rules.temperature).exp_()
            if rules.top_p < 1:
                tempered_NV = nucleus(tempered_NV / tempered_NV.sum(dim=-1, keepdim=True), rules.top_p)
            chosen_N = inverse_cdf(tempered_NV, uniforms)
    picked_N = logits_NV.gather(1, chosen_N[:, None])[:, 0].float() - most_N1[:, 0] - total_N.log().float()
    for row, token, logprob in zip(rows, chosen_N.tolist(), picked_N.tolist(), strict=True):
        row.tokens.append(token)
        row.logprobs.append(logprob)


def block_sums(weights_NV: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over blocks of tokens (N, K) and over all (N,), in float64."""
    sums_NK = token_blocks(weights_NV).sum(dim=-1).double()
    return sums_NK, sums_NK.sum(dim=-1)


def token_blocks(weights_NV: Tensor) -> Tensor:
    """Blocks of `BLOCK` tokens, (N, K, BLOCK)."""
    short = -weights_NV.shape[1] % BLOCK
    return (torch.nn.functional.pad(weights_NV, (0, short)) if short else weights_NV).view(
        len(weights_NV), -1, BLOCK
    )


def inverse_cdf(weights_NV: Tensor, uniforms_N: Tensor, sums_NK: Tensor | None = None) -> Tensor:
    """The token at which each row's cumulative weight passes its uniform share of the total, in float64.

    Blocks of tokens are summed first and searched second, which is several times faster than one long sum.
    `sums_NK` are those of `block_sums`, where they are known.

    >>> inverse_cdf(torch.tensor([[0.25, 0.0, 0.75]]), torch.tensor([0.25])).item()
    2
    """
    rows, blocks_NKB = len(weights_NV), token_blocks(weights_NV)
    cumulative_NK = (block_sums(weights_NV)[0] if sums_NK is None else sums_NK).cumsum(dim=-1)
    target_N1 = uniforms_N.double()[:, None] * cumulative_NK[:, -1:]
    block_N1 = torch.searchsorted(cumulative_NK, target_N1, right=True).clamp(max=cumulative_NK.shape[1] - 1)
    before_N1 = torch.where(block_N1 > 0, cumulative_NK.gather(1, (block_N1 - 1).clamp(min=0)), 0.0)
    inside_NB = blocks_NKB[torch.arange(rows, device=weights_NV.device), block_N1[:, 0]].double()
    place_N1 = torch.searchsorted(inside_NB.cumsum(dim=-1), target_N1 - before_N1, right=True)
    positive_NB = inside_NB > 0  # rounding at a block's end must not pick a token of no weight
    last_N1 = BLOCK - 1 - positive_NB.flip(-1).int().argmax(dim=-1, keepdim=True)
    return (block_N1 * BLOCK + torch.minimum(place_N1, last_N1))[:, 0]


def nucleus(probabilities_NV: Tensor, top_p: float) -> Tensor:
    """The probabilities with all outside the nucleus at zero: the smallest set of likeliest tokens whose mass
    reaches top_p (Holtzman et al. 2019). Not renormalised.
    """
    if top_p >= 1:
        return probabilities_NV
    ordered, order = probabilities_NV.sort(dim=-1, descending=True, stable=True)
    outside = ordered.cumsum(dim=-1) - ordered >= top_p
    return torch.zeros_like(probabilities_NV).scatter(1, order, ordered.masked_fill(outside, 0.0))


def _ended(row: Row, rules: SamplingParams, context: int) -> Stop | None:
    if row.tokens[-1] in rules.ends:
        return Stop.END
    if row.request.stopped(row.tokens):
        return Stop.STRING
    full = len(row.request.prompt) + len(row.tokens) >= context
    return Stop.LENGTH if full or len(row.tokens) >= rules.max_tokens else None
