"""Keys and values of many rows in slots: each row starts at position 0 of its slot, whoever its neighbours
are.

Rows never shift and never share a position, so a row's arithmetic does not depend on the rows beside it: on
CPU its log-probabilities are bit-equal in bf16, and equal to rounding in fp32 (tests/models/test_models.py,
tests/models/test_smollm2.py).

Shapes: B slots, H key heads, S positions, D head width, T tokens of one prompt.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers.cache_utils import Cache

KeysValues = Sequence[tuple[Tensor, Tensor]]
STRETCH = 64  # positions


class PrefixCache(Cache):
    """A transformers cache that puts the keys and values of one shared prefix before every row, and keeps
    nothing.
    """

    def __init__(self, prefix: KeysValues) -> None:
        super().__init__(layers=[])
        self.prefix = prefix

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """All keys and values, the prefix's (1, H, P, D) first, (B, H, P + T, D)."""
        if not self.prefix:
            return key_states, value_states
        key, value = (part.expand(len(key_states), -1, -1, -1) for part in self.prefix[layer_idx])
        return torch.cat([key, key_states], dim=2), torch.cat([value, value_states], dim=2)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.prefix[0][0].shape[2] if self.prefix else 0


class SlotCache(Cache):
    """A transformers cache whose rows have lengths of their own. One token a row and step, `grow` before it;
    prefill is `place`.

    It grows in stretches of `STRETCH` positions and hands out all it has: a part of it would be copied by
    every product.
    """

    def __init__(self, slots: int) -> None:
        super().__init__(layers=[])
        self.slots, self.positions = slots, 0
        self.keys_BHSD: list[Tensor] = []
        self.values_BHSD: list[Tensor] = []
        self.lengths_B = torch.zeros(slots, dtype=torch.long)  # 0: the slot is idle
        self._rows = torch.arange(slots)

    def insert(self, slot: int, prefix: KeysValues) -> None:
        """Put the keys and values of a prompt, one (1, H, T, D) pair a layer, at the start of a slot."""
        if not self.keys_BHSD:
            for key, value in prefix:
                for tensor, kept in ((key, self.keys_BHSD), (value, self.values_BHSD)):
                    kept.append(tensor.new_zeros(self.slots, tensor.shape[1], 0, tensor.shape[3]))
            self.lengths_B = self.lengths_B.to(prefix[0][0].device)
            self._rows = self._rows.to(self.lengths_B.device)
        tokens = prefix[0][0].shape[2]
        self._hold(tokens)
        for layer, (key, value) in enumerate(prefix):
            self.keys_BHSD[layer][slot, :, :tokens] = key[0]
            self.values_BHSD[layer][slot, :, :tokens] = value[0]
        self.lengths_B[slot] = tokens

    def _hold(self, positions: int) -> None:
        """Make room for so many."""
        if positions > self.positions:
            self.positions = -(-positions // STRETCH) * STRETCH
            for kept in (self.keys_BHSD, self.values_BHSD):
                for layer, tensor in enumerate(kept):
                    kept[layer] = torch.nn.functional.pad(tensor, (0, 0, 0, self.positions - tensor.shape[2]))

    def grow(self) -> None:
        """Make room for the step that comes: the only part of one that waits for the device."""
        self._hold(int(self.lengths_B.max()) + 1)

    def begin(self, window: int | None = None) -> Tensor:
        """Open a step: the mask (B, 1, 1, S) of the positions each row sees, its own new one included."""
        seen = torch.arange(self.positions, device=self.lengths_B.device)[None, :]
        mask_BS = seen <= self.lengths_B[:, None]
        if window is not None:
            mask_BS &= seen > self.lengths_B[:, None] - window
        return mask_BS[:, None, None, :]

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Write each row's new key and value (B, H, 1, D) at its own length; return all."""
        keys, values = self.keys_BHSD[layer_idx], self.values_BHSD[layer_idx]
        keys[self._rows, :, self.lengths_B] = key_states[:, :, 0]
        values[self._rows, :, self.lengths_B] = value_states[:, :, 0]
        return keys, values

    def end(self) -> None:
        """Close a step: every row is one longer; an idle slot stays empty."""
        self.lengths_B += self.lengths_B > 0

    def clear(self, slot: int) -> None:
        """Make a slot idle: it still takes part in every step, and costs one position."""
        self.lengths_B[slot] = 0

    def select(self, slots: Sequence[int], size: int) -> None:
        """Go on with these slots alone, in this order, and idle ones up to `size`."""
        chosen = [*slots, *(slot for slot in range(self.slots) if slot not in slots)][:size]
        index = torch.tensor(chosen, device=self.lengths_B.device)
        for kept in (self.keys_BHSD, self.values_BHSD):
            for layer, tensor in enumerate(kept):
                kept[layer] = tensor[index]
        self.slots, self.lengths_B, self._rows = size, self.lengths_B[index], self._rows[:size]
        self.lengths_B[len(slots) :] = 0

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.positions - 1
