"""What the study works on: a model to look into and text to read with it, or nothing, where small models are
trained here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from solon.data.texts import read_texts
from solon.errors import InputError
from solon.models.base import Tokens
from solon.models.torch_model import TorchModel
from solon.studies.induction_heads.settings import Settings, quick
from solon.study.conduct import TOY, is_toy, open_model
from solon.study.options import Model, StudyOptions
from solon.study.text_rows import first_tokens, text_rows, tokenizer_of

LENGTH = 64  # tokens of a row on which previous-token heads are scored


@dataclass(frozen=True)
class Options(StudyOptions):
    """Train small transformers until they form induction heads, or score every head of a model and silence
    the best.
    """

    model: Model = TOY
    """smollm2, gemma3-270m, a model folder, or a hub id; toy: models of one to three layers, trained here"""
    texts: tuple[Path, ...] = ()
    """what a given model's previous-token heads are scored on"""
    rows: int = 32
    """of that text"""
    settings: Settings = field(default_factory=quick)


@dataclass(frozen=True, slots=True)
class GivenModel:
    """A model to look into: tokens that repeated rows are drawn from, what begins a text, and rows of text of
    one length.
    """

    model: TorchModel
    tokens: tuple[int, ...]
    start: Tokens
    text: tuple[Tokens, ...]
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Inputs:
    """The model that is looked into; None: small ones are trained."""

    given: GivenModel | None = None


def read(options: Options) -> Inputs:
    """What the flags name. Raises InputError where the model has no tokenizer or the text is too short."""
    if is_toy(options):
        return Inputs()
    if options.rows < 1:
        raise InputError(f"--rows is at least 1; found {options.rows}")
    return Inputs(given_model(open_model(options.model, options.precision), options.texts, options.rows))


def given_model(model: TorchModel, texts: tuple[Path, ...], count: int) -> GivenModel:
    """A model with the tokens of middle rank of its vocabulary, and at most `count` rows of text."""
    plain = model.plain()
    tokenizer = tokenizer_of(plain)
    length = LENGTH + len(first_tokens(tokenizer))
    rows = text_rows(tokenizer, (text for _, text in read_texts(texts)), length, most=count)
    special, size = set(tokenizer.all_special_ids), plain.module.vocabulary
    tokens = tuple(token for token in range(size // 10, size * 9 // 10) if token not in special)
    first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    start = () if first is None else (int(first),)
    return GivenModel(plain, tokens, start, rows, {"rows of text": len(rows)})
