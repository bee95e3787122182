"""Whole models and one whole job on an accelerator. Run where there is one: make test-gpu."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from solon.errors import InputError
from solon.models.adapters import Lora
from solon.models.base import Sample
from solon.models.load import load_open
from solon.models.scalar import ScalarModel
from solon.models.scoring import score
from solon.models.torch_model import TorchModel
from solon.training.improve import RLConfig, improve
from solon.training.optimiser import Plan
from solon.words.conversation import Conversation

DEVICE = "cuda"
TEMPLATE = (
    "{% for turn in messages %}<s>{{ turn.role }} {{ turn.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant {% endif %}"
)
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no accelerator here"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama with a byte-level tokenizer and a chat template, as a Hugging Face folder."""
    path = tmp_path_factory.mktemp("tiny")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1000,
        special_tokens=["<pad>", "</s>", "<s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train(
        [str(path) for path in (Path(__file__).parents[1] / "solon/data/files").glob("*.txt")], trainer
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="</s>",
        bos_token="<s>",
        pad_token="<pad>",
        chat_template=TEMPLATE,
    ).save_pretrained(path)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=8192,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(path)
    return path


def test_a_folder_stands_on_the_accelerator_and_scores_what_it_samples(folder: Path) -> None:
    samples_and_scores(load_open(str(folder)))


@pytest.mark.model
def test_a_real_model_samples_and_scores_itself() -> None:
    try:
        model = load_open("smollm2")
    except InputError as error:  # on a machine without a package index
        pytest.skip(str(error))
    samples_and_scores(model)


def samples_and_scores(model: TorchModel) -> None:
    assert model.module.device.type == DEVICE and next(model.module.parameters()).dtype is torch.bfloat16
    prompts = [Conversation().human(f"What is {number} plus one?") for number in range(40)]
    samples = [group[0] for group in model.sample(prompts, max_tokens=32, seed=0)]
    requests = [
        (model.dialogue.prompt(prompt), own.tokens) for prompt, own in zip(prompts, samples, strict=True)
    ]
    for sample, logprobs in zip(samples, score(model.module, requests), strict=True):
        torch.testing.assert_close(logprobs, torch.tensor(sample.logprobs), atol=0.3, rtol=0.05)


@pytest.mark.parametrize("method", ["rloo", "ppo"])
def test_a_policy_climbs_its_reward(folder: Path, method: Any) -> None:
    reference = load_open(str(folder), precision="float32")
    policy = reference.unfrozen()

    def low_tokens(prompts: Sequence[Conversation], samples: Sequence[Sample]) -> list[float]:
        return [sum(token < 500 for token in own.tokens) / len(own.tokens) for own in samples]

    plan = Plan(12, 3e-3, bf16=True)
    config = RLConfig(plan, method=method, prompts=4, samples=8, max_tokens=8)
    prompts = [Conversation().human(f"Say {number}.") for number in range(8)]
    critic = ScalarModel(reference.adapted(Lora(8), seed=1).module) if method == "ppo" else None
    steps = list(
        improve(policy, prompts, low_tokens, reference=reference, critic=critic, config=config, seed=0)
    )
    rewards = [sum(own.reward for own in step.rollouts) / len(step.rollouts) for step in steps]
    assert sum(rewards[-3:]) > sum(rewards[:3]) + 0.3


def test_the_whole_job_ends_on_a_report(folder: Path, tmp_path: Path) -> None:
    main: Callable[[list[str]], int] = pytest.importorskip("solon.cli", reason="tyro is not installed").main
    sizes = {"train": 8, "held-out": 8, "max-tokens": 16, "batch": 8, "policy-steps": 2, "policy-prompts": 4}
    options = [word for name, size in sizes.items() for word in (f"--{name}", str(size))]
    assert main(["align", str(folder), "--runs", str(tmp_path), *options]) in (0, None)
    assert list(tmp_path.glob("*/*/report.html"))
