"""`solon run induction_heads [MODEL]`: induction heads form in small transformers, or those that a given
model has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from solon.data.texts import read_texts
from solon.errors import InputError
from solon.interpretability.stream import pack_tokens
from solon.models.load import load_open
from solon.records.run import digest
from solon.studies.induction_heads.given_model import study_model
from solon.studies.induction_heads.settings import Given, Settings, full, quick
from solon.studies.induction_heads.study import study
from solon.study.legacy import StudyOptions, model_key, parse, preset_of, run_study, say

TEXT = 64  # tokens of a row on which previous-token heads are scored


@dataclass(frozen=True)
class Options(StudyOptions):
    """Train small transformers until they form induction heads, or score every head of a model and silence
    the best.
    """

    model: Annotated[str, tyro.conf.Positional] = ""
    """smollm2, gemma3-270m, a model folder, or a hub id; none: models of one to three layers, trained here"""
    texts: tuple[Path, ...] = ()
    """what a given model's previous-token heads are scored on"""
    rows: int = 32
    """of that text"""
    settings: Settings = field(default_factory=quick)


def main(argv: Sequence[str]) -> int:
    preset = Options(preset="full", settings=full()) if preset_of(argv) == "full" else Options()
    options = parse(Options, argv, command="run induction_heads", default=preset)
    settings = options.settings
    if not options.model:
        return run_study(
            options,
            "induction_heads",
            asdict(settings),
            {},
            "small transformers",
            lambda run: study(run, settings),
        )
    given = opened(options)
    wanted = {name: getattr(settings, name) for name in ("top", "random_draws")}
    inputs = {"model": model_key(given.model), "text": digest(given.text), "tokens": digest(given.tokens)}
    return run_study(
        options,
        "induction_heads",
        wanted,
        inputs,
        given.model.name,
        lambda run: study_model(run, settings, given),
    )


def opened(options: Options) -> Given:
    """The model, tokens of middle rank, and its text. Raises InputError without text, or a tokenizer."""
    if options.rows < 1:
        raise InputError(f"--rows is at least 1; found {options.rows}")
    if not options.texts:
        raise InputError(
            "a model needs --texts, on which previous-token heads are scored: .txt, .zip of texts, rows "
            "with a text, or folders of these"
        )
    model = load_open(options.model, precision=options.precision, say=say).plain()
    tokenizer: Any = getattr(model.dialogue, "tokenizer", None)
    if tokenizer is None:
        raise InputError(f"{model.name} has no tokenizer to read text with")
    texts = (text for _, text in read_texts(options.texts))
    # where the model expects one
    begin = tuple(
        token for token in tokenizer.encode("", add_special_tokens=True) if token == tokenizer.bos_token_id
    )
    rows = [
        (*begin, *row)
        for row in pack_tokens(
            lambda text: tokenizer.encode(text, add_special_tokens=False), texts, TEXT, most=options.rows
        )
    ]
    if not rows:
        raise InputError(f"the text does not fill one row of {TEXT} tokens")
    special, size = set(tokenizer.all_special_ids), model.module.vocabulary
    tokens = tuple(token for token in range(size // 10, size * 9 // 10) if token not in special)
    first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    start = () if first is None else (int(first),)
    return Given(model, tokens, start, tuple(rows), {"rows of text": len(rows)})
