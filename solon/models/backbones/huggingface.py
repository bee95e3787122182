"""Any Hugging Face causal language model as a `Backbone`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import DynamicCache, PreTrainedModel

from solon.errors import InputError
from solon.models.adapters import copy_sharing_frozen
from solon.models.backbones import llama
from solon.models.backbones.attention import register_attention
from solon.models.backbones.backbone import Backbone, TreeLayout, chain_layout
from solon.models.backbones.cache import KeysValues, PrefixCache, SlotCache
from solon.models.backbones.graphs import ReplayedStep
from solon.models.backbones.heads import Heads

ATTENTION = {"full_attention", "sliding_attention"}


class HuggingFaceBackbone(Backbone):
    """Wraps a `PreTrainedModel` whose layers are all attention; others raise InputError.

    The head is applied to selected positions only, so `check_head` tests once, on loading, that it gives the
    model's own logits (some architectures scale or cap them: the known ones are handled).
    """

    def __init__(self, module: PreTrainedModel) -> None:
        super().__init__()
        self.module = module
        module.set_attn_implementation(register_attention())
        config: Any = module.config.get_text_config()
        kinds = set(getattr(config, "layer_types", None) or ATTENTION)
        if kinds - ATTENTION:
            raise InputError(
                f"{module.config.model_type} has layers of the kinds {sorted(kinds - ATTENTION)}; only "
                "attention layers are supported"
            )
        self.mixed = "sliding_attention" in kinds and getattr(config, "layer_types", None) is not None
        self.window: int | None = getattr(config, "sliding_window", None)
        self.head_width = int(
            getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        )
        self.width, self.vocabulary = int(config.hidden_size), int(config.vocab_size)
        self.context = int(getattr(config, "max_position_embeddings", 0) or 2048)
        rotation = getattr(config, "rope_parameters", None) or {}
        # above it, frequencies would depend on the longest row of a batch
        if rotation.get("rope_type") == "longrope":
            self.context = min(
                self.context, int(rotation.get("original_max_position_embeddings") or self.context)
            )
        self.cap = getattr(config, "final_logit_softcapping", None)
        self.scale = float(getattr(config, "logit_scale", None) or 1.0) / float(
            getattr(config, "logits_scaling", None) or 1.0
        )

    @property
    def depth(self) -> int:
        """The number of layers."""
        return int(self.module.config.get_text_config().num_hidden_layers)

    @property
    def trunk(self) -> Any:
        """The transformer without its language-modelling head."""
        return self.module.base_model

    def first_layers(self, layers: int) -> HuggingFaceBackbone:
        """See `Backbone.first_layers`. Raises InputError where the trunk has no list named `layers`."""
        if not isinstance(getattr(self.trunk, "layers", None), nn.ModuleList):
            raise InputError(
                f"{self.module.config.model_type} keeps its layers under another name; use the whole depth"
            )
        twin = copy_sharing_frozen(self)
        twin.trunk.layers = twin.trunk.layers[:layers]
        config: Any = twin.module.config.get_text_config()
        config.num_hidden_layers = layers
        if getattr(config, "layer_types", None) is not None:
            config.layer_types = config.layer_types[:layers]
        return twin

    def check_head(self) -> None:
        """Raise InputError unless `logits(hidden(...))` equals the model's own logits."""
        tokens_BT = torch.arange(8, device=self.device)[None] % self.vocabulary
        with torch.no_grad():
            theirs = self.module(input_ids=tokens_BT, use_cache=False).logits[0].float()
            ours = self.logits(self.hidden(tokens_BT)[0]).float()
        if not torch.allclose(ours, theirs, atol=1e-3 * float(theirs.abs().max()), rtol=0):
            raise InputError(
                f"{self.module.config.model_type}: its logits are not its head applied to its last hidden "
                "state"
            )

    def recompute(self) -> None:
        """See `Backbone.recompute`."""
        super().recompute()
        for layer in getattr(self.trunk, "layers", ()):
            layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)

    def hidden(
        self, tokens_BT: Tensor, layout: TreeLayout | None = None, prefix: KeysValues | None = None
    ) -> Tensor:
        """See `Backbone.hidden`."""
        if layout is None:
            return torch.as_tensor(self.trunk(input_ids=tokens_BT, use_cache=False).last_hidden_state)
        if layout.lengths and llama.supports(self.module):
            return llama.hidden(self.module, tokens_BT, layout, prefix, recompute=self.recomputes)
        options: dict[str, Any] = {
            "position_ids": layout.positions_BT,
            "attention_mask": self._masks(layout.mask),
        }
        if layout.lengths:
            windows = (None if self.mixed else self.window, self.window)
            options["solon_trees"] = tuple(layout.trees(window, width=self.head_width) for window in windows)
        if prefix is None:
            return torch.as_tensor(
                self.trunk(input_ids=tokens_BT, use_cache=False, **options).last_hidden_state
            )
        return torch.as_tensor(
            self.trunk(
                input_ids=tokens_BT, past_key_values=PrefixCache(prefix), use_cache=True, **options
            ).last_hidden_state
        )

    def hidden_with_heads(self, tokens_BT: Tensor, heads: Heads) -> Tensor:
        """See `Backbone.hidden_with_heads`."""
        hidden = torch.as_tensor(
            self.trunk(input_ids=tokens_BT, use_cache=False, solon_heads=heads).last_hidden_state
        )
        if len(heads.patterns_BHTT) != self.depth:
            raise InputError(
                f"{len(heads.patterns_BHTT)} of the {self.depth} layers of {self.module.config.model_type} "
                "let their heads be recorded"
            )
        return hidden

    def _masks(self, mask: Callable[[int | None], Tensor]) -> Tensor | dict[str, Tensor]:
        """A mask in the form that this architecture takes: one, or one for each kind of layer."""
        if self.mixed:
            return {"full_attention": mask(None), "sliding_attention": mask(self.window)}
        return mask(self.window)

    def prefill(self, tokens_T: Tensor, prefix: KeysValues | None = None) -> tuple[Tensor, KeysValues]:
        """See `Backbone.prefill`."""
        if llama.supports(self.module):
            keys_values: list[tuple[Tensor, Tensor]] = []
            layout = chain_layout(
                len(tokens_T), prefix[0][0].shape[2] if prefix is not None else 0, tokens_T.device
            )
            return llama.hidden(self.module, tokens_T[None], layout, prefix, keys_values=keys_values)[
                0
            ], keys_values
        cache, options = DynamicCache(), {}
        if prefix is not None:
            for layer, (key, value) in enumerate(prefix):
                cache.update(key, value, layer)
            layout = chain_layout(len(tokens_T), cache.get_seq_length(), tokens_T.device)
            options = {"position_ids": layout.positions_BT, "attention_mask": self._masks(layout.mask)}
        hidden_1TC = self.trunk(
            input_ids=tokens_T[None], past_key_values=cache, use_cache=True, **options
        ).last_hidden_state
        return hidden_1TC[0], [(layer.keys, layer.values) for layer in cache.layers]

    def step(self, tokens_B: Tensor, cache: SlotCache) -> Tensor:
        """See `Backbone.step`."""
        hidden_B1C = self.trunk(
            input_ids=tokens_B[:, None],
            position_ids=cache.lengths_B[:, None].clone(),
            attention_mask=self._masks(cache.begin),
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        cache.end()
        return torch.as_tensor(hidden_B1C[:, 0])

    def stepper(self) -> Callable[[Tensor, SlotCache], Tensor]:
        """See `Backbone.stepper`: fused for small Llama-shaped models, a recorded graph on an accelerator."""
        small = self.module.num_parameters() <= llama.MAX_PARAMETERS and self.scale == 1 and self.cap is None
        if not (small and llama.supports(self.module)):
            return super().stepper()
        step = llama.stepper(self.module)
        return step if self.device.type == "cpu" else ReplayedStep(step)

    def logits(self, hidden_NC: Tensor) -> Tensor:
        """See `Backbone.logits`."""
        logits_NV = self.module.get_output_embeddings()(hidden_NC) * self.scale
        if self.cap is not None:
            logits_NV = self.cap * torch.tanh(logits_NV / self.cap)
        return torch.as_tensor(logits_NV)
