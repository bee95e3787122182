"""Log-probabilities of given reply tokens after given prompt tokens.

A prompt is computed once for all replies to it. The head runs at the replies' positions only, a few at a time: there
is never a batch x length x vocabulary tensor. Shapes: B rows, T tokens, C width, N reply positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from solon.models.body import Body, Tokens, forked, pad

BATCH_TOKENS = 4096  # padded tokens of one forward pass
HEAD_ROWS = 1024  # positions whose logits exist at once

Group = tuple[Tokens, Sequence[Tokens]]  # a prompt and the replies to it


def batches(lengths: Sequence[int], *, tokens: int) -> Iterator[list[int]]:
    """Places grouped by length, longest first, such that a padded batch holds at most `tokens` (one row at the least).

    >>> list(batches([3, 9, 2], tokens=9))
    [[1], [0, 2]]
    """
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > tokens:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def length(group: Group) -> int:
    """How many tokens a group is computed on."""
    return len(group[0]) + sum(map(len, group[1]))


def reply_hidden(body: Body, groups: Sequence[Group]) -> tuple[Tensor, Tensor, list[int]]:
    """One batch: the hidden state (N, C) that predicts each reply token, the tokens (N), and each reply's length."""
    if all(len(replies) == 1 for _, replies in groups):
        tokens_BT, fork = pad([prompt + replies[0] for prompt, replies in groups], body.device), None
    else:
        tokens_BT, fork = forked(groups, body.device)
    hidden_BTC = body.hidden(tokens_BT, fork)
    rows: list[int] = []
    places: list[int] = []
    for row, (prompt, replies) in enumerate(groups):
        start = len(prompt)
        for reply in replies:
            rows += [row] * len(reply)
            places += [len(prompt) - 1, *range(start, start + len(reply) - 1)]
            start += len(reply)
    target_N = torch.tensor([t for _, replies in groups for reply in replies for t in reply], device=body.device)
    index = torch.tensor(rows, device=body.device), torch.tensor(places, device=body.device)
    return hidden_BTC[index], target_N, [len(reply) for _, replies in groups for reply in replies]


def reply_logprobs(body: Body, groups: Sequence[Group]) -> list[Tensor]:
    """One batch: the log-probability (nats, fp32) of every token of every reply, in order, gradients kept."""
    hidden_NC, target_N, lengths = reply_hidden(body, groups)
    parts = zip(hidden_NC.split(HEAD_ROWS), target_N.split(HEAD_ROWS), strict=True)
    return list(torch.cat([token_logprobs(body, hidden, target) for hidden, target in parts]).split(lengths))


def token_logprobs(body: Body, hidden_NC: Tensor, target_N: Tensor) -> Tensor:
    """log p(target) at each position, by an fp32 log-softmax."""
    logits_NV = body.logits(hidden_NC).float()
    return logits_NV.gather(1, target_N[:, None])[:, 0] - logits_NV.logsumexp(dim=-1)


@torch.inference_mode()
def score_groups(body: Body, groups: Sequence[Group]) -> list[list[Tensor]]:
    """The same for any number of groups, batched by length, without gradients: one tensor a reply, group by group."""
    found: dict[int, list[Tensor]] = {}
    for batch in batches([length(group) for group in groups], tokens=BATCH_TOKENS):
        flat = iter(reply_logprobs(body, [groups[place] for place in batch]))
        for place in batch:
            found[place] = [next(flat).cpu() for _ in groups[place][1]]
    return [found[place] for place in range(len(groups))]


@torch.inference_mode()
def exact_kl(first: Body, second: Body, groups: Sequence[Group]) -> list[float]:
    """For every reply, sum_t KL(first(.|x_<t) || second(.|x_<t)) over the whole vocabulary, in nats.

    On replies drawn from `first` this is the lowest-variance estimate of the KL of whole replies.
    """
    found: dict[int, list[float]] = {}
    for batch in batches([length(group) for group in groups], tokens=BATCH_TOKENS):
        some = [groups[place] for place in batch]
        hidden_NC, _, lengths = reply_hidden(first, some)
        other_NC, _, _ = reply_hidden(second, some)
        parts = []
        for mine, theirs in zip(hidden_NC.split(HEAD_ROWS // 4), other_NC.split(HEAD_ROWS // 4), strict=True):
            p_NV, q_NV = first.logits(mine).float().log_softmax(-1), second.logits(theirs).float().log_softmax(-1)
            parts.append((p_NV.exp() * (p_NV - q_NV)).sum(-1))
        sums = iter([float(part.sum()) for part in torch.cat(parts).split(lengths)])
        for place in batch:
            found[place] = [next(sums) for _ in groups[place][1]]
    return [kl for place in range(len(groups)) for kl in found[place]]


def grouped(pairs: Sequence[tuple[Tokens, Tokens]]) -> list[Group]:
    """Neighbouring pairs of one prompt put together, in order."""
    groups: list[tuple[Tokens, list[Tokens]]] = []
    for prompt, reply in pairs:
        if groups and groups[-1][0] == prompt:
            groups[-1][1].append(reply)
        else:
            groups.append((prompt, [reply]))
    return list(groups)
