"""How time grows with rows and with length: the slope of log time on log size, 1 where it is proportional.

    python -m benchmarks.growth [--model smollm2] [--runs 3] [--json]

Rows: 1x, 10x and 100x of the same kind of work, each in one call. Length: one row of 64 to 2,048 tokens,
where the products grow in proportion and attention with the square.
"""

from __future__ import annotations

import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.sidebyside import options_of
from solon.models.base import Tokens
from solon.models.load import load_open
from solon.models.sampling import Request, SamplingParams, generate
from solon.models.scoring import score
from solon.records.run import Run
from solon.training.fit import fit, micro_batches, reply_cross_entropy
from solon.training.optimiser import Plan


def seconds(call: Callable[[], object], runs: int) -> float:
    """The median."""
    found = []
    for _ in range(runs):
        began = time.perf_counter()
        call()
        found.append(time.perf_counter() - began)
    return statistics.median(found)


def slope(sizes: list[int], times: list[float]) -> float:
    """
    >>> round(slope([1, 10, 100], [0.5, 5.0, 50.0]), 6)
    1.0
    """
    return float(np.polyfit(np.log(sizes), np.log(times), 1)[0])


def main() -> None:
    options = options_of(__doc__)
    runs = min(options.runs, 3)
    model = load_open(options.model)
    body, rng = model.module, random.Random(0)

    def words(count: int) -> Tokens:
        return tuple(rng.choices(range(1000, 40000), k=count))

    def scoring(rows: int) -> Callable[[], object]:
        asked = [(words(60), words(4)) for _ in range(rows)]
        return lambda: score(body, asked)

    def sampling(rows: int) -> Callable[[], object]:
        asked = [Request(words(40), (number,), lambda tokens: False) for number in range(rows)]
        return lambda: list(generate(body, asked, SamplingParams(16, 1.0, 1.0, frozenset())))

    def training(rows: int) -> Callable[[], object]:
        free, examples = model.unfrozen(), [(words(40), words(20)) for _ in range(rows)]
        parts = micro_batches(examples, lambda example: 60, tokens=2048)
        return lambda: list(
            fit(
                free.module,
                lambda number: parts,
                reply_cross_entropy(free.module),
                plan=Plan(1, 1e-6, bf16=model.bf16_is_faster),
            )
        )

    def streaming(rows: int) -> Callable[[], object]:
        def call() -> None:
            with (
                tempfile.TemporaryDirectory() as folder,
                Run.open(Path(folder), "growth", {}, {}, seed=0) as run,
            ):
                made = run.stream(
                    "rows",
                    range(rows),
                    str,
                    lambda some: [{"value": value} for value in some],
                    total=rows,
                    size=256,
                )
                if sum(1 for _ in made) != rows:
                    raise AssertionError("rows were lost")

        return call

    def length(tokens: int) -> Callable[[], object]:
        asked = [(words(tokens - 1), words(1))]
        return lambda: score(body, asked)

    tasks: dict[str, tuple[Callable[[int], Callable[[], object]], list[int]]] = {
        "scoring, rows": (scoring, [2, 20, 200]),
        "sampling, rows": (sampling, [2, 20, 200]),
        "training, rows of a step": (training, [1, 10, 100]),
        "kept rows": (streaming, [1000, 10000, 100000]),
        "scoring, tokens of a row": (length, [64, 256, 1024, 2048]),
    }
    told = {}
    for name, (task, sizes) in tasks.items():
        times = [seconds(task(size), runs) for size in sizes]
        told[name] = {
            "sizes": sizes,
            "seconds": times,
            "slope": slope(sizes, times),
            "last_slope": slope(sizes[-2:], times[-2:]),
        }
        shown = ", ".join(f"{size}: {value:.3f} s" for size, value in zip(sizes, times, strict=True))
        print(
            f"{name:<26} slope {told[name]['slope']:.2f}, between the last two "
            f"{told[name]['last_slope']:.2f}   {shown}",
            flush=True,
        )
    if options.json:
        print(json.dumps(told))


if __name__ == "__main__":
    main()
