"""A run's data sets in the formats of other trainers, TRL, OpenRLHF and verl, with a launch script for each.

There are three sets: `supervised` (conversations for fine-tuning), `comparisons` (chosen and rejected
replies) and `prompts` (for reinforcement learning). Numbers in a launch script that the run does not
determine are starting points, and the script says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from solon.data.rows import to_messages
from solon.data.tables import write_rows
from solon.words.comparison import Comparison
from solon.words.conversation import Conversation


@dataclass(frozen=True, slots=True)
class TrainingData:
    """The data sets, the longest reply (tokens) and the KL coefficient. `comparisons` must hold no ties,
    which have no chosen side.
    """

    supervised: Sequence[Conversation]
    comparisons: Sequence[Comparison]
    prompts: Sequence[Conversation]
    max_tokens: int
    kl_coefficient: float


def to_trl(data: TrainingData, folder: Path) -> None:
    """Writes a folder of conversational JSONL for each set, and `launch.sh` (TRL 1.16: `trl sft`, `trl
    reward`, `trl rloo`).
    """
    sides = [_sides(comparison) for comparison in data.comparisons]
    _rows(
        folder / "supervised" / "train.jsonl",
        [{"messages": to_messages(conversation)} for conversation in data.supervised],
    )
    _rows(
        folder / "comparisons" / "train.jsonl",
        [
            {"prompt": to_messages(prompt), "chosen": _said(chosen), "rejected": _said(rejected)}
            for prompt, chosen, rejected in sides
        ],
    )
    _rows(folder / "prompts" / "train.jsonl", [{"prompt": to_messages(prompt)} for prompt in data.prompts])
    _launch(
        folder,
        f"""
# 1. imitate
trl sft --model_name_or_path "$MODEL" --dataset_name supervised --output_dir out/supervised --assistant_only_loss false \\
    --learning_rate 1e-5 --num_train_epochs 1

# 2. a preference model (or the one that was exported: PREFERENCE=../preference_model)
trl reward --model_name_or_path "$MODEL" --dataset_name comparisons --output_dir out/preference \\
    --learning_rate 1e-5 --num_train_epochs 1

# 3. improve
trl rloo --model_name_or_path out/supervised --reward_model_name_or_path "${{PREFERENCE:-out/preference}}" --dataset_name prompts \\
    --output_dir out/policy --max_completion_length {data.max_tokens} --num_generations 4 --beta {data.kl_coefficient} \\
    --temperature 1.0 --learning_rate 1e-6
""",
    )


def to_openrlhf(data: TrainingData, folder: Path) -> None:
    """Writes JSONL with chat messages, and `launch.sh` (OpenRLHF: `train_sft`, `train_rm`,
    `train_ppo_ray`).
    """
    sides = [_sides(comparison) for comparison in data.comparisons]
    _rows(
        folder / "supervised.jsonl",
        [{"messages": to_messages(conversation)} for conversation in data.supervised],
    )
    chosen = [
        {"chosen": [*to_messages(prompt), *_said(better)], "rejected": [*to_messages(prompt), *_said(worse)]}
        for prompt, better, worse in sides
    ]
    _rows(folder / "comparisons.jsonl", chosen)
    _rows(folder / "prompts.jsonl", [{"context_messages": to_messages(prompt)} for prompt in data.prompts])
    _launch(
        folder,
        f"""
# 1. imitate
deepspeed --module openrlhf.cli.train_sft --pretrain "$MODEL" --dataset json@supervised.jsonl --input_key messages \\
    --apply_chat_template --multiturn --save_path out/supervised --learning_rate 5e-6 --max_epochs 1 --zero_stage 3 --bf16

# 2. a preference model (or the one that was exported: PREFERENCE=../preference_model)
deepspeed --module openrlhf.cli.train_rm --pretrain "$MODEL" --dataset json@comparisons.jsonl --chosen_key chosen --rejected_key rejected \\
    --apply_chat_template --save_path out/preference --learning_rate 9e-6 --max_epochs 1 --zero_stage 3 --bf16

# 3. improve, on a Ray cluster
python3 -m openrlhf.cli.train_ppo_ray --pretrain out/supervised --reward_pretrain "${{PREFERENCE:-out/preference}}" \\
    --prompt_data json@prompts.jsonl --input_key context_messages --apply_chat_template --save_path out/policy \\
    --advantage_estimator rloo --n_samples_per_prompt 4 --init_kl_coef {data.kl_coefficient} --generate_max_len {data.max_tokens} \\
    --actor_num_nodes 1 --actor_num_gpus_per_node 8 --ref_num_nodes 1 --ref_num_gpus_per_node 8 \\
    --reward_num_nodes 1 --reward_num_gpus_per_node 8 --vllm_num_engines 4 --vllm_tensor_parallel_size 2 --colocate_all_models \\
    --actor_learning_rate 5e-7 --zero_stage 3 --bf16
""",
    )


def to_verl(data: TrainingData, folder: Path) -> None:
    """Writes Parquet, and `launch.sh` (verl: `fsdp_sft_trainer`, `main_ppo`). verl trains no preference
    model: the exported one is used.
    """
    _rows(
        folder / "supervised.parquet",
        [{"messages": to_messages(conversation)} for conversation in data.supervised],
    )
    rows = [
        {
            "data_source": "solon",
            "prompt": to_messages(prompt),
            "ability": "alignment",
            "reward_model": {"style": "model", "ground_truth": ""},
            "extra_info": {"index": index},
        }
        for index, prompt in enumerate(data.prompts)
    ]
    _rows(folder / "prompts.parquet", rows)
    _launch(
        folder,
        f"""
PREFERENCE="${{PREFERENCE:-../preference_model}}"

# 1. imitate
torchrun --nproc-per-node 8 -m verl.trainer.fsdp_sft_trainer data.train_files=supervised.parquet data.val_files=supervised.parquet \\
    data.multiturn.enable=true data.multiturn.messages_key=messages model.partial_pretrain="$MODEL" trainer.default_local_dir=out/supervised

# 2. improve (MODEL: the checkpoint of step 1, merged to a Hugging Face folder by verl.model_merger)
python3 -m verl.trainer.main_ppo algorithm.adv_estimator=rloo algorithm.use_kl_in_reward=true algorithm.kl_penalty=kl \\
    algorithm.kl_ctrl.kl_coef={data.kl_coefficient} data.train_files=prompts.parquet data.val_files=prompts.parquet \\
    data.train_batch_size=128 data.max_response_length={data.max_tokens} actor_rollout_ref.model.path="$MODEL" \\
    actor_rollout_ref.actor.optim.lr=1e-6 actor_rollout_ref.actor.use_kl_loss=false actor_rollout_ref.rollout.name=vllm \\
    actor_rollout_ref.rollout.n=4 reward_model.enable=true reward_model.model.path="$PREFERENCE" \\
    trainer.n_gpus_per_node=8 trainer.nnodes=1 trainer.default_local_dir=out/policy
""",
    )


WRITERS: dict[str, Callable[[TrainingData, Path], None]] = {
    "trl": to_trl,
    "openrlhf": to_openrlhf,
    "verl": to_verl,
}


def _sides(comparison: Comparison) -> tuple[Conversation, str, str]:
    better = comparison if comparison.p_first > 0.5 else comparison.swapped()
    return better.prompt, better.first, better.second


def _said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def _rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_rows(path, rows)


def _launch(folder: Path, commands: str) -> None:
    head = (
        "#!/usr/bin/env bash\n# Written by `solon export`. Learning rates, batch sizes and device "
        "counts are starting points, not the run's.\n"
    )
    path = folder / "launch.sh"
    path.write_text(head + 'set -euo pipefail\ncd "$(dirname "$0")"\nMODEL="${MODEL:-../model}"\n' + commands)
    path.chmod(0o755)
