"""What every comparison needs: alternating runs in one process, ratios, and how far from the machine's
limit.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch


@dataclass(frozen=True, slots=True)
class Ratio:
    """Seconds of both sides over alternating runs. `times` is how often ours fits into the peer's, the median
    over runs.
    """

    name: str
    ours: float
    peer: float
    times: float
    least: float
    most: float
    runs: int

    def __str__(self) -> str:
        spread = f"{self.least:.2f} to {self.most:.2f} over {self.runs} runs"
        return (
            f"{self.name:<34} ours {self.ours:8.2f} s   peer {self.peer:8.2f} s   {self.times:5.2f}x "
            f"({spread})"
        )


def alternating(name: str, ours: Callable[[], object], peer: Callable[[], object], *, runs: int) -> Ratio:
    """Each side in turn, `runs` times, whoever went first going second in the next run."""
    pairs = []
    for number in range(runs):
        order = ((0, ours), (1, peer)) if number % 2 == 0 else ((1, peer), (0, ours))
        found = [0.0, 0.0]
        for side, call in order:
            began = time.perf_counter()
            call()
            found[side] = time.perf_counter() - began
        pairs.append((found[0], found[1]))
    ratios = [peer_s / ours_s for ours_s, peer_s in pairs]
    seconds = [statistics.median(column) for column in zip(*pairs, strict=True)]
    return Ratio(name, seconds[0], seconds[1], statistics.median(ratios), min(ratios), max(ratios), runs)


def multiply_limit(dtype: torch.dtype = torch.bfloat16, *, size: int = 2048, seconds: float = 2.0) -> float:
    """Multiply-adds a second of one large matrix product: the most that this machine computes."""
    a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    a @ b
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        a @ b
        count += 1
    return count * size**3 / (time.perf_counter() - began)


def options_of(
    description: str | None,
    *,
    positional: Sequence[str] = (),
    words: Sequence[str] = (),
    flags: Sequence[str] = (),
    **sizes: int,
) -> argparse.Namespace:
    """The flags of a comparison: files, words, sizes, how many runs, which model, and --json."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in positional:
        parser.add_argument(name)
    for name in words:
        parser.add_argument(f"--{name}", default="")
    for name, size in {**sizes, "runs": 5}.items():
        parser.add_argument(f"--{name}", type=int, default=size)
    parser.add_argument("--model", default="smollm2")
    for name in ("json", *flags):
        parser.add_argument(f"--{name}", action="store_true")
    return parser.parse_args()


def told(found: list[Ratio], more: dict[str, object], *, as_json: bool) -> None:
    """Print the ratios and what else was found."""
    if as_json:
        print(json.dumps({"ratios": [asdict(ratio) for ratio in found], **more}))
        return
    for ratio in found:
        print(ratio)
    for name, value in more.items():
        print(f"{name}: {value}")
