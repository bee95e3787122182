"""Supervised training of any module on any rows with any loss: a generator of steps."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from solon.models.backbones.backbone import Backbone
from solon.models.base import Tokens, derive
from solon.models.scoring import reply_logprobs
from solon.training.backoff import OutOfMemoryBackoff
from solon.training.losses import LossTotal
from solon.training.optimiser import Optimiser, Plan
from solon.training.parallel import SINGLE_PROCESS, World
from solon.training.steps import Diverged, State, Step

Row = TypeVar("Row")
Batch = Callable[[int], Sequence[Sequence[Row]]]  # step number -> its micro-batches


def fit(
    module: nn.Module,
    batch: Batch[Row],
    loss: Callable[[Sequence[Row]], LossTotal],
    *,
    plan: Plan,
    state: Mapping[str, Tensor] | None = None,
    world: World = SINGLE_PROCESS,
) -> Iterator[Step]:
    """Train the parameters of `module` that require gradients, in place, yielding each step after it is
    taken.

    `batch(n)` gives the micro-batches of step n, n = 1 ... plan.steps, and must be a pure function of n:
    there is no other randomness, so a run continued from `state` equals one that never stopped, bit for bit.
    The gradient is that of sum(loss) / sum(weight) over all micro-batches: their sizes do not matter.

    Where memory runs out, see `OutOfMemoryBackoff`; a run continued from `state` starts with full
    micro-batches again. In a `world` of several processes each calls this with the same arguments.

    Raises Diverged where the loss or the gradient is not finite; the weights are then those before the step.
    """
    world.shard(module)
    optimiser = Optimiser(module, plan, world)
    start = 0
    if state is not None:
        optimiser.restore(state)
        start = int(state["number"])
    backoff = OutOfMemoryBackoff((module, optimiser), world=world)
    compute = partial(accumulate_gradients, module, loss=loss, plan=plan, world=world)
    for number in range(start + 1, plan.steps + 1):
        sums = backoff.run(number, batch(number), compute)
        weight = sums.pop("weight")
        metrics = {name: value / weight for name, value in sums.items()}
        if not math.isfinite(metrics["loss"]):
            raise Diverged(
                f"the loss at step {number} is {metrics['loss']}; lower the learning rate "
                f"({plan.learning_rate:g}) or look at the data"
            )
        metrics |= optimiser.step(number, weight=weight)
        yield Step(number, metrics, partial(state_after, number, optimiser))


def accumulate_gradients(
    module: nn.Module,
    parts: Sequence[Sequence[Row]],
    *,
    loss: Callable[[Sequence[Row]], LossTotal],
    plan: Plan,
    world: World,
) -> dict[str, float]:
    """Accumulate the gradients of all micro-batches; returns the sums over all processes of the loss, of
    `weight` and of what the loss reports.
    """
    sums = dict[str, float]()
    kind = next(module.parameters()).device.type
    for rows, counted in world.local_parts(parts):

        def compute(rows: Sequence[Row] = rows) -> tuple[Tensor, LossTotal]:
            total = loss(rows)
            return total.loss, total  # FSDP needs the tensor itself in the output

        with torch.autocast(kind, torch.bfloat16, enabled=plan.bf16):
            value, total = world.run(module, compute)
        (value * counted).backward()
        for name, part in {"weight": total.weight, "loss": value.item(), **total.sums}.items():
            sums[name] = sums.get(name, 0.0) + part * counted
    return world.all_reduce(sums)


def state_after(number: int, optimiser: Optimiser) -> State:
    """The whole state after step `number`."""
    return numbered_state(number, optimiser.state())


def numbered_state(number: int, tensors: State) -> State:
    """`tensors` with the number of the step after which they are."""
    return {"number": torch.tensor(number), **tensors}


def shuffled_batch(rows: Sequence[Row], *, size: int, seed: int, number: int) -> list[Row]:
    """The `size` rows of step `number` (from 1): each pass over the data is a new permutation, no row is
    skipped.

    >>> batches = [shuffled_batch("abcd", size=2, seed=0, number=number) for number in (1, 2)]
    >>> sorted(batches[0] + batches[1])
    ['a', 'b', 'c', 'd']
    """
    indices = range((number - 1) * size, number * size)
    orders = {
        epoch: random.Random(derive(seed, "epoch", epoch)).sample(range(len(rows)), len(rows))
        for epoch in {index // len(rows) for index in indices}
    }
    return [rows[orders[index // len(rows)][index % len(rows)]] for index in indices]


def steps_for(rows: int, *, size: int, epochs: float) -> int:
    """The number of steps of `size` rows for `epochs` passes, rounded up."""
    return math.ceil(rows * epochs / size)


Example = tuple[Tokens, Tokens]  # prompt, reply with its end


def reply_cross_entropy(backbone: Backbone) -> Callable[[Sequence[Example]], LossTotal]:
    """The cross-entropy of reply tokens, in nats a token; prompts are masked."""

    def loss(examples: Sequence[Example]) -> LossTotal:
        logprobs = torch.cat(reply_logprobs(backbone, [(prompt, [reply]) for prompt, reply in examples]))
        return LossTotal(-logprobs.sum(), float(logprobs.numel()))

    return loss


def micro_batches(rows: Sequence[Row], length: Callable[[Row], int], *, tokens: int) -> list[list[Row]]:
    """Micro-batches in order, of at most `tokens` tokens (at least one row). Rows are side by side without
    padding.

    >>> micro_batches(["abc", "d", "efgh"], len, tokens=5)
    [['abc', 'd'], ['efgh']]
    """
    parts: list[list[Row]] = []
    room = 0
    for row in rows:
        if not parts or length(row) > room:
            parts.append([])
            room = tokens
        parts[-1].append(row)
        room -= length(row)
    return parts
