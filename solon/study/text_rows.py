"""Text in a model's own tokens, in rows of one length: what studies of activations and of heads read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from solon.errors import InputError
from solon.interpretability.stream import pack_tokens
from solon.models.base import Tokens
from solon.models.torch_model import TorchModel


def tokenizer_of(model: TorchModel) -> Any:
    """The tokenizer of a Hugging Face model. Raises InputError where there is none."""
    tokenizer = getattr(model.dialogue, "tokenizer", None)
    if tokenizer is None:
        raise InputError(f"{model.name} has no tokenizer to read text with")
    return tokenizer


def first_tokens(tokenizer: Any) -> Tokens:
    """What the model expects at the beginning of a text: its begin token, or nothing."""
    return tuple(
        token for token in tokenizer.encode("", add_special_tokens=True) if token == tokenizer.bos_token_id
    )


def text_rows(
    tokenizer: Any, texts: Iterable[str], length: int, *, most: int, end: Tokens = ()
) -> tuple[Tokens, ...]:
    """At most so many rows of `length` tokens, each with what begins a text; `end` closes each text.

    Raises InputError where the text does not fill one row.
    """

    def encode(text: str) -> list[int]:
        tokens: list[int] = tokenizer.encode(text, add_special_tokens=False)
        return tokens

    first = first_tokens(tokenizer)
    packed = pack_tokens(encode, texts, length - len(first), end=end, most=most)
    rows = tuple((*first, *row) for row in packed)
    if not rows:
        raise InputError(f"the text does not fill one row of {length} tokens")
    return rows
