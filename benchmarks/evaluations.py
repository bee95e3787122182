"""The whole list of real evaluations of docs/performance.md, timed on two cores.

    python -m benchmarks.evaluations DATA --aligned STEP10 STEP20 [--limit 300] [--runs FOLDER]

DATA holds the published sets as the tables name them. Two commands run side by side, each on one thread;
every command's minutes and the tokens that shared prompts saved are printed, and the minutes of all.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TARGET = 40.0  # minutes
SAVED = re.compile(r"(\d+) tokens asked, (\d+) computed")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument(
        "--aligned", nargs="*", default=[], help="models of one `solon align`, in order of their steps"
    )
    parser.add_argument("--limit", type=int, default=300, help="items of each set")
    parser.add_argument("--runs", type=Path, help="a folder that is not there yet; else a temporary one")
    options = parser.parse_args()
    if options.runs is not None and options.runs.exists():
        sys.exit(f"{options.runs} is there already: what it holds would be read back instead of measured")
    options.runs = options.runs or Path(tempfile.mkdtemp(prefix="evaluations"))
    data: Path = options.data
    personas = sorted((data / "anthropic_evals/persona").glob("*.jsonl.gz"))[:10]
    nq, aqua, mmlu = (
        data / "nq_open/NQ-open.dev.jsonl.gz",
        data / "zero_shot_cot_sets/AQuA/test.json.gz",
        data / "mmlu/test.tar.gz",
    )
    bias = [data / "bbq/Age.jsonl.gz", data / "bbq/Religion.jsonl.gz", data / "winogender/templates.tsv"]
    sets = [mmlu, *bias, data / "globalopinionqa/rows.jsonl.gz", aqua, nq, *personas]
    limit = ["--limit", str(options.limit), "--runs", str(options.runs)]
    before_and_after = [
        mmlu,
        bias[0],
        data / "constitutional_ai/evals",
        personas[-1],
        *(
            data / "anthropic_evals/advanced-ai-risk/human_generated_evals" / f"{name}.jsonl.gz"
            for name in ("power-seeking-inclination", "survival-instinct")
        ),
    ]
    runs = ["--runs", str(options.runs)]
    aligned = (
        [["compare", "smollm2", *options.aligned, "--on", *map(str, before_and_after), *limit]]
        if options.aligned
        else []
    )
    queues = [
        [
            ["measure", *map(str, sets), "--model", "smollm2", *limit],
            ["run", "sycophancy", "smollm2", "--questions-from", str(aqua), "--problems", "254", *runs],
            *aligned,
        ],
        [
            ["measure", *map(str, sets), "--model", "gemma3-270m", *limit],
            ["run", "sycophancy", "gemma3-270m", "--questions-from", str(aqua), "--problems", "254", *runs],
            [
                *(
                    "run",
                    "know_what_they_know",
                    "smollm2",
                    "--tasks",
                    str(nq),
                    "--choice-sets",
                    str(mmlu),
                    *runs,
                ),
                *("--questions", "120", "--samples", "20"),
            ],
        ],
    ]
    began = time.monotonic()
    with ThreadPoolExecutor(len(queues)) as pool:
        done = [
            row
            for rows in pool.map(lambda queue: [timed(command) for command in queue], queues)
            for row in rows
        ]
    # reads back what was measured
    done.append(timed(["compare", "smollm2", "gemma3-270m", "--on", *map(str, sets), *limit]))
    minutes = (time.monotonic() - began) / 60
    print("\n| command | minutes | tokens asked | computed | saved |\n|---|---|---|---|---|")
    for name, own, asked, computed in done:
        print(
            f"| {name} | {own:.1f} | {asked or ''} | {computed or ''} | "
            f"{f'{asked / computed:.1f}x' if computed else ''} |"
        )
    print(f"\n{minutes:.1f} minutes in all; target {TARGET:.0f}: {'met' if minutes <= TARGET else 'MISSED'}")


def timed(command: list[str]) -> tuple[str, float, int, int]:
    """(what ran, minutes, tokens asked, tokens computed). Ends the benchmark where a command fails."""
    began = time.monotonic()
    told = subprocess.run(
        [sys.executable, "-m", "solon", *command],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    name = " ".join(word for word in command[:3] if "/" not in word)
    if told.returncode:
        sys.exit(f"solon {name} ended with {told.returncode}: {told.stderr[-2000:]}")
    counts = [(int(asked), int(computed)) for asked, computed in SAVED.findall(told.stderr)]
    minutes = (time.monotonic() - began) / 60
    print(f"{name}: {minutes:.1f} minutes", flush=True)
    return name, minutes, sum(asked for asked, _ in counts), sum(computed for _, computed in counts)


if __name__ == "__main__":
    main()
