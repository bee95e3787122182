"""What a training job needs in memory, device by device, in bytes; from formulas that tests hold against real
tensors.

The shape is Llama's: grouped-query attention, a gated MLP, RMS norms, no biases. Not counted: the allocator's
fragments, the libraries (about 0.5 GiB a process), and communication buffers beyond the one layer that is
gathered ahead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Architecture:
    """The sizes of a Llama-shaped model."""

    layers: int
    width: int
    intermediate: int
    heads: int
    kv_heads: int
    vocabulary: int
    tied: bool = False

    @property
    def kv_width(self) -> int:
        return self.width // self.heads * self.kv_heads

    @property
    def linear_sides(self) -> tuple[tuple[int, int], ...]:
        """(outputs, inputs) of a layer's linear maps."""
        c, k, f = self.width, self.kv_width, self.intermediate
        return (c, c), (k, c), (k, c), (c, c), (f, c), (f, c), (c, f)

    @property
    def layer_parameters(self) -> int:
        return sum(outputs * inputs for outputs, inputs in self.linear_sides) + 2 * self.width

    @property
    def parameters(self) -> int:
        """Weights in all.

        >>> LLAMA_7B.parameters
        6738415616
        """
        return (
            self.layers * self.layer_parameters
            + self.vocabulary * self.width * (1 if self.tied else 2)
            + self.width
        )

    def adapters(self, rank: int) -> int:
        """Weights of LoRA factors of this rank on every linear map of every layer."""
        return self.layers * rank * sum(outputs + inputs for outputs, inputs in self.linear_sides)


SMOLLM2_135M = Architecture(30, 576, 1536, 9, 3, 49152, tied=True)
LLAMA_7B = Architecture(32, 4096, 11008, 32, 32, 32000)
LLAMA_70B = Architecture(80, 8192, 28672, 64, 8, 32000)


@dataclass(frozen=True, slots=True)
class Layout:
    """How a job lies on its devices. `tokens` are those of one micro-batch on one device, in trees of about
    `length`; `scored` of them are scored at once (see `HEAD_PART`). `models` counts the adapters on one base:
    policy, preference model, critic; with full weights every further model is a frozen bf16 copy of its own.
    """

    devices: int
    weights: Literal["full", "lora"]
    tokens: int = 4096
    length: int = 512
    scored: int = 512
    rank: int = 16
    models: int = 1
    recompute: bool = True


def training_memory(architecture: Architecture, layout: Layout) -> dict[str, float]:
    """Bytes on each device by what they hold, and `total`.

    Full weights are sharded (FSDP2): fp32 weights, gradients and both moments of AdamW, 16 bytes a parameter
    over all devices, and two layers and the embeddings gathered whole in fp32; where several models say that
    it is reinforcement, all weights whole on every device while it samples, in fp32 and in the bf16 copy that
    draws. Under LoRA the frozen base is whole on every device in bf16, and the adapters' 16 bytes are
    sharded.
    """
    whole, frozen = architecture.parameters, 0.0
    if layout.weights == "full":
        trains, frozen = whole, 2.0 * whole * (layout.models - 1)
        gathered = 4.0 * (
            2 * architecture.layer_parameters + whole - architecture.layers * architecture.layer_parameters
        )
    else:
        trains, frozen = layout.models * architecture.adapters(layout.rank), 2.0 * whole
        gathered = 0.0
    if layout.devices == 1:
        gathered = 0.0
    together = layout.weights == "full" and layout.devices > 1 and layout.models > 1
    stream = 4 if layout.weights == "full" else 2
    found = {
        "weights": 4.0 * trains / layout.devices,
        "gradients": 4.0 * trains / layout.devices,
        "moments": 8.0 * trains / layout.devices,
        "frozen": frozen,
        "gathered": gathered,
        "activations": layout.tokens * activation_memory(architecture, layout, stream),
        "rollouts": 6.0 * whole if together else 0.0,
        "logits": 10.0 * layout.scored * architecture.vocabulary,  # bf16, and fp32 twice
    }
    return found | {"total": sum(found.values())}


def activation_memory(architecture: Architecture, layout: Layout, stream: int) -> float:
    """Bytes a token kept for the backward pass; `stream` is the residual stream's bytes a number. Recomputing
    keeps the stream between layers, and one layer's rest at a time.
    """
    a = architecture
    kept = stream * a.width
    rest = layer_activation_memory(a, layout.length, stream) - kept
    return a.layers * kept + rest * (1 if layout.recompute else a.layers)


def layer_activation_memory(architecture: Architecture, length: int, stream: int) -> float:
    """Bytes a token that one layer keeps, in trees of `length` tokens: the stream at both norms; the norms'
    outputs; queries, keys and values; attention's weights; what it gathered; gate, up, the activated gate and
    their product (bf16).
    """
    a = architecture
    attention = 2.0 * (a.width + 2 * a.kv_width + a.heads * length + a.width)
    return 2 * (stream * a.width + 4) + 2 * 2.0 * a.width + attention + 4 * 2.0 * a.intermediate


def cache_memory(architecture: Architecture, *, rows: int, positions: int) -> float:
    """Bytes of the keys and values of `rows` replies of up to `positions` tokens, prompt included, in
    bf16.
    """
    return 2 * 2.0 * architecture.layers * architecture.kv_width * rows * positions
