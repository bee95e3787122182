"""What `solon features` reads: two models of a run, a dictionary of the first, and conversations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from solon.data.rows import from_messages
from solon.errors import InputError
from solon.interpretability.dictionary_files import read_autoencoder
from solon.models.base import Tokens
from solon.models.dialogue import Dialogue
from solon.records.report import Report
from solon.records.run import Run, digest
from solon.study.conduct import Finished, conduct, open_model
from solon.study.fingerprint import content_hash, model_key
from solon.study.options import RunName, RunOptions
from solon.study.runs import find_run, record, stage_rows
from solon.tools.features.report import report
from solon.tools.features.study import Inputs, Settings, compare
from solon.words.conversation import Conversation


@dataclass(frozen=True)
class Options(RunOptions):
    """Hold the features of a dictionary in two models against each other, on the held-out prompts and replies
    of a run.
    """

    run: RunName = ""
    """a run's folder of `solon align`, or the beginning of its name"""
    dictionary: Path | None = None
    """an autoencoder of the model before: a run of monosemanticity, or a folder of SAELens or sparsify"""
    layer: int = 0
    """the layer after which it stands, from 1; 0 takes what the dictionary says"""
    before: str = ""
    """the model before; that of the run's record unless given"""
    limit: int = 200
    """conversations read, half with the first model's replies, half with the last's"""
    settings: Settings = field(default_factory=Settings)


def compare_features(options: Options, *, argv: Sequence[str] = ()) -> Finished:
    """A run that holds a dictionary's features in two models against each other.

    Raises InputError where the run is not finished, or the dictionary does not fit the model.
    """
    if not options.run or options.dictionary is None or options.limit < 2:
        raise InputError("solon features needs a run of solon align, --dictionary, and a limit of at least 2")
    folder = find_run(options.runs, options.run)
    if not (folder / "model").exists() or not (folder / "held_out_final.jsonl").exists():
        raise InputError(
            f"{folder} is no finished run of solon align: it holds no model, or no held_out_final.jsonl"
        )
    inside = options.dictionary / "dictionary"
    path = inside if inside.exists() else options.dictionary
    autoencoder, config = read_autoencoder(path)
    before = open_model(options.before or str(record(folder)["model"]), options.precision)
    after = open_model(str(folder / "model"), options.precision)
    counts = dict[str, int]()
    context = min(before.context, after.context)
    rows, titles, prompts = conversations(folder, before.dialogue, context, options.limit, counts)
    metadata = config.get("metadata")
    about: dict[str, Any] = metadata if isinstance(metadata, dict) else {}
    inputs = Inputs(
        before=before,
        after=after,
        dictionary=autoencoder,
        layer=options.layer or layer_in(config),
        rows=rows,
        titles=titles,
        prompts=prompts,
        spelled=speller(before.dialogue),
        counts=counts,
        skip=int(about.get("skipped_first_tokens", 1)),
        limit=float(about.get("longest_activation") or math.inf),
    )
    named = {
        "before": model_key(before),
        "after": model_key(after),
        "dictionary": content_hash(path),
        "layer": str(inputs.layer),
        "rows": digest(rows),
    }

    def work(run: Run) -> Report:
        return report(options.settings, compare(run, inputs))

    settings = asdict(options.settings)
    return conduct("features", options, work, settings=settings, inputs=named, subject=after.name, argv=argv)


def speller(dialogue: Dialogue) -> Callable[[int], str]:
    """The text of a token, or its number where there is no tokenizer."""
    tokenizer: Any = getattr(dialogue, "tokenizer", None)

    def spelled(token: int) -> str:
        return str(tokenizer.decode([token])) if tokenizer else f"{token} "

    return spelled


def layer_in(config: dict[str, Any]) -> int:
    """The layer that a dictionary's site names: the number in it, from 1. Raises InputError where it names
    none.
    """
    metadata = config.get("metadata")
    inner = metadata.get("hook_name") if isinstance(metadata, dict) else None
    name = str(inner or config.get("hook_name") or "")
    if any(word in name for word in ("mlp", "attn", "hook_z")):
        raise InputError(f"the dictionary is of {name!r}, which is not the residual stream after a layer")
    numbers = [part for part in name.split(".") if part.isdigit()]
    if len(numbers) != 1:
        raise InputError(
            f"the dictionary does not say after which layer it stands ({name!r}); give --layer, from 1"
        )
    return int(numbers[0]) + (0 if "resid_pre" in name else 1)


TOO_LONG = "conversations too long for the context, left out"


def conversations(
    folder: Path, dialogue: Dialogue, context: int, limit: int, counts: dict[str, int]
) -> tuple[tuple[Tokens, ...], tuple[str, ...], tuple[str, ...]]:
    """Tokens, titles and prompts of held-out prompts with the replies of the first model and of the last, in
    turn.
    """
    rows, titles, prompts = list[Tokens](), list[str](), list[str]()
    kinds = [(kind, stage_rows(folder, f"held_out_{kind}")) for kind in ("start", "final")]
    for number in range(max(len(kept) for _, kept in kinds)):
        for kind, kept in kinds:
            if number >= len(kept) or len(rows) >= limit:
                continue
            prompt: Conversation = from_messages(kept[number]["prompt"])
            reply = str(kept[number]["replies"][0]["text"])
            row = dialogue.prompt(prompt) + dialogue.reply(prompt, reply)
            if len(row) > context:
                counts[TOO_LONG] = counts.get(TOO_LONG, 0) + 1
                continue
            rows.append(row)
            titles.append(f"{kind}'s reply to: {prompt.last}")
            prompts.append(prompt.key)
    if not rows:
        raise InputError(f"{folder} holds no held-out conversation that fits the context of {context}")
    return tuple(rows), tuple(titles), tuple(prompts)
