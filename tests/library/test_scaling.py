"""Formulas of memory against real tensors."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.scale import page
from solon.models.adapters import Lora, add_adapters
from solon.models.backbones.huggingface import HuggingFaceBackbone
from solon.scaling.memory import (
    SMOLLM2_135M,
    Architecture,
    Layout,
    activation_memory,
    cache_memory,
    layer_activation_memory,
    training_memory,
)
from solon.training.fit import reply_cross_entropy
from tests.paths import ROOT

SMALL = Architecture(layers=3, width=64, intermediate=160, heads=4, kv_heads=2, vocabulary=96)


def body(shape: Architecture = SMALL) -> HuggingFaceBackbone:
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        tie_word_embeddings=shape.tied,
        max_position_embeddings=512,
    )
    torch.manual_seed(0)
    return HuggingFaceBackbone(LlamaForCausalLM(config).eval())


def test_parameters_are_those_of_the_real_model() -> None:
    assert SMALL.parameters == sum(parameter.numel() for parameter in body().parameters())
    assert SMOLLM2_135M.parameters == 134_515_008
    model = body().requires_grad_(False)
    add_adapters(model.trunk, Lora(4), seed=0)
    assert SMALL.adapters(4) == sum(
        parameter.numel() for parameter in model.parameters() if parameter.requires_grad
    )


def kept_bytes(model: HuggingFaceBackbone, rows: int, length: int) -> int:
    """Bytes that one step keeps for its backward pass, weights and what is kept of the head left out, storage
    by storage.
    """
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    found: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if (
            storage.data_ptr() not in weights
            and tensor.is_floating_point()
            and tensor.shape[-2:] not in shapes
        ):
            found[storage.data_ptr()] = storage.nbytes()
            held.append(tensor)
        return tensor

    held: list[torch.Tensor] = []
    # bf16 copies of weights
    shapes = {parameter.shape[::order] for parameter in model.parameters() for order in (1, -1)}
    examples = [(tuple(range(3, 3 + length - 2)), (5, 6)) for _ in range(rows)]
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16),
    ):
        reply_cross_entropy(model)(examples)
    return sum(found.values())


def test_activations_are_what_a_step_keeps() -> None:
    rows, length = 6, 80
    real = kept_bytes(body(), rows, length)
    layout = Layout(1, "full", tokens=rows * length, length=length, recompute=False)
    assert real == pytest.approx(rows * length * activation_memory(SMALL, layout, 4), rel=0.1)
    assert real > rows * length * layer_activation_memory(SMALL, length, 4) * 2


def test_recomputing_keeps_the_stream_alone() -> None:
    model = body()
    model.recompute()
    rows, length = 6, 80
    real = kept_bytes(model, rows, length)
    # and the last norm's
    assert real == pytest.approx(rows * length * 4 * SMALL.width * (SMALL.layers + 1), rel=0.1)


def test_sharding_divides_what_trains_and_nothing_else() -> None:
    one, eight = (training_memory(SMALL, Layout(devices, "full")) for devices in (1, 8))
    for name in ("weights", "gradients", "moments"):
        assert eight[name] == one[name] / 8
    assert eight["activations"] == one["activations"]
    assert one["weights"] + one["gradients"] + one["moments"] == 16 * SMALL.parameters
    lora = training_memory(SMALL, Layout(1, "lora", rank=4, models=3))
    assert lora["frozen"] == 2 * SMALL.parameters
    assert lora["moments"] == 8 * 3 * SMALL.adapters(4)


def test_the_cache_is_as_large_as_said() -> None:
    model = body().to(torch.bfloat16)
    _, kept = model.prefill(torch.arange(3, 40))
    assert sum(part.nbytes for pair in kept for part in pair) == cache_memory(SMALL, rows=1, positions=37)


def test_the_page_holds_what_the_formulas_say() -> None:
    """docs/scale.md is written by `python -m benchmarks.scale --write`."""
    text = (ROOT / "docs" / "scale.md").read_text()
    for table in page():
        assert table in text
