"""All that needs an accelerator, in one go of under ten minutes: its tests, then short benchmarks of a random
model of SmolLM2's shape (135M parameters) in bf16, each part with a time limit of its own, and a table.

    python -m benchmarks.gpu [--tests] [--only sampling,scoring] [--runs 3] [--dry]

Each figure is the median of alternating runs after one that is not counted. `--dry` runs tiny sizes on the
CPU, to check this script and no more. Exit code 1: a part failed. 2: there is no accelerator.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

import torch

from benchmarks.gpu_parts import PARTS, sizes_of

FILES = ("tests/test_gpu.py", "tests/test_gpu_models.py")
ADDED = "addopts=-q -rs --durations=10 --tb=short --show-capture=no --strict-markers"
TEST_COMMAND = ["-m", "pytest", *FILES, "-m", "gpu", "-p", "no:cacheprovider", "-o", ADDED]
TEST_SECONDS, PART_SECONDS = 300, 60  # under ten minutes together


def run_part(command: Sequence[str], seconds: float) -> tuple[str, list[list[str]], float]:
    """What became of a part, the lines of its table, and its seconds. What it prints is shown as it comes."""
    began, lines = time.perf_counter(), list[list[str]]()
    print(f"\n$ python {' '.join(command)}", flush=True)
    process = subprocess.Popen(
        [sys.executable, "-u", *command], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    # with what it has started: compilers hold its output open
    timer = threading.Timer(seconds, os.killpg, (process.pid, signal.SIGKILL))
    timer.start()
    for line in process.stdout or ():
        if line.startswith('{"line"'):
            lines.append(json.loads(line)["line"])
            print("  ".join(lines[-1]), flush=True)
        else:
            print(line, end="", flush=True)
    code = process.wait()
    timer.cancel()
    took = time.perf_counter() - began
    if code == 0:
        return "ok", lines, took
    return (
        "FAILED: " + (f"no end in {seconds:.0f} s" if took >= seconds else f"exit code {code}"),
        lines,
        took,
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tests", action="store_true", help="run the tests marked gpu first")
    parser.add_argument(
        "--only", default=",".join(PARTS), help="benchmarks, with commas between; none for none"
    )
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--dry", action="store_true", help="tiny sizes on the CPU")
    parser.add_argument("--part", choices=list(PARTS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not (options.dry or torch.cuda.is_available()):
        print(
            "there is no accelerator: torch.cuda.is_available() is False (--dry checks this script on a CPU)"
        )
        return 2
    if options.part:
        for line in PARTS[options.part](sizes_of(options.dry, options.runs)):
            print(json.dumps({"line": line.as_list()}), flush=True)
        return 0
    own = ["-m", "benchmarks.gpu", "--runs", str(options.runs), *(["--dry"] if options.dry else []), "--part"]
    parts = {"tests": (TEST_COMMAND, TEST_SECONDS)} if options.tests else {}
    parts |= {name: ([*own, name], PART_SECONDS) for name in options.only.split(",") if name in PARTS}
    results = {name: run_part(*part) for name, part in parts.items()}
    device = "CPU, dry" if options.dry else torch.cuda.get_device_name()
    print(f"\n{device}, torch {torch.__version__}, bf16, medians of {options.runs} alternating runs\n")
    print("| workload | ours | other | the other is | ours over it | notes |\n|---|---|---|---|---|---|")
    for _, lines, _ in results.values():
        for line in lines:
            print(f"| {' | '.join(line)} |")
    print()
    for name, (outcome, _, seconds) in results.items():
        print(f"{name}: {outcome}, {seconds:.0f} s")
    return int(any(outcome != "ok" for outcome, _, _ in results.values()))


if __name__ == "__main__":
    sys.exit(main())
