"""What a training loop does where memory runs out: the step begins again with less in hand, and all later
steps likewise.
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
    """First activations are computed again instead of kept (where a module has `recompute`), then
    micro-batches are cut in two, as often as it takes. The gradient is the same. Remembers how far it went; a
    warning says so each time.
    """

    def __init__(self, *optimised: tuple[nn.Module, Optimiser], world: World) -> None:
        self.optimised, self.world = optimised, world
        ways: list[Callable[[], None] | None] = [
            getattr(module, "recompute", None) for module, _ in optimised
        ]
        self.recomputes = [way for way in ways if way is not None]
        self.times = 0  # that micro-batches have been halved

    def run(
        self, number: int, parts: Sequence[Sequence[Row]], compute: Callable[[Sequence[Sequence[Row]]], Value]
    ) -> Value:
        """compute(micro-batches), which leaves gradients on the modules. Raises where one row alone is too
        much, and among several processes at once: the others would wait for this one.
        """
        while True:
            cut = split_in_two(parts, self.times)
            try:
                return compute(cut)
            except (RuntimeError, MemoryError) as error:
                rows = max(map(len, cut), default=0)
                if not is_out_of_memory(error) or (rows < 2 and not self.recomputes) or self.world.size > 1:
                    raise
            for _, optimiser in self.optimised:
                optimiser.zero_grad()
            if self.recomputes:
                while self.recomputes:
                    self.recomputes.pop()()
                free_memory(f"step {number} begins again, activations being computed twice instead of kept")
            else:
                self.times += 1
                free_memory(
                    f"step {number} goes on with micro-batches of at most {-(-rows // 2)} rows instead of "
                    f"{rows}"
                )
