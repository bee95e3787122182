"""`solon run monosemanticity [MODEL] --texts ...`: a dictionary of a model's features; without a model,
planted directions and a small model of known words.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from solon.data.texts import read_texts
from solon.errors import InputError
from solon.interpretability.stream import pack_tokens
from solon.models.base import LanguageModel
from solon.models.load import load_open
from solon.studies.monosemanticity import toy_language
from solon.studies.monosemanticity.settings import Inputs, Settings, full, quick, toy
from solon.studies.monosemanticity.study import study
from solon.studies.monosemanticity.toy_language import FIRST
from solon.study.legacy import StudyOptions, model_key, parse_with_preset, run_study, say
from solon.study.toy_models import language_model

TOY = "toy"
KINDS: dict[str, Callable[[str], bool]] = {
    "numbers": lambda text: bool(re.fullmatch(r"\s*\d+", text)),
    "capitalised words": lambda text: bool(re.fullmatch(r"\s*[A-Z][a-z]+", text)),
    "opening brackets": lambda text: text.strip() in {"(", "[", "{"},
    "commas": lambda text: text.strip() == ",",
    "question marks": lambda text: text.strip() == "?",
    "line breaks": lambda text: bool(text) and not text.strip() and "\n" in text,
}


@dataclass(frozen=True)
class Options(StudyOptions):
    """Take a layer of a model apart into features with sparse autoencoders, measure them, and show them on
    one page.
    """

    model: Annotated[str, tyro.conf.Positional] = TOY
    """smollm2, gemma3-270m, a model folder, or a hub id; toy: planted directions and a small model of classes
    of words, offline
    """
    texts: tuple[Path, ...] = ()
    """what the model reads: .txt, .md, rows with a text, the same in .gz, .zip of texts, or folders"""
    tokens: int = 0
    """of text to read at the most; 0 takes what the steps need"""
    predicate: tuple[str, ...] = ()
    """NAME=REGEX of a token's text, besides numbers, capitalised words and the like; the feature that goes
    best with each is measured
    """
    labeller: str = ""
    """a model that says what features stand for, and rates that"""
    settings: Settings = field(default_factory=quick)


def main(argv: Sequence[str]) -> int:
    presets = {
        "quick": Options(settings=quick()),
        "full": Options(preset="full", settings=full()),
        "toy": Options(settings=toy()),
    }
    options = parse_with_preset(
        Options, argv, command="run monosemanticity", **presets, is_toy=lambda options: options.model == TOY
    )
    inputs = toy_inputs(options) if options.model == TOY else real_inputs(options)
    kinds = sorted(inputs.predicates)
    hashes = {
        "model": model_key(inputs.model),
        "rows": hashlib.sha256(repr(inputs.rows).encode()).hexdigest()[:16],
        "predicates": repr([kinds, options.predicate]),
    }
    if inputs.labeller is not None:
        hashes["labeller"] = model_key(inputs.labeller)
    settings = asdict(options.settings)
    return run_study(
        options,
        "monosemanticity",
        settings,
        hashes,
        inputs.model.name,
        lambda run: study(run, options.settings, inputs),
    )


def toy_inputs(options: Options, *, steps: int = 600) -> Inputs:
    """The small model, and what is known of its words."""
    say("training a small model")
    words, settings = toy_language.words(), options.settings
    rows = toy_language.rows(options.seed, 4000, settings.length)
    model = language_model(
        "toy classes",
        words,
        toy_language.rows(options.seed + 1, 48 * steps, settings.length),
        seed=options.seed,
        width=48,
    )
    predicates = {name: (lambda text, name=name: text.startswith(name)) for name in toy_language.CLASSES}
    steered = {
        name: frozenset(
            token + FIRST
            for token in range(len(words))
            if toy_language.class_of(token + FIRST) == toy_language.successor(own)
        )
        for own, name in enumerate(toy_language.CLASSES)
    }
    return Inputs(
        model,
        tuple(rows),
        lambda token: f"{words[token - FIRST]} " if token >= FIRST else "",
        predicates,
        steered,
    )


def real_inputs(options: Options) -> Inputs:
    """Text in the model's own tokens, read and checked before anything runs."""
    if not options.texts:
        raise InputError(
            "a model needs --texts to read: .txt, .zip of texts, rows with a text, or folders of these"
        )
    predicates = KINDS | dict(map(parsed, options.predicate))
    model = load_open(options.model, precision=options.precision, say=say).plain()
    tokenizer: Any = getattr(model.dialogue, "tokenizer", None)
    if tokenizer is None:
        raise InputError(f"{model.name} has no tokenizer to read text with")
    settings = options.settings
    wanted = options.tokens or settings.steps * settings.batch
    most = settings.held_out + max(-(-wanted // (settings.length - settings.skip)), 2 * settings.chunk)
    documents = list(read_texts(options.texts))
    random.Random(options.seed).shuffle(documents)  # so that a part of the text is a part of all of it
    say(f"reading {len(documents)} documents")
    end = () if tokenizer.eos_token_id is None else (int(tokenizer.eos_token_id),)
    # where the model expects one
    begin = tuple(
        token for token in tokenizer.encode("", add_special_tokens=True) if token == tokenizer.bos_token_id
    )
    length = settings.length - len(begin)
    texts = (text for _, text in documents)
    rows = [
        (*begin, *row)
        for row in pack_tokens(
            lambda text: tokenizer.encode(text, add_special_tokens=False), texts, length, end=end, most=most
        )
    ]
    if not rows:
        raise InputError(f"{len(documents)} documents do not fill one row of {settings.length} tokens")
    judge: LanguageModel | None = (
        load_open(options.labeller, precision=options.precision, say=say) if options.labeller else None
    )
    counts = {"documents": len(documents), "rows of text": len(rows)}
    return Inputs(
        model, tuple(rows), lambda token: str(tokenizer.decode([token])), predicates, {}, judge, counts
    )


def parsed(text: str) -> tuple[str, Callable[[str], bool]]:
    """NAME=REGEX. Raises InputError on another form."""
    name, mark, pattern = text.partition("=")
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(f"--predicate {text!r}: {pattern!r} is no regular expression: {error}") from error
    if not mark or not name.strip() or not pattern:
        raise InputError(f"--predicate {text!r} is not NAME=REGEX")
    return name.strip(), lambda own: bool(compiled.fullmatch(own))
