"""Our side of `benchmarks.training`, alone where its peak memory is measured: nothing of the peer is imported
here.

python -m benchmarks.training_ours TASK ROWS.jsonl.gz [--steps 2] [--model smollm2]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from solon.alignment.preference import LabelledPair, comparison_loss
from solon.data.published import read_comparisons
from solon.models.base import Sample, Tokens
from solon.models.load import load_open
from solon.models.scalar import ScalarModel
from solon.models.scoring import Group, group_length
from solon.models.torch_model import TorchModel
from solon.training.fit import fit, micro_batches, reply_cross_entropy, shuffled_batch
from solon.training.improve import RLConfig, improve
from solon.training.optimiser import Plan
from solon.words.conversation import Conversation

SIZE = 8
RATE = 1e-6  # small, so that a hundred steps leave the work as it is
LONGEST = 1024  # tokens of a prompt and the longer of its replies: where the peer would cut
MICRO = 1024  # tokens of a micro-batch: a longer one is hardly faster here


def rows_of(path: str, model: TorchModel) -> list[tuple[Conversation, Group]]:
    """The prompt and both replies of every comparison of at most `LONGEST` tokens, the better one first."""
    found = []
    for comparison in read_comparisons(Path(path)).rows:
        better, worse = (
            (comparison.first, comparison.second)
            if comparison.p_first > 0.5
            else (comparison.second, comparison.first)
        )
        replies = [
            model.dialogue.reply(comparison.prompt, text) + model.dialogue.end for text in (better, worse)
        ]
        group = (model.dialogue.prompt(comparison.prompt), replies)
        if len(group[0]) + max(map(len, replies)) <= LONGEST:
            found.append((comparison.prompt, group))
    return found


def rule(texts: Sequence[str]) -> list[float]:
    """A reward that costs nothing: the share of vowels."""
    return [sum(letter in "aeiou" for letter in text) / max(len(text), 1) for text in texts]


def our_supervised(model: TorchModel, rows: Sequence[tuple[Conversation, Group]], steps: int) -> None:
    examples = [(prompt, replies[0]) for _, (prompt, replies) in rows]

    def batch(number: int) -> list[list[tuple[Tokens, Tokens]]]:
        return micro_batches(
            shuffled_batch(examples, size=SIZE, seed=0, number=number),
            lambda example: len(example[0]) + len(example[1]),
            tokens=MICRO,
        )

    list(fit(model.module, batch, reply_cross_entropy(model.module), plan=Plan(steps, RATE, bf16=True)))


def our_preference(scalar: ScalarModel, rows: Sequence[tuple[Conversation, Group]], steps: int) -> None:
    labelled = [(group, 1.0, 1.0) for _, group in rows]

    def batch(number: int) -> list[list[LabelledPair]]:
        return micro_batches(
            shuffled_batch(labelled, size=SIZE, seed=0, number=number),
            lambda row: group_length(row[0]),
            tokens=MICRO,
        )

    list(fit(scalar, batch, comparison_loss(scalar), plan=Plan(steps, RATE, bf16=True)))


def our_rloo(
    policy: TorchModel, reference: TorchModel, rows: Sequence[tuple[Conversation, Group]], steps: int
) -> None:
    def reward(prompts: Sequence[Conversation], samples: Sequence[Sample]) -> list[float]:
        return rule([sample.text for sample in samples])

    config = RLConfig(Plan(steps, RATE, bf16=True), prompts=SIZE, samples=4, max_tokens=48, micro_tokens=4096)
    list(improve(policy, [prompt for prompt, _ in rows], reward, reference=reference, config=config, seed=0))


def ours(
    task: str, model: TorchModel, rows: Sequence[tuple[Conversation, Group]], steps: int
) -> Callable[[], None]:
    free = model.unfrozen()
    if task == "supervised":
        return lambda: our_supervised(free, rows, steps)
    if task == "preference":
        scalar = ScalarModel(free.module)
        return lambda: our_preference(scalar, rows, steps)
    return lambda: our_rloo(free, model, rows, steps)


def peak_gib() -> float:
    """Of this process so far, libraries included."""
    high = next(
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")
    )
    return int(high.split()[1]) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=("supervised", "preference", "rloo"))
    parser.add_argument("rows")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--model", default="smollm2")
    options = parser.parse_args()
    model = load_open(options.model, precision="bfloat16")
    call = ours(options.task, model, rows_of(options.rows, model)[: options.steps * SIZE], options.steps)
    if options.task != "rloo":  # whose reference it is
        model.module.to("meta")
    call()
    print(json.dumps({"peak_gib": peak_gib()}))


if __name__ == "__main__":
    main()
