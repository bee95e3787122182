"""What `benchmarks.scale --measure` starts by torchrun: supervised steps of a small transformer, timed."""

from __future__ import annotations

import random
import time

import torch

from solon.models.backbones.small import Shape, SmallTransformer
from solon.training.fit import fit, micro_batches, reply_cross_entropy
from solon.training.optimiser import Plan
from solon.training.parallel import init_distributed

STEPS, ROWS, LENGTH = 20, 32, 128


def main() -> None:
    torch.set_num_threads(1)
    rng = random.Random(0)
    rows = [
        (tuple(rng.choices(range(4096), k=LENGTH // 2)), tuple(rng.choices(range(4096), k=LENGTH // 2)))
        for _ in range(ROWS)
    ]
    body = SmallTransformer(Shape(4096, width=384, layers=6, heads=6, context=LENGTH), seed=0)
    with init_distributed() as world:
        began = 0.0
        for step in fit(
            body,
            lambda number: micro_batches(rows, lambda row: LENGTH, tokens=512),
            reply_cross_entropy(body),
            plan=Plan(STEPS, 1e-4),
            world=world,
        ):
            if step.number == 1:
                began = time.perf_counter()
        if world.rank == 0:
            print(time.perf_counter() - began)


if __name__ == "__main__":
    main()
