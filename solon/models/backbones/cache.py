"""Keys and values of many rows in slots; each row starts at position 0 of its slot.

Rows never shift and never share a position, so the arithmetic of a row does not depend on the rows beside
it: on CPU its log-probabilities are bit-equal in bf16, and equal to rounding in fp32
(tests/models/test_models.py, tests/models/test_smollm2.py).

Shapes: B slots, H key heads, S positions, D head width, T tokens of one prompt, P tokens of a prefix.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers.cache_utils import Cache

KeysValues = Sequence[tuple[Tensor, Tensor]]
STRETCH = 64  # positions


class PrefixCache(Cache):
    """A transformers cache that prepends the keys and values of one shared prefix to every row and stores
    nothing.
    """

    def __init__(self, prefix: KeysValues) -> None:
        super().__init__(layers=[])
        self.prefix = prefix

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """All keys and values (B, H, P + T, D), those of the prefix (1, H, P, D) first."""
        if not self.prefix:
            return key_states, value_states
        key, value = (part.expand(len(key_states), -1, -1, -1) for part in self.prefix[layer_idx])
        return torch.cat([key, key_states], dim=2), torch.cat([value, value_states], dim=2)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """The tokens of the prefix."""
        return self.prefix[0][0].shape[2] if self.prefix else 0


class SlotCache(Cache):
    """A transformers cache whose rows have their own lengths. Call `grow`, then compute one token in
    every row; prompts enter by `insert`.

    It grows by `STRETCH` positions at a time and returns all of them: a slice would be copied by every
    matrix product.
    """

    def __init__(self, slots: int) -> None:
        super().__init__(layers=[])
        self.slots, self.positions = slots, 0
        self.keys_BHSD: list[Tensor] = []
        self.values_BHSD: list[Tensor] = []
        self.lengths_B = torch.zeros(slots, dtype=torch.long)  # 0: the slot is empty
        self._rows = torch.arange(slots)

    def insert(self, slot: int, prefix: KeysValues) -> None:
        """Write the keys and values of a prompt, one (1, H, T, D) pair a layer, to the start of a slot."""
        if not self.keys_BHSD:
            for key, value in prefix:
                for tensor, tensors in ((key, self.keys_BHSD), (value, self.values_BHSD)):
                    tensors.append(tensor.new_zeros(self.slots, tensor.shape[1], 0, tensor.shape[3]))
            self.lengths_B = self.lengths_B.to(prefix[0][0].device)
            self._rows = self._rows.to(self.lengths_B.device)
        tokens = prefix[0][0].shape[2]
        self._reserve(tokens)
        for layer, (key, value) in enumerate(prefix):
            self.keys_BHSD[layer][slot, :, :tokens] = key[0]
            self.values_BHSD[layer][slot, :, :tokens] = value[0]
        self.lengths_B[slot] = tokens

    def _reserve(self, positions: int) -> None:
        """Make room for at least so many positions."""
        if positions > self.positions:
            self.positions = -(-positions // STRETCH) * STRETCH
            for tensors in (self.keys_BHSD, self.values_BHSD):
                for layer, tensor in enumerate(tensors):
                    tensors[layer] = torch.nn.functional.pad(
                        tensor, (0, 0, 0, self.positions - tensor.shape[2])
                    )

    def grow(self) -> None:
        """Make room for the next step. This is the only part of a step that waits for the device."""
        self._reserve(int(self.lengths_B.max()) + 1)

    def begin(self, window: int | None = None) -> Tensor:
        """Begin a step: the mask (B, 1, 1, S) of the positions each row attends to, its new one included."""
        positions_1S = torch.arange(self.positions, device=self.lengths_B.device)[None, :]
        mask_BS = positions_1S <= self.lengths_B[:, None]
        if window is not None:
            mask_BS &= positions_1S > self.lengths_B[:, None] - window
        return mask_BS[:, None, None, :]

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Write each row's new key and value (B, H, 1, D) at its length; return all keys and values (B,
        H, S, D).
        """
        keys, values = self.keys_BHSD[layer_idx], self.values_BHSD[layer_idx]
        keys[self._rows, :, self.lengths_B] = key_states[:, :, 0]
        values[self._rows, :, self.lengths_B] = value_states[:, :, 0]
        return keys, values

    def end(self) -> None:
        """End a step: the length of every row grows by one; an empty slot stays empty."""
        self.lengths_B += self.lengths_B > 0

    def clear(self, slot: int) -> None:
        """Empty a slot. It still takes part in every step."""
        self.lengths_B[slot] = 0

    def select(self, slots: Sequence[int], size: int) -> None:
        """Continue with these slots only, in this order, and empty ones up to `size`."""
        order = [*slots, *(slot for slot in range(self.slots) if slot not in slots)][:size]
        index = torch.tensor(order, device=self.lengths_B.device)
        for tensors in (self.keys_BHSD, self.values_BHSD):
            for layer, tensor in enumerate(tensors):
                tensors[layer] = tensor[index]
        self.slots, self.lengths_B, self._rows = size, self.lengths_B[index], self._rows[:size]
        self.lengths_B[len(slots) :] = 0

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """The positions before the step that is computed."""
        return self.positions - 1
