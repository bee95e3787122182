"""A decoding step on an accelerator, recorded once and replayed: hundreds of small kernels, launched as
one.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from solon.models.backbones.cache import SlotCache

Step = Callable[[Tensor, SlotCache], Tensor]
Record = Callable[[Callable[[], Tensor], Callable[[], object]], tuple[Callable[[], object], Tensor]]


def capture_graph(
    call: Callable[[], Tensor], reset: Callable[[], object]
) -> tuple[Callable[[], object], Tensor]:
    """A CUDA graph of `call`: what replays it, and where it leaves its result. `reset` undoes what a call
    changes.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    # libraries set themselves up in the first calls, which a graph must not record
    with torch.cuda.stream(side):
        for _ in range(2):
            call()
            reset()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            found = call()
    except RuntimeError as error:  # a recording that memory ran out in fails to end, which hides why
        raise error.__context__ if isinstance(error.__context__, torch.OutOfMemoryError) else error from None
    return graph.replay, found


class ReplayedStep:
    """The same as `step`, which is recorded anew whenever the cache has moved: as it grows by a stretch, or
    keeps fewer slots. What it returns is overwritten by the next step.
    """

    def __init__(self, step: Step, record: Record = capture_graph) -> None:
        self.step, self.record = step, record
        self.moved: tuple[int, ...] = ()
        self.replay: Callable[[], object] = lambda: None
        self.tokens_B = self.logits_BV = torch.empty(0)

    def __call__(self, tokens_B: Tensor, cache: SlotCache) -> Tensor:
        where = (
            cache.slots,
            cache.positions,
            *(own.data_ptr() for own in (*cache.keys_BHSD, *cache.values_BHSD, cache.lengths_B)),
        )
        if where != self.moved or tokens_B.shape != self.tokens_B.shape:
            self.tokens_B, before_B, self.moved = tokens_B.clone(), cache.lengths_B.clone(), where
            self.replay, self.logits_BV = self.record(
                lambda: self.step(self.tokens_B, cache), lambda: cache.lengths_B.copy_(before_B)
            )
        self.tokens_B.copy_(tokens_B)
        self.replay()
        return self.logits_BV
