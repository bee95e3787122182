"""The tables of docs/scale.md: memory by layout, a simulated curve to 64 nodes, and what 2 workers give here
over 1.

    python -m benchmarks.scale [--write] [--measure] [--json]

`--write` puts the computed tables into docs/scale.md; `--measure` times sampling, scoring and training with
one and with two workers of one thread each.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from solon.models.pooled import ModelSource, load_cached
from solon.pool.workers import process_pool
from solon.scaling.memory import (
    GIB,
    LLAMA_7B,
    LLAMA_70B,
    SMOLLM2_135M,
    Architecture,
    Layout,
    cache_memory,
    training_memory,
)
from solon.words.conversation import Conversation

PAGE = Path(__file__).parent.parent / "docs" / "scale.md"
JOBS = (
    ("SmolLM2 135M, all weights", SMOLLM2_135M, Layout(1, "full", recompute=False)),
    ("7B, LoRA: policy, preference model, critic", LLAMA_7B, Layout(1, "lora", models=3)),
    ("7B, all weights, a frozen reference", LLAMA_7B, Layout(8, "full", models=2)),
    ("70B, LoRA: policy, preference model, critic", LLAMA_70B, Layout(1, "lora", models=3)),
    ("70B, all weights", LLAMA_70B, Layout(32, "full")),
    ("70B, all weights, a frozen reference", LLAMA_70B, Layout(64, "full", models=2)),
)

# Assumptions of the curve: one H100 computes 400 TFLOP/s of bf16 in practice, receives 450 GB/s inside its
# node of eight and
# 50 GB/s from another, and four fifths of what it receives overlap with computing.
FLOPS, INSIDE, ACROSS, OVERLAP, NODE = 4e14, 450e9, 50e9, 0.8, 8


def memory_table() -> str:
    lines = [
        "| job | devices | weights, gradients, moments | frozen | activations and logits | gathered | "
        "rollouts | GiB a device |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, architecture, layout in JOBS:
        found = {part: size / GIB for part, size in training_memory(architecture, layout).items()}
        sharded = found["weights"] + found["gradients"] + found["moments"]
        row = (
            sharded,
            found["frozen"],
            found["activations"] + found["logits"],
            found["gathered"],
            found["rollouts"],
            found["total"],
        )
        lines.append(f"| {name} | {layout.devices} | " + " | ".join(f"{value:.1f}" for value in row) + " |")
    return "\n".join(lines)


def cache_table() -> str:
    lines = ["| model | 32 replies of 1,024 positions | 256 replies of 1,024 positions |", "|---|---|---|"]
    for name, architecture in (("SmolLM2 135M", SMOLLM2_135M), ("7B", LLAMA_7B), ("70B", LLAMA_70B)):
        sizes = [cache_memory(architecture, rows=rows, positions=1024) / GIB for rows in (32, 256)]
        lines.append(f"| {name} | {sizes[0]:.2f} GiB | {sizes[1]:.2f} GiB |")
    return "\n".join(lines)


def efficiency(architecture: Architecture, nodes: int, tokens: int) -> float:
    """The share of its time that a device computes in a step of one micro-batch under FSDP2 with
    recomputation: 8 operations a weight and token, against fp32 weights received twice and gradients once.
    """
    computing = 8 * architecture.parameters * tokens / FLOPS
    devices = nodes * NODE
    receiving = 3 * 4 * architecture.parameters * (devices - 1) / devices / (INSIDE if nodes == 1 else ACROSS)
    return computing / (computing + max(receiving - OVERLAP * computing, 0.0, (1 - OVERLAP) * receiving))


def curve_table() -> str:
    nodes = (1, 2, 4, 8, 16, 32, 64)
    lines = [
        "| job | tokens of a micro-batch | " + " | ".join(f"{count} nodes" for count in nodes) + " |",
        "|---|---|" + "---|" * len(nodes),
    ]
    for name, architecture in (("7B", LLAMA_7B), ("70B", LLAMA_70B)):
        for tokens in (8192, 32768):
            shares = " | ".join(f"{efficiency(architecture, count, tokens):.0%}" for count in nodes)
            lines.append(f"| {name}, all weights | {tokens:,} | {shares} |")
    return "\n".join(lines)


def page() -> tuple[str, ...]:
    """The computed tables."""
    return memory_table(), cache_table(), curve_table()


def write() -> None:
    """Put the tables between their marks."""
    text = PAGE.read_text()
    for name, table in zip(("memory", "cache", "curve"), page(), strict=True):
        text = re.sub(
            rf"(<!-- {name} -->\n).*?(\n<!-- end -->)",
            lambda found, table=table: f"{found[1]}{table}{found[2]}",
            text,
            flags=re.DOTALL,
        )
    PAGE.write_text(text)


def maps(workers: int) -> dict[str, float]:
    """Seconds of the same sampling and scoring on so many workers of one thread each, loading left out."""
    found = {}
    with process_pool(workers, threads=1).start() as executor:
        list(executor.map(warm, range(2 * workers)))
        for work in (sampling, scoring):
            began = time.perf_counter()
            list(executor.map(work, range(8)))
            found[work.__name__] = time.perf_counter() - began
    return found


def prompts(number: int) -> list[Conversation]:
    return [Conversation().human(f"What is {number} and {other} together?") for other in range(8)]


def sampling(number: int) -> None:
    load_cached(ModelSource("smollm2")).sample(prompts(number), max_tokens=16, seed=0)


def scoring(number: int) -> None:
    load_cached(ModelSource("smollm2")).score(prompts(number), ["It is an even number, whatever it is."] * 8)


def warm(number: int) -> None:
    """Long enough for every worker to take part in it."""
    scoring(number)
    time.sleep(3)


def training(workers: int) -> float:
    """Seconds of 20 steps of a small transformer over so many processes of one thread each, by its own
    clock.
    """
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(workers),
        "-m",
        "benchmarks.scale_job",
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("write", "measure", "json"):
        parser.add_argument(f"--{name}", action="store_true")
    options = parser.parse_args()
    if options.write:
        write()
    print("\n\n".join(page()))
    if options.measure:
        one, two = (maps(workers) | {"training": training(workers)} for workers in (1, 2))
        found = {
            name: {"one": one[name], "two": two[name], "efficiency": one[name] / two[name] / 2}
            for name in one
        }
        for name, row in found.items():
            print(
                f"{name}: 1 worker {row['one']:.1f} s, 2 workers {row['two']:.1f} s, efficiency "
                f"{row['efficiency']:.0%}"
            )
        if options.json:
            print(json.dumps(found))


if __name__ == "__main__":
    main()
