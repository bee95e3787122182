"""Training speed and memory beside TRL on the same hh-rlhf rows, batch 8, bf16, in one process, all weights
of SmolLM2.

    python -m benchmarks.training ROWS.jsonl.gz [--steps 2] [--runs 5] [--json]

Both work through the same rows. Supervised: prompt masked, reply learned; tokens a second count every token
once. Preference: comparisons, pairs a second. RLOO: one round is 8 prompts, 4 replies each of 48 tokens,
sampled, rewarded by a rule, and learned; samples a second. The peer runs as it comes (autocast over fp32
weights, gradient checkpointing on), its time taken from the first step's begin to the last one's end. Memory
is the peak of a process of its own that runs one side alone. Needs `pip install 'solon[parity]'`.
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
    TrainerCallback,
)
from transformers.utils import logging
from trl import RewardConfig, RewardTrainer, RLOOConfig, RLOOTrainer, SFTConfig, SFTTrainer

from benchmarks.sidebyside import Ratio, alternating, multiply_limit, options_of, told
from benchmarks.training_ours import LONGEST, RATE, SIZE, ours, peak_gib, rows_of, rule
from solon.alignment.preference import comparison_loss
from solon.models.huggingface import export
from solon.models.load import load_open
from solon.models.scalar import ScalarModel
from solon.models.scoring import Group
from solon.models.torch_model import TorchModel
from solon.training.fit import reply_cross_entropy
from solon.words.conversation import Conversation

TARGETS = {"supervised": 4.0, "preference": 3.0, "rloo": 4.0}


# the peer's


class Clock(TrainerCallback):
    """From the first step's begin to the last one's end."""

    def __init__(self) -> None:
        self.began, self.ended = float("inf"), 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.began = min(self.began, time.perf_counter())

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.ended = time.perf_counter()


def usual(steps: int, folder: str, **more: Any) -> dict[str, Any]:
    return {
        "output_dir": folder,
        "per_device_train_batch_size": SIZE,
        "max_steps": steps,
        "learning_rate": RATE,
        "bf16": True,
        "use_cpu": True,
        "report_to": [],
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "seed": 0,
        **more,
    }


def their_supervised(
    folder: Path, model: TorchModel, rows: Sequence[tuple[Conversation, Group]], steps: int, scratch: str
) -> Any:
    data = [
        {"input_ids": list(prompt + replies[0]), "completion_mask": [0] * len(prompt) + [1] * len(replies[0])}
        for _, (prompt, replies) in rows
    ]
    config = SFTConfig(**usual(steps, scratch, max_length=LONGEST, completion_only_loss=True))
    return SFTTrainer(
        loaded(AutoModelForCausalLM, folder),
        config,
        train_dataset=Dataset.from_list(data),
        processing_class=model.dialogue.tokenizer,
    )


def their_preference(
    folder: Path, model: TorchModel, rows: Sequence[tuple[Conversation, Group]], steps: int, scratch: str
) -> Any:
    data = [
        {"chosen_ids": list(prompt + better), "rejected_ids": list(prompt + worse)}
        for _, (prompt, (better, worse)) in rows
    ]
    module = loaded(AutoModelForSequenceClassification, folder, num_labels=1)
    tokenizer = copy.deepcopy(model.dialogue.tokenizer)
    # its own is the end of a turn, which the peer would not read then
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(0)
    module.config.pad_token_id = 0
    config = RewardConfig(**usual(steps, scratch, max_length=LONGEST))
    return RewardTrainer(module, config, train_dataset=Dataset.from_list(data), processing_class=tokenizer)


def their_rloo(
    folder: Path, model: TorchModel, rows: Sequence[tuple[Conversation, Group]], steps: int, scratch: str
) -> Any:
    data = [{"prompt": model.dialogue.tokenizer.decode(prompt)} for _, (prompt, _) in rows]
    config = RLOOConfig(
        **usual(
            steps,
            scratch,
            gradient_accumulation_steps=4,
            num_generations=4,
            max_completion_length=48,
            beta=0.001,
            temperature=1.0,
        )
    )
    reward: Callable[..., list[float]] = lambda completions, **_: rule(completions)  # noqa: E731
    module = loaded(AutoModelForCausalLM, folder)
    return RLOOTrainer(
        module,
        reward,
        config,
        train_dataset=Dataset.from_list(data),
        processing_class=model.dialogue.tokenizer,
    )


def loaded(kind: Any, folder: Path, **more: Any) -> PreTrainedModel:
    found: PreTrainedModel = kind.from_pretrained(folder, dtype=torch.float32, **more)
    return found


def train(trainer: Any) -> float:
    """Seconds of the steps of one run."""
    clock = Clock()
    trainer.add_callback(clock)
    trainer.train()
    trainer.remove_callback(clock)
    return clock.ended - clock.began


THEIRS = {"supervised": their_supervised, "preference": their_preference, "rloo": their_rloo}


def worked(task: str, rows: Sequence[tuple[Conversation, Group]], steps: int) -> tuple[float, str]:
    """How much one run does, on average over batches, and in what."""
    if task == "supervised":
        return steps * SIZE * sum(len(prompt) + len(replies[0]) for _, (prompt, replies) in rows) / len(
            rows
        ), "tokens"
    return (steps * SIZE, "pairs") if task == "preference" else (steps * SIZE * 4, "samples")


def peak(task: str, side: str, options: Any, folder: Path) -> float:
    """GiB of a process that runs one side for one run, weights and libraries included."""
    command = ["benchmarks.training_ours", task, options.rows]
    if side == "peer":
        command = ["benchmarks.training", options.rows, "--alone", task, "--folder", str(folder)]
    command += ["--model", options.model, "--steps", str(options.steps)]
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1])["peak_gib"])


def largest_gap(
    model: TorchModel, folder: Path, rows: Sequence[tuple[Conversation, Group]], scratch: str
) -> float:
    """Of the supervised and the preference loss of one batch of eight in fp32, the head set to the same
    numbers.
    """
    some, gaps = rows[:SIZE], []
    trainer = their_supervised(folder, model, some, 1, scratch)
    batch = trainer.data_collator([trainer.train_dataset[place] for place in range(SIZE)])
    own = model.unfrozen()
    total = reply_cross_entropy(own.module)([(prompt, replies[0]) for _, (prompt, replies) in some])
    with torch.no_grad():
        theirs = trainer.model(**batch).loss
    gaps.append(abs(theirs.item() - total.loss.item() / total.weight))
    other = their_preference(folder, model, some, 1, scratch)
    scalar = ScalarModel(own.module)
    with torch.no_grad():
        scalar.head.weight.copy_(other.model.score.weight)
        batch = other.data_collator([other.train_dataset[place] for place in range(SIZE)])
        theirs = other.compute_loss(other.model, batch)
        total = comparison_loss(scalar)([(group, 1.0, 1.0) for _, group in some])
    gaps.append(abs(theirs.item() - total.loss.item() / total.weight))
    return max(gaps)


def main() -> None:
    options = options_of(__doc__, positional=("rows",), words=("alone", "tasks", "folder"), steps=2)
    logging.set_verbosity_error()
    model = load_open(options.model, precision="bfloat16")
    # every run of either side works through the same rows once
    rows = rows_of(options.rows, model)[: options.steps * SIZE]
    with tempfile.TemporaryDirectory() as scratch:
        if options.alone:
            model.module.to("meta")  # only its tokenizer is wanted
            train(THEIRS[options.alone](Path(options.folder), model, rows, options.steps, scratch))
            print(json.dumps({"peak_gib": peak_gib()}))
            return
        folder = Path(scratch) / "start"
        export(model, folder)
        found: list[Ratio] = []
        more: dict[str, object] = {}
        parameters, limit = sum(p.numel() for p in model.module.trunk.parameters()), multiply_limit()
        for task in options.tasks.split(",") if options.tasks else TARGETS:
            call, trainer = (
                ours(task, model, rows, options.steps),
                THEIRS[task](folder, model, rows, options.steps, scratch),
            )
            ratio = alternating(task, call, lambda trainer=trainer: train(trainer), runs=options.runs)
            amount, unit = worked(task, rows, options.steps)
            sizes = [peak(task, side, options, folder) for side in ("ours", "peer")]
            met = "met" if ratio.times >= TARGETS[task] else "MISSED"
            rates = f"{amount / ratio.ours:.2f} {unit}/s, the peer {amount / ratio.peer:.2f}"
            more[task] = (
                f"target {TARGETS[task]}x {met}; {rates}; peak {sizes[0]:.1f} GiB, the peer {sizes[1]:.1f}"
            )
            if task == "supervised":
                more[task] = (
                    f"{more[task]}; {3 * parameters * amount / ratio.ours / limit:.0%} of the machine's "
                    "multiply-adds"
                )
            found.append(ratio)
            del call, trainer
        exact = load_open(options.model, precision="float32")
        export(exact, Path(scratch) / "exact")
        more["exact"] = (
            f"losses differ by {largest_gap(exact, Path(scratch) / 'exact', rows, scratch):.1e} nats at "
            "most (fp32)"
        )
        told(found, more, as_json=options.json)


if __name__ == "__main__":
    main()
