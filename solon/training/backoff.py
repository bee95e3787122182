"""When memory runs out in a training step: the step starts again with less in memory, and so do all later
ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from torch import nn

from solon.models.memory import free_memory, is_out_of_memory
from solon.training.optimiser import Optimiser
from solon.training.parallel import World, split_in_two

Row = TypeVar("Row")
Value = TypeVar("Value")


class OutOfMemoryBackoff:
    """First activations are recomputed in the backward pass (where a module has `recompute`), then
    micro-batches are halved, as often as needed. The gradient is the same. The settings last; each change is
    a warning.
    """

    def __init__(self, *optimised: tuple[nn.Module, Optimiser], world: World) -> None:
        self.optimised, self.world = optimised, world
        methods: list[Callable[[], None] | None] = [
            getattr(module, "recompute", None) for module, _ in optimised
        ]
        self.recomputes = [method for method in methods if method is not None]
        self.halvings = 0  # of micro-batches

    def run(
        self, number: int, parts: Sequence[Sequence[Row]], compute: Callable[[Sequence[Sequence[Row]]], Value]
    ) -> Value:
        """compute(micro-batches) of step `number`, which accumulates gradients. Raises the error where one
        row alone is too much, and among several processes always: the others would wait.
        """
        while True:
            micro_batches = split_in_two(parts, self.halvings)
            try:
                return compute(micro_batches)
            except (RuntimeError, MemoryError) as error:
                rows = max(map(len, micro_batches), default=0)
                if not is_out_of_memory(error) or (rows < 2 and not self.recomputes) or self.world.size > 1:
                    raise
            for _, optimiser in self.optimised:
                optimiser.zero_grad()
            if self.recomputes:
                while self.recomputes:
                    self.recomputes.pop()()
                free_memory(f"step {number} starts again, and recomputes activations from now on")
            else:
                self.halvings += 1
                free_memory(
                    f"step {number} goes on with micro-batches of at most {-(-rows // 2)} rows instead "
                    f"of {rows}"
                )
