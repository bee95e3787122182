"""A decoding step on an accelerator as a CUDA graph: recorded once, then replayed as one launch."""

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
    """Record `call` as a CUDA graph; returns the function that replays it and the tensor that it writes
    its result to.

    `reset` undoes the side effects of a call. Raises torch.OutOfMemoryError where memory runs out.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    # libraries initialise themselves in the first calls, which must not be recorded
    with torch.cuda.stream(side):
        for _ in range(2):
            call()
            reset()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            result = call()
    except RuntimeError as error:  # memory ran out, but ending the recording failed and hides it
        raise error.__context__ if isinstance(error.__context__, torch.OutOfMemoryError) else error from None
    return graph.replay, result


class ReplayedStep:
    """`step` as a recorded graph, recorded again whenever the tensors of the cache have changed. The
    returned logits are overwritten by the next call.
    """

    def __init__(self, step: Step, record: Record = capture_graph) -> None:
        self.step, self.record = step, record
        self.tensors: tuple[int, ...] = ()
        self.replay: Callable[[], object] = lambda: None
        self.tokens_B = self.logits_BV = torch.empty(0)

    def __call__(self, tokens_B: Tensor, cache: SlotCache) -> Tensor:
        """The logits (B, V) after `tokens_B`; see `Backbone.stepper`."""
        tensors = (
            cache.slots,
            cache.positions,
            *(tensor.data_ptr() for tensor in (*cache.keys_BHSD, *cache.values_BHSD, cache.lengths_B)),
        )
        if tensors != self.tensors or tokens_B.shape != self.tokens_B.shape:
            self.tokens_B, before_B, self.tensors = tokens_B.clone(), cache.lengths_B.clone(), tensors
            self.replay, self.logits_BV = self.record(
                lambda: self.step(self.tokens_B, cache), lambda: cache.lengths_B.copy_(before_B)
            )
        self.tokens_B.copy_(tokens_B)
        self.replay()
        return self.logits_BV
