"""Batched sampling over a slot cache: a finished reply frees its slot for a waiting one.

Every prompt is prefilled alone and once, whatever its number of samples, in blocks of a fixed size; prompts
that begin with the same whole blocks share them. Every reply has its own random stream, and every decoding
step computes a multiple of eight slots. So a reply is a function of weights, prompt, seed and settings alone.
On an accelerator this is not exact: its products round differently with the number of slots.

Shapes: B slots, T tokens, C width, N replies, V vocabulary, K blocks of `BLOCK` tokens.
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
PREFILL = 128  # tokens of a prompt that are computed at once
ROW_MULTIPLE = 8  # among multiples of eight rows, a row's numbers do not depend on how many there are
SLOTS = 32  # decoding is bound by memory bandwidth up to about here


@dataclass(frozen=True, slots=True)
class Request:
    """The tokens of one prompt, one seed for each sample, and a function that says whether a reply contains a
    stop string.
    """

    prompt: tuple[int, ...]
    seeds: tuple[int, ...]
    stopped: Callable[[list[int]], bool]


@dataclass(slots=True)
class Reply:
    """A reply that is being sampled."""

    index: tuple[int, int]  # request, copy
    request: Request
    uniforms: np.ndarray
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """Temperature 0 is greedy; top_p 1 is the whole distribution; `ends` are the tokens that end a reply."""

    max_tokens: int
    temperature: float
    top_p: float
    ends: frozenset[int]


def generate(
    backbone: Backbone, requests: Sequence[Request], params: SamplingParams
) -> Iterator[tuple[tuple[int, int], Reply, Stop]]:
    """Yield ((request, copy), reply, why it ended) as replies finish, in any order.

    Where memory runs out, unfinished replies start again in half as many slots, with a warning; no reply
    changes.
    """
    wanted = {
        (number, copy): None for number, request in enumerate(requests) for copy in range(len(request.seeds))
    }
    slots = min(SLOTS, -(-len(wanted) // ROW_MULTIPLE) * ROW_MULTIPLE)
    while wanted:
        try:
            for result in _generate(backbone, requests, list(wanted), params, slots):
                del wanted[result[0]]
                yield result
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or slots <= ROW_MULTIPLE:
                raise
        if wanted:
            slots //= 2
            free_memory(f"going on with {slots} replies at a time")


@torch.inference_mode()
def _generate(
    backbone: Backbone,
    requests: Sequence[Request],
    wanted: Sequence[tuple[int, int]],
    params: SamplingParams,
    most: int,
) -> Iterator[tuple[tuple[int, int], Reply, Stop]]:
    """Sample the wanted (request, copy) pairs in at most `most` slots."""
    slots = min(most, -(-len(wanted) // ROW_MULTIPLE) * ROW_MULTIPLE)
    cache = SlotCache(slots)
    waiting, step = _admissions(backbone, requests, wanted, params), None
    replies: dict[int, Reply] = {}
    tokens_B = torch.zeros(slots, dtype=torch.long, device=backbone.device)
    while True:
        for slot in range(slots):
            while slot not in replies and (admitted := next(waiting, None)) is not None:
                reply, prefix = admitted
                if (stop := _ended(reply, params, backbone.context)) is not None:
                    yield reply.index, reply, stop
                    continue
                cache.insert(slot, prefix)
                replies[slot], tokens_B[slot] = reply, reply.tokens[-1]
        if not replies:
            return
        # nothing waits: drop empty slots
        if (fewer := -(-len(replies) // ROW_MULTIPLE) * ROW_MULTIPLE) < slots:
            cache.select(sorted(replies), fewer)
            tokens_B = tokens_B[
                torch.tensor(sorted(replies) + [0] * (fewer - len(replies)), device=backbone.device)
            ]
            replies, slots = {index: replies[slot] for index, slot in enumerate(sorted(replies))}, fewer
        step = step or backbone.stepper()  # of the weights at this call
        cache.grow()
        logits_BV = step(tokens_B, cache)
        live = sorted(replies)
        _draw(logits_BV if len(live) == slots else logits_BV[live], [replies[slot] for slot in live], params)
        for slot in live:
            tokens_B[slot] = replies[slot].tokens[-1]
            if (stop := _ended(replies[slot], params, backbone.context)) is not None:
                cache.clear(slot)
                reply = replies.pop(slot)
                yield reply.index, reply, stop


def _admissions(
    backbone: Backbone, requests: Sequence[Request], wanted: Sequence[tuple[int, int]], params: SamplingParams
) -> Iterator[tuple[Reply, KeysValues]]:
    """Each reply with its first token and the keys and values of its prompt; a prompt is computed once for
    all its copies.
    """
    copies: dict[int, list[int]] = {}
    for number, copy in wanted:
        copies.setdefault(number, []).append(copy)
    prompts = prefill_prompts(backbone, [requests[number].prompt for number in copies])
    for (number, wanted_copies), (hidden_1C, prefix) in zip(copies.items(), prompts, strict=True):
        # eight equal rows: a single row would use another kernel
        logits_1V = backbone.logits(hidden_1C.expand(ROW_MULTIPLE, -1))[:1]
        for copy in wanted_copies:
            uniforms = np.random.Generator(np.random.Philox(requests[number].seeds[copy])).random(
                params.max_tokens
            )
            reply = Reply((number, copy), requests[number], uniforms)
            _draw(logits_1V, [reply], params)
            yield reply, prefix


def prefill_prompts(backbone: Backbone, prompts: Sequence[Tokens]) -> Iterator[tuple[Tensor, KeysValues]]:
    """Yield the last hidden state (1, C) and the keys and values of each prompt, in order.

    Blocks begin at multiples of `PREFILL` and not where prompts differ, so the result of a prompt never
    depends on the others. Keys and values of a block are kept until the last prompt that shares it. The block
    in which a prompt ends is always computed, for its hidden state. Raises InputError on an empty prompt.
    """
    numbers: dict[tuple[int, Tokens], int] = {}  # (number of the block before, block) -> number
    chains = []
    for prompt in prompts:
        chain = [-1]
        for start in range(0, len(prompt) - PREFILL, PREFILL):
            chain.append(numbers.setdefault((chain[-1], prompt[start : start + PREFILL]), len(numbers)))
        chains.append(chain[1:])
    users = Counter(block for chain in chains for block in chain)
    cached: dict[int, KeysValues] = {}
    for prompt, chain in zip(prompts, chains, strict=True):
        if not prompt:
            raise InputError("a reply needs a prompt of at least one token")
        shared = list(takewhile(cached.__contains__, chain))
        prefix = concatenate([cached[block] for block in shared])
        for index, start in enumerate(range(len(shared) * PREFILL, len(prompt), PREFILL), start=len(shared)):
            hidden_TC, whole = backbone.prefill(
                torch.tensor(prompt[start : start + PREFILL], device=backbone.device), prefix
            )
            if index < len(chain) and users[chain[index]] > 1:
                cached[chain[index]] = [
                    (key[:, :, start:].clone(), value[:, :, start:].clone()) for key, value in whole
                ]
            prefix = whole
        for block in chain:
            users[block] -= 1
            if not users[block]:
                cached.pop(block, None)
        yield hidden_TC[-1:], whole


def concatenate(blocks: Sequence[KeysValues]) -> KeysValues | None:
    """The keys and values of consecutive blocks as those of one prefix; None of no block."""
    if not blocks:
        return None
    layers = zip(*blocks, strict=True)
    return [
        (torch.cat([key for key, _ in layer], dim=2), torch.cat([value for _, value in layer], dim=2))
        for layer in layers
    ]


def _draw(logits_NV: Tensor, replies: Sequence[Reply], params: SamplingParams) -> None:
    """Append one token to each reply, by inverse transform sampling at its next uniform number."""
    max_N1 = logits_NV.amax(dim=-1, keepdim=True).float()
    weights_NV = (logits_NV - max_N1).exp_()
    sums_NK, total_N = block_sums(weights_NV)
    if params.temperature == 0:
        chosen_N = logits_NV.argmax(dim=-1)
    else:
        uniforms = torch.tensor(
            [reply.uniforms[len(reply.tokens)] for reply in replies], device=logits_NV.device
        )
        if params.temperature == 1 and params.top_p == 1:
            chosen_N = inverse_cdf(weights_NV, uniforms, sums_NK)
        else:
            tempered_NV = ((logits_NV - max_N1) / params.temperature).exp_()
            if params.top_p < 1:
                tempered_NV = nucleus(tempered_NV / tempered_NV.sum(dim=-1, keepdim=True), params.top_p)
            chosen_N = inverse_cdf(tempered_NV, uniforms)
    logprobs_N = logits_NV.gather(1, chosen_N[:, None])[:, 0].float() - max_N1[:, 0] - total_N.log().float()
    for reply, token, logprob in zip(replies, chosen_N.tolist(), logprobs_N.tolist(), strict=True):
        reply.tokens.append(token)
        reply.logprobs.append(logprob)


def block_sums(weights_NV: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of weights over blocks of tokens (N, K) and over all tokens (N,), in float64."""
    sums_NK = token_blocks(weights_NV).sum(dim=-1).double()
    return sums_NK, sums_NK.sum(dim=-1)


def token_blocks(weights_NV: Tensor) -> Tensor:
    """Weights (N, V) as blocks of `BLOCK` tokens (N, K, BLOCK), padded with zeros."""
    short = -weights_NV.shape[1] % BLOCK
    return (torch.nn.functional.pad(weights_NV, (0, short)) if short else weights_NV).view(
        len(weights_NV), -1, BLOCK
    )


def inverse_cdf(weights_NV: Tensor, uniforms_N: Tensor, sums_NK: Tensor | None = None) -> Tensor:
    """The token at which each row's cumulative weight passes its uniform number times the total, in float64.

    Blocks of tokens are summed first and searched second, several times faster than one long sum. `sums_NK`
    are those of `block_sums`, if known.

    >>> inverse_cdf(torch.tensor([[0.25, 0.0, 0.75]]), torch.tensor([0.25])).item()
    2
    """
    rows, blocks_NKB = len(weights_NV), token_blocks(weights_NV)
    cumulative_NK = (block_sums(weights_NV)[0] if sums_NK is None else sums_NK).cumsum(dim=-1)
    target_N1 = uniforms_N.double()[:, None] * cumulative_NK[:, -1:]
    block_N1 = torch.searchsorted(cumulative_NK, target_N1, right=True).clamp(max=cumulative_NK.shape[1] - 1)
    before_N1 = torch.where(block_N1 > 0, cumulative_NK.gather(1, (block_N1 - 1).clamp(min=0)), 0.0)
    inside_NB = blocks_NKB[torch.arange(rows, device=weights_NV.device), block_N1[:, 0]].double()
    offset_N1 = torch.searchsorted(inside_NB.cumsum(dim=-1), target_N1 - before_N1, right=True)
    positive_NB = inside_NB > 0  # rounding at a block's end must not pick a token of weight 0
    last_N1 = BLOCK - 1 - positive_NB.flip(-1).int().argmax(dim=-1, keepdim=True)
    return (block_N1 * BLOCK + torch.minimum(offset_N1, last_N1))[:, 0]


def nucleus(probabilities_NV: Tensor, top_p: float) -> Tensor:
    """Probabilities (N, V) with 0 outside the nucleus: the smallest set of likeliest tokens whose mass
    reaches top_p (Holtzman et al. 2019). Not renormalised.
    """
    if top_p >= 1:
        return probabilities_NV
    ordered, order = probabilities_NV.sort(dim=-1, descending=True, stable=True)
    outside = ordered.cumsum(dim=-1) - ordered >= top_p
    return torch.zeros_like(probabilities_NV).scatter(1, order, ordered.masked_fill(outside, 0.0))


def _ended(reply: Reply, params: SamplingParams, context: int) -> Stop | None:
    """Why a reply ends here, or None where it goes on."""
    if reply.tokens[-1] in params.ends:
        return Stop.END
    if reply.request.stopped(reply.tokens):
        return Stop.STRING
    full = len(reply.request.prompt) + len(reply.tokens) >= context
    return Stop.LENGTH if full or len(reply.tokens) >= params.max_tokens else None
