"""Load Hugging Face folders and hub ids; export folders that plain transformers and PEFT load.

Weights are safetensors, read and written; no remote code runs; no pickle is opened.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import httpx
import torch
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.constants import ENDPOINT
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
from jinja2 import TemplateError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from solon.errors import InputError
from solon.models.adapters import merge_adapters, save_peft
from solon.models.backbones.backbone import default_device, fast_precision
from solon.models.backbones.huggingface import HuggingFaceBackbone
from solon.models.base import Tokens
from solon.models.dialogue import ChatTemplate, Dialogue, Transcript
from solon.models.scalar import ScalarModel
from solon.models.torch_model import TorchModel
from solon.models.weights import load_tensors, save_tensors

PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


def load_huggingface(
    source: str, *, name: str = "", precision: torch.dtype | None = None, device: str = ""
) -> TorchModel:
    """A causal language model from a folder or a hub id, in `precision` (default: the fast one), on `device`.

    It uses its chat template, or the Human/Assistant form where it has none. Raises InputError where there is
    no such model, no safetensors, or the architecture is not supported.
    """
    folder = Path(source)
    if folder.is_file():
        raise InputError(
            f"{source} is a file; give the model's folder. Pickled checkpoints ({', '.join(PICKLES)}) are "
            "never opened"
        )
    if folder.is_dir():
        check_folder(folder)
    try:
        if not folder.is_dir() and not isinstance(try_to_load_from_cache(source, "config.json"), str):
            # one request first: offline, the loaders below retry for a minute
            httpx.head(ENDPOINT, timeout=10)
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        module = AutoModelForCausalLM.from_pretrained(
            source,
            dtype=precision or fast_precision(),
            use_safetensors=True,
            trust_remote_code=False,
            attn_implementation="sdpa",
        )
    except (
        OSError,
        ValueError,
        KeyError,
        httpx.HTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        SafetensorError,
    ) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"cannot load the model {source!r}: {reason}. Give a folder with config.json, tokenizer and "
            "safetensors, a hub id that can be reached, or 'smollm2'"
        ) from error
    module.requires_grad_(False).eval().to(device or default_device())
    backbone = HuggingFaceBackbone(module)
    backbone.check_head()
    return TorchModel(name or folder.name, backbone, dialogue_of(tokenizer, module), source=source)


def check_folder(folder: Path) -> None:
    """Raise InputError unless a folder contains a model in safetensors."""
    if not (folder / "config.json").exists():
        raise InputError(f"{folder} has no config.json, so it is no model folder")
    if not list(folder.glob("*.safetensors")):
        pickles = [path.name for path in folder.iterdir() if path.suffix in PICKLES]
        content = (
            f"it contains the pickle {pickles[0]}, which is never opened" if pickles else "it has no weights"
        )
        raise InputError(
            f"{folder} has no .safetensors file; {content}. Convert the weights to safetensors first"
        )


def dialogue_of(tokenizer: Any, module: Any) -> ChatTemplate | Transcript:
    """The tokenizer's chat template, or the Human/Assistant form where it has none. Raises InputError where
    there is no end-of-text token.
    """
    generation = getattr(module.generation_config, "eos_token_id", None)
    listed = generation if isinstance(generation, list) else [generation]
    ends = frozenset(int(token) for token in (*listed, tokenizer.eos_token_id) if token is not None)
    if not ends:
        raise InputError("the tokenizer names no end-of-text token, so no reply could ever end")
    end = (int(tokenizer.eos_token_id if tokenizer.eos_token_id is not None else min(ends)),)
    if tokenizer.chat_template:
        return ChatTemplate(tokenizer, ends, end, _next_turn(tokenizer) or end)
    start = (int(tokenizer.bos_token_id),) if tokenizer.bos_token_id is not None else ()
    return Transcript(
        tokenizer, ends, end, tuple(tokenizer.encode("\n\nHuman:", add_special_tokens=False)), start
    )


def _next_turn(tokenizer: Any) -> Tokens:
    """The tokens that the chat template writes between a reply and the next human turn; () where they cannot
    be found out.
    """
    reply, following = "The reply.", "The following words."
    turns = [
        {"role": "user", "content": "Hello."},
        {"role": "assistant", "content": reply},
        {"role": "user", "content": following},
    ]
    try:
        text = str(tokenizer.apply_chat_template(turns, tokenize=False))
    except TemplateError:
        return ()
    between = text.partition(reply)[2].partition(following)
    return tuple(tokenizer.encode(between[0], add_special_tokens=False)) if between[1] else ()


def export(model: TorchModel, folder: Path) -> None:
    """Write a folder that `AutoModelForCausalLM.from_pretrained` loads: adapters merged, with the tokenizer.

    Raises InputError on a model that is not Hugging Face's.
    """
    backbone = _huggingface(model.merged().module)
    backbone.module.save_pretrained(folder)
    _tokenizer(model.dialogue).save_pretrained(folder)


def export_adapter(model: TorchModel, folder: Path) -> None:
    """Write the adapters alone as a PEFT folder. Raises InputError where there are none."""
    save_peft(_huggingface(model.module).module, folder, base=model.source)


def export_classifier(scalar: ScalarModel, dialogue: Dialogue, folder: Path) -> None:
    """Write the preference model as `AutoModelForSequenceClassification` with one label.

    Text to score must end where the human's next turn begins (tokens `solon_context_end` in config.json,
    after the reply): that class reads its score at the last token that is not padding, so padding is set to
    another token. transformers' class has no bias; a constant on every score changes no comparison, and
    solon_head.safetensors has the bias too.
    """
    backbone = _huggingface(merge_adapters(scalar.backbone))
    config = copy.deepcopy(backbone.module.config)
    config.num_labels = 1
    config.pad_token_id = next(iter(sorted(dialogue.ends - {dialogue.context_end[-1]})), None)
    config.solon_context_end = list(dialogue.context_end)
    module = AutoModelForSequenceClassification.from_config(config, dtype=backbone.module.dtype)
    module.base_model.load_state_dict(backbone.trunk.state_dict())
    with torch.no_grad():
        module.score.weight.copy_(scalar.head.weight)
    module.save_pretrained(folder)
    _tokenizer(dialogue).save_pretrained(folder)
    save_tensors(
        {"weight": scalar.head.weight.detach(), "bias": scalar.head.bias.detach()},
        folder / "solon_head.safetensors",
    )


def load_classifier(folder: Path, *, precision: torch.dtype | None = None) -> tuple[ScalarModel, Dialogue]:
    """A frozen preference model from a folder that `export_classifier` wrote, with its exact fp32 head.
    Raises InputError on another folder.
    """
    check_folder(folder)
    raw = json.loads((folder / "config.json").read_text())
    if "solon_context_end" not in raw:
        raise InputError(
            f"{folder} is not a preference model of Solon's: its config.json names no solon_context_end"
        )
    classifier = AutoModelForSequenceClassification.from_pretrained(
        folder, dtype=precision or fast_precision(), trust_remote_code=False
    )
    config = AutoConfig.from_pretrained(folder)
    module = AutoModelForCausalLM.from_config(config, dtype=precision or fast_precision())
    module.base_model.load_state_dict(classifier.base_model.state_dict())
    scalar = ScalarModel(HuggingFaceBackbone(module.requires_grad_(False).eval()))
    head = load_tensors(folder / "solon_head.safetensors")
    with torch.no_grad():
        scalar.head.weight.copy_(head["weight"])
        scalar.head.bias.copy_(head["bias"])
    dialogue = dialogue_of(AutoTokenizer.from_pretrained(folder), module)
    return scalar, dataclasses.replace(dialogue, context_end=tuple(raw["solon_context_end"]))


def _huggingface(backbone: Any) -> HuggingFaceBackbone:
    """The backbone, or InputError where it is not Hugging Face's."""
    if not isinstance(backbone, HuggingFaceBackbone):
        raise InputError(
            f"only a Hugging Face model can be exported to that form; this one is a {type(backbone).__name__}"
        )
    return backbone


def _tokenizer(dialogue: Dialogue) -> Any:
    """The tokenizer of a dialogue, or InputError where it is not Hugging Face's."""
    if not isinstance(dialogue, (ChatTemplate, Transcript)):
        raise InputError(
            "only a Hugging Face tokenizer can be exported; this model's dialogue is a "
            f"{type(dialogue).__name__}"
        )
    return dialogue.tokenizer
