"""Log-probabilities of given reply tokens after given prompt tokens.

`score` lays all requests in one trie and walks it depth first: what prompts and replies share is computed
once, its keys and values are kept only while something below needs them. Whatever is computed, the head runs
at the positions before scored tokens only, a few at a time: there is never a batch x length x vocabulary
tensor.

Shapes: B rows, T tokens, C width, N positions read, M tokens scored, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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

# tokens of one forward pass: enough to compute at full speed, few enough for the cache of a processor
BATCH_TOKENS = 2048
HEAD_ROWS = 1024  # positions whose logits exist at once
HEAD_PART = 512  # the same where gradients are wanted

Group = tuple[Tokens, Sequence[Tokens]]  # a prompt and the replies to it


def batch_by_tokens(lengths: Sequence[int], *, tokens: int) -> Iterator[list[int]]:
    """Places whose lengths are at most `tokens` together (one row at the least), longest first.

    >>> list(batch_by_tokens([3, 9, 2], tokens=9))
    [[1], [0, 2]]
    """
    batch: list[int] = []
    room = tokens
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if batch and lengths[place] > room:
            yield batch
            batch, room = [], tokens
        batch.append(place)
        room -= lengths[place]
    if batch:
        yield batch


def group_length(group: Group) -> int:
    """How many tokens a group is computed on."""
    return len(group[0]) + sum(map(len, group[1]))


def reply_hidden(body: Backbone, groups: Sequence[Group]) -> tuple[Tensor, Tensor, list[int]]:
    """One batch: the hidden state (N, C) that predicts each reply token, the tokens (N), and each reply's
    length.
    """
    tokens_1T, fork = pack_groups(groups, body.device)
    hidden_1TC = body.hidden(tokens_1T, fork)
    places: list[int] = []
    start = 0
    for prompt, replies in groups:
        start += len(prompt)
        last = start - 1
        for reply in replies:
            places += [last, *range(start, start + len(reply) - 1)]
            start += len(reply)
    target_N = torch.tensor(
        [t for _, replies in groups for reply in replies for t in reply], device=body.device
    )
    return (
        hidden_1TC[0, torch.tensor(places, device=body.device)],
        target_N,
        [len(reply) for _, replies in groups for reply in replies],
    )


def reply_logprobs(body: Backbone, groups: Sequence[Group]) -> list[Tensor]:
    """One batch: the log-probability (nats, fp32) of every token of every reply, in order, gradients kept."""
    hidden_NC, target_N, lengths = reply_hidden(body, groups)
    parts = zip(hidden_NC.split(HEAD_PART), target_N.split(HEAD_PART), strict=True)
    return list(torch.cat([token_logprobs(body, hidden, target) for hidden, target in parts]).split(lengths))


def token_logprobs(body: Backbone, hidden_NC: Tensor, target_N: Tensor) -> Tensor:
    """log p(target) at each position, by an fp32 log-softmax. With gradients the logits are computed again in
    the backward pass instead of kept: they are by far the largest tensor of a step.
    """
    if torch.is_grad_enabled():
        return torch.as_tensor(
            checkpoint(
                lambda hidden: gather_logprobs(body.logits(hidden), target_N), hidden_NC, use_reentrant=False
            )
        )
    return gather_logprobs(body.logits(hidden_NC), target_N)


def gather_logprobs(logits_NV: Tensor, target_N: Tensor) -> Tensor:
    return torch.as_tensor(GatherLogprobs.apply(logits_NV, target_N))  # type: ignore[no-untyped-call]


class GatherLogprobs(torch.autograd.Function):
    """log softmax(logits)[target] in fp32, (N,). Its gradient is one_hot(target) - softmax, made in the
    fewest passes.
    """

    @staticmethod
    def forward(ctx: Any, logits_NV: Tensor, target_N: Tensor) -> Tensor:
        exact_NV = logits_NV.float()
        total_N = exact_NV.logsumexp(dim=-1)
        ctx.save_for_backward(logits_NV, target_N, total_N)
        return exact_NV.gather(1, target_N[:, None])[:, 0] - total_N

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        logits_NV, target_N, total_N = ctx.saved_tensors
        given_NV = (logits_NV.float() - total_N[:, None]).exp_().mul_(-gradients[0][:, None])
        given_NV[torch.arange(len(target_N), device=target_N.device), target_N] += gradients[0]
        return given_NV.to(logits_NV.dtype), None


# a subtree of at most this many tokens stands in one row; above, its top is computed first and shared
ROW_TOKENS = 1024
PACKED_TOKENS = 96  # smaller subtrees under one node are put into rows of about this many
SHARED_TOKENS = 32  # a run of fewer tokens is not worth a forward pass of its own: the rows below repeat it


@dataclass(frozen=True, slots=True)
class Computed:
    """What has been computed above some rows: the keys and values, and the last hidden state (1, C)."""

    prefix: KeysValues | None = None
    last_1C: Tensor | None = None

    @property
    def length(self) -> int:
        return self.prefix[0][0].shape[2] if self.prefix is not None else 0


def score(body: Backbone, requests: Sequence[ScoreRequest]) -> list[Tensor]:
    """The log-probability (nats, fp32, on the CPU) of every reply token of every (prompt, reply), without
    gradients.

    Raises InputError on an empty prompt, which leaves a reply's first token without a distribution.
    """
    return [found_T2[:, 0] for found_T2 in score_and_greedy(body, requests)]


@torch.inference_mode()
def score_and_greedy(body: Backbone, requests: Sequence[ScoreRequest]) -> list[Tensor]:
    """The same, (T, 2): beside it 1 where the token is the likeliest in its place, of equals the first, else
    0.
    """
    if any(not prompt for prompt, _ in requests):
        raise InputError("scoring needs at least one token before each reply")
    trie = build_trie(requests)
    scored: dict[Node, Tensor] = {}
    # a subtree, the nodes above it that are still to be computed, and what is
    waiting = [(trie.root, list[Node](), Computed())]
    while waiting:
        node, above, before = waiting.pop()
        if node.size <= ROW_TOKENS:  # only the root can be this small and stand here
            score_rows(body, [build_row([node])] if node.size else [], before, scored)
            continue
        above = [*above, node]
        if not node.children or sum(len(own.tokens) for own in above) >= SHARED_TOKENS:
            before, above = compute_path(body, above, before, scored), []
        rows = [
            build_row(some, above)
            for some in pack_siblings([child for child in node.children if child.size <= ROW_TOKENS])
        ]
        for batch in batch_by_tokens([len(row.tokens) for row in rows], tokens=BATCH_TOKENS):

            def score_batch(batch: Sequence[TrieRow], before: Computed = before) -> None:
                score_rows(body, batch, before, scored)

            run_in_halves(score_batch, [rows[place] for place in batch])
        waiting += [(child, above, before) for child in node.children if child.size > ROW_TOKENS]
    return [
        path_logprobs(path, len(prompt), scored)
        for path, (prompt, _) in zip(trie.paths, requests, strict=True)
    ]


def pack_siblings(nodes: Sequence[Node]) -> list[list[Node]]:
    """Siblings that stand in one row each, the larger ones first and alone."""
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
    body: Backbone, path: Sequence[Node], before: Computed, scored: dict[Node, Tensor]
) -> Computed:
    """What stands above the rows below `path` once its tokens are computed too, a stretch at a time."""
    row, prefix, hidden = build_row([], path), before.prefix, []
    for start in range(0, len(row.tokens), ROW_TOKENS):
        stretch_TC, prefix = body.prefill(
            torch.tensor(row.tokens[start : start + ROW_TOKENS], device=body.device), prefix
        )
        hidden.append(stretch_TC)
    hidden_TC = torch.cat(hidden)
    scored.update(zip(row.nodes, score_nodes(body, hidden_TC, [row], before), strict=True))
    return Computed(prefix, hidden_TC[-1:])


def path_logprobs(path: Sequence[Node], start: int, scored: dict[Node, Tensor]) -> Tensor:
    """The log-probabilities of a path's tokens from depth `start` on."""
    parts = [
        scored[node][max(start - max(node.depth, node.scored_from), 0) :] for node in path if node.end > start
    ]
    return torch.cat(parts) if parts else torch.zeros(0, 2)


def score_rows(body: Backbone, rows: Sequence[TrieRow], before: Computed, scored: dict[Node, Tensor]) -> None:
    """One batch of rows; the scored tokens of each of their nodes go into `scored`."""
    if not rows:
        return
    joined = [
        torch.tensor([value for row in rows for value in values(row)], device=body.device)[None]
        for values in FIELDS
    ]
    starts = torch.tensor(
        [start for row, start in zip(rows, row_starts(rows), strict=True) for _ in row.tokens],
        device=body.device,
    )
    fork = TreeLayout(joined[1], joined[2] + starts, before.length, tuple(len(row.tokens) for row in rows))
    hidden_1TC = body.hidden(joined[0], fork, before.prefix)
    found = iter(score_nodes(body, hidden_1TC[0], rows, before))
    for row in rows:
        scored.update((node, next(found)) for node in row.nodes)


FIELDS: tuple[Callable[[TrieRow], Tokens], ...] = (
    lambda row: row.tokens,
    lambda row: row.positions,
    lambda row: row.ends,
)


def row_starts(rows: Sequence[TrieRow]) -> list[int]:
    """Where each row begins among all of them side by side."""
    return [0, *accumulate(len(row.tokens) for row in rows)][:-1]


def score_nodes(body: Backbone, hidden_TC: Tensor, rows: Sequence[TrieRow], above: Computed) -> list[Tensor]:
    """The log-probabilities of each node's scored tokens beside whether they are the likeliest, (M, 2), node
    by node. A position before several tokens is read once.
    """
    read: dict[int, int] = {}  # place before -> which position read; -1 is the last above the rows
    which, target, lengths = [], [], []
    for first, row in zip(row_starts(rows), rows, strict=True):
        for node, start in zip(row.nodes, row.starts, strict=True):
            skipped = min(max(node.scored_from - node.depth, 0), len(node.tokens))
            for place in range(start + skipped, start + len(node.tokens)):
                before = row.parents[place]
                which.append(read.setdefault(first + before if before >= 0 else -1, len(read)))
                target.append(row.tokens[place])
            lengths.append(len(node.tokens) - skipped)
    if not which:
        return [torch.zeros(0, 2) for _ in lengths]
    hidden_NC = hidden_TC[list(read)]
    if -1 in read and above.last_1C is not None:
        hidden_NC[read[-1]] = above.last_1C[0]
    return list(score_tokens(body, hidden_NC, torch.tensor(which), torch.tensor(target)).split(lengths))


def score_tokens(body: Backbone, hidden_NC: Tensor, which_M: Tensor, target_M: Tensor) -> Tensor:
    """log p of the target at position `which` of each scored token, and 1 where it is the likeliest, (M, 2),
    on the CPU.
    """
    found_M2 = torch.empty(len(which_M), 2)
    for start in range(0, len(hidden_NC), HEAD_ROWS):
        logits_NV = body.logits(hidden_NC[start : start + HEAD_ROWS]).float()
        inside = ((which_M >= start) & (which_M < start + HEAD_ROWS)).nonzero()[:, 0]
        local = (which_M[inside] - start).to(logits_NV.device)
        wanted = target_M[inside].to(logits_NV.device)
        picked = logits_NV[local, wanted] - logits_NV.logsumexp(dim=-1)[local]
        found_M2[inside] = torch.stack(
            [picked, (logits_NV.argmax(dim=-1)[local] == wanted).float()], dim=-1
        ).cpu()
    return found_M2


def score_groups(body: Backbone, groups: Sequence[Group]) -> list[list[Tensor]]:
    """The same, group by group."""
    found = iter(score(body, [(prompt, reply) for prompt, replies in groups for reply in replies]))
    return [[next(found) for _ in replies] for _, replies in groups]


@torch.inference_mode()
def exact_kl(first: Backbone, second: Backbone, groups: Sequence[Group]) -> list[float]:
    """For every reply, sum_t KL(first(.|x_<t) || second(.|x_<t)) over the whole vocabulary, in nats.

    On replies drawn from `first` this is the lowest-variance estimate of the KL of whole replies.
    """
    found: dict[int, list[float]] = {}
    for batch in batch_by_tokens([group_length(group) for group in groups], tokens=BATCH_TOKENS):
        some = [groups[place] for place in batch]
        hidden_NC, _, lengths = reply_hidden(first, some)
        other_NC, _, _ = reply_hidden(second, some)
        parts = []
        for mine, theirs in zip(hidden_NC.split(HEAD_ROWS // 4), other_NC.split(HEAD_ROWS // 4), strict=True):
            p_NV, q_NV = (
                first.logits(mine).float().log_softmax(-1),
                second.logits(theirs).float().log_softmax(-1),
            )
            parts.append((p_NV.exp() * (p_NV - q_NV)).sum(-1))
        sums = iter([float(part.sum()) for part in torch.cat(parts).split(lengths)])
        for place in batch:
            found[place] = [next(sums) for _ in groups[place][1]]
    return [kl for place in range(len(groups)) for kl in found[place]]


def group_by_prompt(pairs: Sequence[tuple[Tokens, Tokens]]) -> list[Group]:
    """Neighbouring pairs of one prompt put together, in order."""
    groups: list[tuple[Tokens, list[Tokens]]] = []
    for prompt, reply in pairs:
        if groups and groups[-1][0] == prompt:
            groups[-1][1].append(reply)
        else:
            groups.append((prompt, [reply]))
    return list(groups)
