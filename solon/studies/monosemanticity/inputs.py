"""What the study works on: a model and text in its tokens, or a small model of classes of words."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from solon.data.texts import read_texts
from solon.errors import InputError
from solon.models.base import LanguageModel, Tokens
from solon.models.torch_model import TorchModel
from solon.studies.monosemanticity import toy_language
from solon.studies.monosemanticity.settings import Settings, quick
from solon.studies.monosemanticity.toy_language import CLASSES, FIRST
from solon.study.conduct import TOY, is_toy, open_model
from solon.study.console import say
from solon.study.fingerprint import Keyed
from solon.study.options import Model, StudyOptions
from solon.study.text_rows import text_rows, tokenizer_of
from solon.study.toy_models import language_model

Predicate = Callable[[str], bool]
PATTERNS = {  # of a token's text
    "numbers": r"\s*\d+",
    "capitalised words": r"\s*[A-Z][a-z]+",
    "opening brackets": r"\s*[(\[{]\s*",
    "commas": r"\s*,\s*",
    "question marks": r"\s*\?\s*",
    "line breaks": r"\s*\n\s*",
}


@dataclass(frozen=True)
class Options(StudyOptions):
    """Take a layer of a model apart into features with sparse autoencoders, measure them, and show them on
    one page.
    """

    model: Model = TOY
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


@dataclass(frozen=True, slots=True)
class Inputs:
    """A model, rows of text in its tokens, how a token is spelled, and what is known of tokens: predicates,
    by name. `steered` are tokens that a predicate's feature should raise where it is clamped high. A
    `labeller` says what features stand for.
    """

    model: TorchModel
    rows: tuple[Tokens, ...]
    spelled: Callable[[int], str]
    predicates: Mapping[str, Predicate] = field(default_factory=dict)
    steered: Mapping[str, frozenset[int]] = field(default_factory=dict)
    labeller: LanguageModel | None = None
    counts: Mapping[str, int] = field(default_factory=dict)


def read(options: Options) -> Inputs:
    """Text in the model's own tokens, read and checked before anything runs. Raises InputError where it is
    too short, the model has no tokenizer, or a predicate is no regular expression.
    """
    if is_toy(options):
        return toy(options.settings.length, options.seed)
    patterns = PATTERNS | dict(map(name_and_pattern, options.predicate))
    model = open_model(options.model, options.precision).plain()
    tokenizer, settings = tokenizer_of(model), options.settings
    tokens = options.tokens or settings.steps * settings.batch
    most = settings.held_out + max(-(-tokens // (settings.length - settings.skip)), 2 * settings.chunk)
    documents = list(read_texts(options.texts))
    random.Random(options.seed).shuffle(documents)  # so that a part of the text is a part of all of it
    say(f"reading {len(documents)} documents")
    end = () if tokenizer.eos_token_id is None else (int(tokenizer.eos_token_id),)
    texts = (text for _, text in documents)
    rows = text_rows(tokenizer, texts, settings.length, most=most, end=end)

    def spelled(token: int) -> str:
        return str(tokenizer.decode([token]))

    return Inputs(
        model=model,
        rows=rows,
        spelled=Keyed("the model's tokenizer", spelled),
        predicates={name: matching(pattern) for name, pattern in patterns.items()},
        labeller=open_model(options.labeller, options.precision) if options.labeller else None,
        counts={"documents": len(documents), "rows of text": len(rows)},
    )


def matching(pattern: str) -> Predicate:
    """Whether a text as a whole matches a regular expression."""
    compiled = re.compile(pattern)
    return Keyed(pattern, lambda text: bool(compiled.fullmatch(text)))


def name_and_pattern(text: str) -> tuple[str, str]:
    """The parts of NAME=REGEX. Raises InputError on another form.

    >>> name_and_pattern("years=(19|20)..")
    ('years', '(19|20)..')
    """
    name, mark, pattern = text.partition("=")
    try:
        re.compile(pattern)
    except re.error as error:
        raise InputError(f"--predicate {text!r}: {pattern!r} is no regular expression: {error}") from error
    if not mark or not name.strip() or not pattern:
        raise InputError(f"--predicate {text!r} is not NAME=REGEX")
    return name.strip(), pattern


def toy(length: int, seed: int, *, steps: int = 600) -> Inputs:
    """A small model of classes of words, and what is known of its words: their classes, and which class
    follows.
    """
    say("training a small model")
    words = toy_language.words()
    model = language_model(
        "toy classes", words, toy_language.rows(seed + 1, 48 * steps, length), seed=seed, width=48
    )

    def spelled(token: int) -> str:
        return f"{words[token - FIRST]} " if token >= FIRST else ""

    return Inputs(
        model=model,
        rows=tuple(toy_language.rows(seed, 4000, length)),
        spelled=Keyed("words", spelled),
        predicates={name: matching(f"{name}.*") for name in CLASSES},
        steered={
            name: frozenset(toy_language.tokens_of(toy_language.successor(number)))
            for number, name in enumerate(CLASSES)
        },
    )
