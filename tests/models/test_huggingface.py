"""Every path of a Hugging Face body against one plain forward pass, on tiny random models of several
architectures.
"""

import random
from typing import Any
from unittest import mock

import pytest
import torch
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from solon.models.adapters import Lora, add_adapters
from solon.models.backbones import llama
from solon.models.backbones.huggingface import HuggingFaceBackbone
from solon.models.base import Tokens
from solon.models.sampling import Request, SamplingParams, generate
from solon.models.scoring import reply_logprobs, score

SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 2,
}


def made(kind: str) -> HuggingFaceBackbone:
    torch.manual_seed(0)
    if kind == "gemma3":
        layers = ["sliding_attention", "full_attention"] * 2
        module: PreTrainedModel = Gemma3ForCausalLM(
            Gemma3TextConfig(**SIZES, sliding_window=8, layer_types=layers)
        )
    elif kind == "qwen2":
        module = Qwen2ForCausalLM(Qwen2Config(**SIZES))
    else:
        module = LlamaForCausalLM(LlamaConfig(**SIZES))
    for parameter in module.parameters():
        if parameter.ndim == 2:
            parameter.data *= 4  # far from flat
    body = HuggingFaceBackbone(module.requires_grad_(False).eval())
    if kind == "llama with adapters":
        add_adapters(body.trunk, Lora(4, 8.0), seed=0)
        for name, parameter in body.named_parameters():
            if name.endswith("up_OR"):
                torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(len(name)))
    return body


KINDS = ["llama", "llama with adapters", "gemma3", "qwen2"]


def plain(body: HuggingFaceBackbone, prompt: Tokens, reply: Tokens) -> torch.Tensor:
    """The model's own forward pass over one sequence."""
    tokens = torch.tensor([prompt + reply])
    with torch.no_grad():
        logprobs = body.module(input_ids=tokens, use_cache=False).logits[0].float().log_softmax(-1)
    return logprobs[len(prompt) - 1 : -1].gather(1, tokens[0, len(prompt) :, None])[:, 0]


def words(rng: random.Random, count: int) -> Tokens:
    return tuple(rng.choices(range(3, 64), k=count))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("row_tokens", [8, 1024])
def test_scores_behind_prefixes_and_under_windows(kind: str, row_tokens: int) -> None:
    rng, body = random.Random(1), made(kind)
    header = words(rng, 25)
    prompts = [header + words(rng, rng.randint(1, 12)) for _ in range(5)] + [words(rng, 30)]
    requests = [(prompt, words(rng, rng.randint(1, 6))) for prompt in prompts for _ in range(3)]
    with mock.patch.multiple(
        "solon.models.scoring", ROW_TOKENS=row_tokens, SHARED_TOKENS=4, PACKED_TOKENS=16
    ):
        found = score(body, requests)
    for (prompt, reply), logprobs in zip(requests, found, strict=True):
        torch.testing.assert_close(logprobs, plain(body, prompt, reply), atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_samples_from_shared_blocks_have_the_models_own_log_probabilities(kind: str) -> None:
    rng, body = random.Random(2), made(kind)
    header = words(rng, 21)
    prompts = [header + words(rng, rng.randint(1, 9)) for _ in range(4)] + [words(rng, 5)]
    requests = [
        Request(prompt, (number, 100 + number), lambda tokens: False) for number, prompt in enumerate(prompts)
    ]
    rules = SamplingParams(12, 1.0, 1.0, frozenset({1}))
    with mock.patch("solon.models.sampling.PREFILL", 8):
        for (number, _), row, _ in generate(body, requests, rules):
            wanted = plain(body, prompts[number], tuple(row.tokens))
            torch.testing.assert_close(torch.tensor(row.logprobs), wanted, atol=1e-4, rtol=0)


def test_the_fused_step_is_for_llama_without_hooks() -> None:
    body = made("llama")
    assert llama.supports(body.module)
    assert not llama.supports(made("qwen2").module)
    hook = body.module.model.layers[1].register_forward_hook(lambda module, given, output: None)
    assert not llama.supports(body.module)
    hook.remove()
    assert llama.supports(body.module)


def test_frequencies_never_depend_on_the_length_of_a_pass() -> None:
    """Long-rope models change theirs beyond a length, so that a prompt in parts would differ: only up to
    there is used.
    """
    config = Phi3Config(
        **{
            **SIZES,
            "max_position_embeddings": 128,
            "original_max_position_embeddings": 64,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "original_max_position_embeddings": 64,
                "short_factor": [1.0] * 4,
                "long_factor": [2.0] * 4,
            },
        }
    )
    assert HuggingFaceBackbone(Phi3ForCausalLM(config)).context == 64


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_rows_of_trees_have_the_gradients_of_single_rows(kind: str) -> None:
    """And so have those whose activations are computed again."""
    groups = [((5, 6, 7, 8), (9, 10)), ((5, 6), (12, 13, 14)), (tuple(range(3, 30)), (41, 42))]
    bodies = [made(kind).requires_grad_(True) for _ in range(3)]
    bodies[2].recompute()
    for prompt, reply in groups:
        tokens = torch.tensor([prompt + reply])
        logprobs = bodies[0].module(input_ids=tokens).logits[0].float().log_softmax(-1)
        places = torch.arange(len(prompt) - 1, len(prompt) + len(reply) - 1)
        (-logprobs[places, torch.tensor(reply)].sum()).backward()
    for body in bodies[1:]:
        (-torch.cat(reply_logprobs(body, [(prompt, [reply]) for prompt, reply in groups])).sum()).backward()
        for wanted, found in zip(bodies[0].parameters(), body.parameters(), strict=True):
            if wanted.grad is not None:
                torch.testing.assert_close(found.grad, wanted.grad, atol=1e-4, rtol=1e-4)
