"""Memory of a training job on each device, in bytes, by formulas that tests compare with real tensors.

The architecture is Llama's: grouped-query attention, a gated MLP, RMS norms, no biases. Not counted:
fragmentation, libraries (about 0.5 GiB a process), and communication buffers beyond one prefetched layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Architecture:
    """The dimensions of a Llama-like model."""

    layers: int
    width: int
    intermediate: int
    heads: int
    kv_heads: int
    vocabulary: int
    tied: bool = False

    @property
    def kv_width(self) -> int:
        """The width of keys, and of values."""
        return self.width // self.heads * self.kv_heads

    @property
    def linear_sides(self) -> tuple[tuple[int, int], ...]:
        """(outputs, inputs) of each linear map of a layer."""
        c, k, f = self.width, self.kv_width, self.intermediate
        return (c, c), (k, c), (k, c), (c, c), (f, c), (f, c), (c, f)

    @property
    def layer_parameters(self) -> int:
        """Parameters of one layer, norms included."""
        return sum(outputs * inputs for outputs, inputs in self.linear_sides) + 2 * self.width

    @property
    def parameters(self) -> int:
        """Parameters in total.

        >>> LLAMA_7B.parameters
        6738415616
        """
        return (
            self.layers * self.layer_parameters
            + self.vocabulary * self.width * (1 if self.tied else 2)
            + self.width
        )

    def adapters(self, rank: int) -> int:
        """Parameters of LoRA factors of this rank on every linear map of every layer."""
        return self.layers * rank * sum(outputs + inputs for outputs, inputs in self.linear_sides)


SMOLLM2_135M = Architecture(30, 576, 1536, 9, 3, 49152, tied=True)
LLAMA_7B = Architecture(32, 4096, 11008, 32, 32, 32000)
LLAMA_70B = Architecture(80, 8192, 28672, 64, 8, 32000)


@dataclass(frozen=True, slots=True)
class Layout:
    """A job's distribution over devices. `tokens` are those of a micro-batch on one device, in trees of about
    `length` tokens; logits of `scored` tokens exist at once (`HEAD_PART`). `models` counts the policy, the
    preference model and the critic: adapters on one base, or with full weights one trained model and frozen
    bf16 copies.
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
    """Bytes on each device by use, and their `total`.

    Full weights are sharded (FSDP2): fp32 weights, gradients and both moments of AdamW, 16 bytes a parameter
    over all devices, with two layers and the embeddings gathered in fp32. Several models mean reinforcement
    learning: while it samples, every device has all weights in fp32 and in a bf16 copy. With LoRA every
    device has the frozen base in bf16, and the adapters' 16 bytes a parameter are sharded.
    """
    parameters, frozen = architecture.parameters, 0.0
    if layout.weights == "full":
        trains, frozen = parameters, 2.0 * parameters * (layout.models - 1)
        gathered = 4.0 * (
            2 * architecture.layer_parameters
            + parameters
            - architecture.layers * architecture.layer_parameters
        )
    else:
        trains, frozen = layout.models * architecture.adapters(layout.rank), 2.0 * parameters
        gathered = 0.0
    if layout.devices == 1:
        gathered = 0.0
    together = layout.weights == "full" and layout.devices > 1 and layout.models > 1
    stream = 4 if layout.weights == "full" else 2
    by_use = {
        "weights": 4.0 * trains / layout.devices,
        "gradients": 4.0 * trains / layout.devices,
        "moments": 8.0 * trains / layout.devices,
        "frozen": frozen,
        "gathered": gathered,
        "activations": layout.tokens * activation_memory(architecture, layout, stream),
        "rollouts": 6.0 * parameters if together else 0.0,
        "logits": 10.0 * layout.scored * architecture.vocabulary,  # bf16, and fp32 twice
    }
    return by_use | {"total": sum(by_use.values())}


def activation_memory(architecture: Architecture, layout: Layout, stream: int) -> float:
    """Bytes a token stored for the backward pass; `stream` is the bytes of a number in the residual stream.
    With recomputation the stream between layers is stored, and one layer's other activations at a time.
    """
    a = architecture
    stream_bytes = stream * a.width
    rest = layer_activation_memory(a, layout.length, stream) - stream_bytes
    return a.layers * stream_bytes + rest * (1 if layout.recompute else a.layers)


def layer_activation_memory(architecture: Architecture, length: int, stream: int) -> float:
    """Bytes a token stored by one layer, in trees of `length` tokens: the stream at both norms, and in bf16
    the norms' outputs, queries, keys and values, attention weights and outputs, gate, up, the activated gate
    and their product.
    """
    a = architecture
    attention = 2.0 * (a.width + 2 * a.kv_width + a.heads * length + a.width)
    return 2 * (stream * a.width + 4) + 2 * 2.0 * a.width + attention + 4 * 2.0 * a.intermediate


def cache_memory(architecture: Architecture, *, rows: int, positions: int) -> float:
    """Bytes of the key-value cache (bf16) of `rows` replies of up to `positions` tokens, prompts included."""
    return 2 * 2.0 * architecture.layers * architecture.kv_width * rows * positions
