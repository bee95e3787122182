"""Log-probabilities of given reply tokens after given prompts.

`score` builds one trie of all requests and computes it depth first: tokens that requests share are computed
once, and their keys and values are kept only while something below needs them. The head runs only at
positions before scored tokens, a few at a time: there is never a batch x length x vocabulary tensor.

Shapes: B rows, T tokens, C width, N positions read, M tokens scored, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from solon.errors import InputError
from solon.models.backbones.backbone import Backbone, TreeLayout, pack_groups
from solon.models.backbones.cache import KeysValues
from solon.models.base import Tokens
from solon.models.memory import run_in_halves
from solon.models.trie import Node, ScoreRequest, TrieRow, build_row, build_trie

# tokens of one forward pass: enough for full speed, few enough for the processor's cache
BATCH_TOKENS = 2048
ACCELERATOR_TOKENS = 8192  # the same on an accelerator, which takes as long for fewer
HEAD_ROWS = 1024  # positions whose logits are in memory at once
HEAD_PART = 512  # the same with gradients

Group = tuple[Tokens, Sequence[Tokens]]  # a prompt and the replies to it


def tokens_per_pass(device: torch.device) -> int:
    """Return how many tokens one forward pass without gradients takes."""
    return BATCH_TOKENS if device.type == "cpu" else ACCELERATOR_TOKENS


def batch_by_tokens(lengths: Sequence[int], *, tokens: int) -> Iterator[list[int]]:
    """Yield indices of rows whose lengths sum to at most `tokens` (at least one row), longest first.

    >>> list(batch_by_tokens([3, 9, 2], tokens=9))
    [[1], [0, 2]]
    """
    batch: list[int] = []
    room = tokens
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if batch and lengths[index] > room:
            yield batch
            batch, room = [], tokens
        batch.append(index)
        room -= lengths[index]
    if batch:
        yield batch


def group_length(group: Group) -> int:
    """The number of tokens of a group: its prompt's, once, and its replies'."""
    return len(group[0]) + sum(map(len, group[1]))


def reply_hidden(backbone: Backbone, groups: Sequence[Group]) -> tuple[Tensor, Tensor, list[int]]:
    """The hidden state (N, C) before each reply token of one batch, with gradients; the tokens (N), and each
    reply's length.
    """
    tokens_1T, layout = pack_groups(groups, backbone.device)
    hidden_1TC = backbone.hidden(tokens_1T, layout)
    before: list[int] = []
    start = 0
    for prompt, replies in groups:
        start += len(prompt)
        last = start - 1
        for reply in replies:
            before += [last, *range(start, start + len(reply) - 1)]
            start += len(reply)
    target_N = torch.tensor(
        [t for _, replies in groups for reply in replies for t in reply], device=backbone.device
    )
    return (
        hidden_1TC[0, torch.tensor(before, device=backbone.device)],
        target_N,
        [len(reply) for _, replies in groups for reply in replies],
    )


def reply_logprobs(backbone: Backbone, groups: Sequence[Group]) -> list[Tensor]:
    """The log-probability (nats, fp32) of every token of every reply of one batch, with gradients."""
    hidden_NC, target_N, lengths = reply_hidden(backbone, groups)
    parts = zip(hidden_NC.split(HEAD_PART), target_N.split(HEAD_PART), strict=True)
    return list(
        torch.cat([token_logprobs(backbone, hidden, target) for hidden, target in parts]).split(lengths)
    )


def token_logprobs(backbone: Backbone, hidden_NC: Tensor, target_N: Tensor) -> Tensor:
    """log p(target) (N,) at each position, by an fp32 log-softmax. With gradients, the logits are recomputed
    in the backward pass: they are by far the largest tensor of a step.
    """
    if torch.is_grad_enabled():
        return torch.as_tensor(
            checkpoint(
                lambda hidden: gather_logprobs(backbone.logits(hidden), target_N),
                hidden_NC,
                use_reentrant=False,
            )
        )
    return gather_logprobs(backbone.logits(hidden_NC), target_N)


def gather_logprobs(logits_NV: Tensor, target_N: Tensor) -> Tensor:
    """`GatherLogprobs` as a function."""
    return torch.as_tensor(GatherLogprobs.apply(logits_NV, target_N))  # type: ignore[no-untyped-call]


class GatherLogprobs(torch.autograd.Function):
    """log softmax(logits)[target] in fp32, (N,). The gradient, one_hot(target) - softmax, takes the fewest
    passes.
    """

    @staticmethod
    def forward(ctx: Any, logits_NV: Tensor, target_N: Tensor) -> Tensor:
        """The log-probabilities (N,)."""
        exact_NV = logits_NV.float()
        total_N = exact_NV.logsumexp(dim=-1)
        ctx.save_for_backward(logits_NV, target_N, total_N)
        return exact_NV.gather(1, target_N[:, None])[:, 0] - total_N

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient of the logits (N, V)."""
        logits_NV, target_N, total_N = ctx.saved_tensors
        gradient_NV = (logits_NV.float() - total_N[:, None]).exp_().mul_(-gradients[0][:, None])
        gradient_NV[torch.arange(len(target_N), device=target_N.device), target_N] += gradients[0]
        return gradient_NV.to(logits_NV.dtype), None


# a subtree of at most this many tokens is one row; of a larger one the top is computed first and shared
ROW_TOKENS = 1024
PACKED_TOKENS = 96  # smaller subtrees under one node are packed into rows of about this many
SHARED_TOKENS = 32  # fewer tokens are not worth a forward pass: the rows below repeat them


@dataclass(frozen=True, slots=True)
class Computed:
    """The path above some rows: its keys and values, and the last hidden state (1, C)."""

    prefix: KeysValues | None = None
    last_1C: Tensor | None = None

    @property
    def length(self) -> int:
        """The number of tokens of the path."""
        return self.prefix[0][0].shape[2] if self.prefix is not None else 0


def score(backbone: Backbone, requests: Sequence[ScoreRequest]) -> list[Tensor]:
    """The log-probability (nats, fp32, on the CPU) of every reply token of every request, without gradients.

    Raises InputError on an empty prompt: a reply's first token would have no distribution.
    """
    return [result_T2[:, 0] for result_T2 in score_and_greedy(backbone, requests)]


@torch.inference_mode()
def score_and_greedy(backbone: Backbone, requests: Sequence[ScoreRequest]) -> list[Tensor]:
    """`score` as (T, 2): the second column is 1 where the token is the likeliest (the first of equals)."""
    if any(not prompt for prompt, _ in requests):
        raise InputError("scoring needs at least one token before each reply")
    trie = build_trie(requests)
    scored: dict[Node, Tensor] = {}
    # a subtree, the nodes above it that are not computed yet, and the path that is
    waiting = [(trie.root, list[Node](), Computed())]
    while waiting:
        node, above, before = waiting.pop()
        if node.size <= ROW_TOKENS:  # only the root can be this small and stand here
            score_rows(backbone, [build_row([node])] if node.size else [], before, scored)
            continue
        above = [*above, node]
        if not node.children or sum(len(upper.tokens) for upper in above) >= SHARED_TOKENS:
            before, above = compute_path(backbone, above, before, scored), []
        rows = [
            build_row(siblings, above)
            for siblings in pack_siblings([child for child in node.children if child.size <= ROW_TOKENS])
        ]
        for batch in batch_by_tokens(
            [len(row.tokens) for row in rows], tokens=tokens_per_pass(backbone.device)
        ):
            work = partial(score_rows, backbone, before=before, scored=scored)
            run_in_halves(work, [rows[index] for index in batch])
        waiting += [(child, above, before) for child in node.children if child.size > ROW_TOKENS]
    return [
        path_logprobs(path, len(prompt), scored)
        for path, (prompt, _) in zip(trie.paths, requests, strict=True)
    ]


def pack_siblings(nodes: Sequence[Node]) -> list[list[Node]]:
    """Siblings in groups that become one row each, larger ones first and alone."""
    rows: list[list[Node]] = []
    room = 0
    for node in sorted(nodes, key=lambda node: -node.size):
        if not rows or node.size > room:
            rows.append([])
            room = PACKED_TOKENS
        rows[-1].append(node)
        room -= node.size
    return rows


def compute_path(
    backbone: Backbone, path: Sequence[Node], before: Computed, scored: dict[Node, Tensor]
) -> Computed:
    """Compute the nodes of `path` below `before`, `ROW_TOKENS` at a time; returns the longer path."""
    row, prefix, hidden = build_row([], path), before.prefix, []
    for start in range(0, len(row.tokens), ROW_TOKENS):
        part_TC, prefix = backbone.prefill(
            torch.tensor(row.tokens[start : start + ROW_TOKENS], device=backbone.device), prefix
        )
        hidden.append(part_TC)
    hidden_TC = torch.cat(hidden)
    scored.update(zip(row.nodes, score_nodes(backbone, hidden_TC, [row], before), strict=True))
    return Computed(prefix, hidden_TC[-1:])


def path_logprobs(path: Sequence[Node], start: int, scored: dict[Node, Tensor]) -> Tensor:
    """The results (T, 2) of a path's tokens from depth `start` on."""
    parts = [
        scored[node][max(start - max(node.depth, node.scored_from), 0) :] for node in path if node.end > start
    ]
    return torch.cat(parts) if parts else torch.zeros(0, 2)


def score_rows(
    backbone: Backbone, rows: Sequence[TrieRow], before: Computed, scored: dict[Node, Tensor]
) -> None:
    """Compute one batch of rows below `before`; the results of each node go into `scored`."""
    if not rows:
        return
    fields = [
        torch.tensor([value for row in rows for value in values(row)], device=backbone.device)[None]
        for values in FIELDS
    ]
    starts = torch.tensor(
        [start for row, start in zip(rows, row_starts(rows), strict=True) for _ in row.tokens],
        device=backbone.device,
    )
    layout = TreeLayout(fields[1], fields[2] + starts, before.length, tuple(len(row.tokens) for row in rows))
    hidden_1TC = backbone.hidden(fields[0], layout, before.prefix)
    results = iter(score_nodes(backbone, hidden_1TC[0], rows, before))
    for row in rows:
        scored.update((node, next(results)) for node in row.nodes)


FIELDS: tuple[Callable[[TrieRow], Tokens], ...] = (
    lambda row: row.tokens,
    lambda row: row.positions,
    lambda row: row.ends,
)


def row_starts(rows: Sequence[TrieRow]) -> list[int]:
    """The index of each row's first token among all rows side by side."""
    return [0, *accumulate(len(row.tokens) for row in rows)][:-1]


def score_nodes(
    backbone: Backbone, hidden_TC: Tensor, rows: Sequence[TrieRow], before: Computed
) -> list[Tensor]:
    """The results (M, 2) of each node's scored tokens, node by node (see `score_tokens`). A position before
    several tokens is read once.
    """
    read_index: dict[int, int] = {}  # index of a parent token -> its number; -1 is the last token of `before`
    positions, target, lengths = [], [], []
    for first, row in zip(row_starts(rows), rows, strict=True):
        for node, start in zip(row.nodes, row.starts, strict=True):
            skipped = min(max(node.scored_from - node.depth, 0), len(node.tokens))
            for index in range(start + skipped, start + len(node.tokens)):
                parent = row.parents[index]
                positions.append(
                    read_index.setdefault(first + parent if parent >= 0 else -1, len(read_index))
                )
                target.append(row.tokens[index])
            lengths.append(len(node.tokens) - skipped)
    if not positions:
        return [torch.zeros(0, 2) for _ in lengths]
    hidden_NC = hidden_TC[list(read_index)]
    if -1 in read_index and before.last_1C is not None:
        hidden_NC[read_index[-1]] = before.last_1C[0]
    return list(
        score_tokens(backbone, hidden_NC, torch.tensor(positions), torch.tensor(target)).split(lengths)
    )


def score_tokens(backbone: Backbone, hidden_NC: Tensor, which_M: Tensor, target_M: Tensor) -> Tensor:
    """log p (nats) of each target after the hidden state `which_M`, and 1 where it is the likeliest, (M, 2),
    on the CPU.
    """
    results_M2 = torch.empty(len(which_M), 2)
    for start in range(0, len(hidden_NC), HEAD_ROWS):
        logits_NV = backbone.logits(hidden_NC[start : start + HEAD_ROWS]).float()
        inside = ((which_M >= start) & (which_M < start + HEAD_ROWS)).nonzero()[:, 0]
        local = (which_M[inside] - start).to(logits_NV.device)
        target = target_M[inside].to(logits_NV.device)
        logprobs = logits_NV[local, target] - logits_NV.logsumexp(dim=-1)[local]
        results_M2[inside] = torch.stack(
            [logprobs, (logits_NV.argmax(dim=-1)[local] == target).float()], dim=-1
        ).cpu()
    return results_M2


def score_groups(backbone: Backbone, groups: Sequence[Group]) -> list[list[Tensor]]:
    """`score` of every reply, group by group."""
    scores = iter(score(backbone, [(prompt, reply) for prompt, replies in groups for reply in replies]))
    return [[next(scores) for _ in replies] for _, replies in groups]


@torch.inference_mode()
def exact_kl(first: Backbone, second: Backbone, groups: Sequence[Group]) -> list[float]:
    """sum_t KL(first(.|x_<t) || second(.|x_<t)) of every reply over the whole vocabulary, in nats.

    On replies sampled from `first` this is the lowest-variance estimate of the KL of whole replies.
    """
    sums_of: dict[int, list[float]] = {}
    tokens = tokens_per_pass(first.device)
    for batch in batch_by_tokens([group_length(group) for group in groups], tokens=tokens):
        batch_groups = [groups[index] for index in batch]
        hidden_NC, _, lengths = reply_hidden(first, batch_groups)
        other_hidden_NC, _, _ = reply_hidden(second, batch_groups)
        parts = []
        for first_NC, second_NC in zip(
            hidden_NC.split(HEAD_ROWS // 4), other_hidden_NC.split(HEAD_ROWS // 4), strict=True
        ):
            p_NV, q_NV = (
                first.logits(first_NC).float().log_softmax(-1),
                second.logits(second_NC).float().log_softmax(-1),
            )
            parts.append((p_NV.exp() * (p_NV - q_NV)).sum(-1))
        sums = iter([float(part.sum()) for part in torch.cat(parts).split(lengths)])
        for index in batch:
            sums_of[index] = [next(sums) for _ in groups[index][1]]
    return [kl for index in range(len(groups)) for kl in sums_of[index]]


def group_by_prompt(pairs: Sequence[tuple[Tokens, Tokens]]) -> list[Group]:
    """Put neighbouring (prompt, reply) pairs with the same prompt into one group, in order."""
    groups: list[tuple[Tokens, list[Tokens]]] = []
    for prompt, reply in pairs:
        if groups and groups[-1][0] == prompt:
            groups[-1][1].append(reply)
        else:
            groups.append((prompt, [reply]))
    return list(groups)
