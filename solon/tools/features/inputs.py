"""`solon features RUN --dictionary FOLDER`: which features moved between the model that a run of `solon
align` began with and the one it ended on.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from solon.commands.export import stage
from solon.commands.show import find
from solon.data.rows import from_messages
from solon.errors import InputError
from solon.interpretability.dictionary_files import read_autoencoder
from solon.models.base import Tokens
from solon.models.load import load_open
from solon.study.legacy import StudyOptions, content_hash, model_key, parse, run_study, say
from solon.tools.features.study import Inputs, Settings, study
from solon.words.conversation import Conversation


@dataclass(frozen=True)
class Options(StudyOptions):
    """Hold the features of a dictionary in two models against each other, on the held-out prompts and replies
    of a run.
    """

    run: Annotated[str, tyro.conf.Positional] = ""
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


def main(argv: Sequence[str]) -> int:
    options = parse(Options, argv, command="features")
    if not options.run or options.dictionary is None or options.limit < 2:
        raise InputError("solon features needs a run of solon align, --dictionary, and a limit of at least 2")
    folder = find(options.runs, options.run)
    if not (folder / "model").exists() or not (folder / "held_out_final.jsonl").exists():
        raise InputError(
            f"{folder} is no finished run of solon align: it holds no model, or no held_out_final.jsonl"
        )
    inside = options.dictionary / "dictionary"
    path = inside if inside.exists() else options.dictionary
    own, config = read_autoencoder(path)
    layer = options.layer or layer_in(config)
    began = options.before or str(json.loads((folder / "run.json").read_text())["model"])
    before, after = (
        load_open(name, precision=options.precision, say=say) for name in (began, str(folder / "model"))
    )
    counts = dict[str, int]()
    rows, titles, prompts = conversations(
        folder, before.dialogue, min(before.context, after.context), options.limit, counts
    )
    tokenizer: Any = getattr(before.dialogue, "tokenizer", None)
    told = config.get("metadata")
    about: dict[str, Any] = told if isinstance(told, dict) else {}
    skip, limit = (
        int(about.get("skipped_first_tokens", 1)),
        float(about.get("longest_activation") or math.inf),
    )
    inputs = Inputs(
        before,
        after,
        own,
        layer,
        rows,
        titles,
        prompts,
        lambda token: str(tokenizer.decode([token])) if tokenizer else f"{token} ",
        counts,
        skip,
        limit,
    )
    hashes = {
        "before": model_key(before),
        "after": model_key(after),
        "dictionary": content_hash(path),
        "layer": str(layer),
        "rows": hashlib.sha256(repr(rows).encode()).hexdigest()[:16],
    }
    settings = options.settings
    return run_study(
        options, "features", asdict(settings), hashes, after.name, lambda run: study(run, settings, inputs)
    )


def layer_in(config: dict[str, Any]) -> int:
    """The layer that a dictionary's site names: the number in it, from 1. Raises InputError where it names
    none.
    """
    told = config.get("metadata")
    name = str((told.get("hook_name") if isinstance(told, dict) else None) or config.get("hook_name") or "")
    if any(word in name for word in ("mlp", "attn", "hook_z")):
        raise InputError(f"the dictionary is of {name!r}, which is not the residual stream after a layer")
    numbers = [part for part in name.split(".") if part.isdigit()]
    if len(numbers) != 1:
        raise InputError(
            f"the dictionary does not say after which layer it stands ({name!r}); give --layer, from 1"
        )
    return int(numbers[0]) + (0 if "resid_pre" in name else 1)


def conversations(
    folder: Path, form: Any, context: int, limit: int, counts: dict[str, int]
) -> tuple[tuple[Tokens, ...], tuple[str, ...], tuple[str, ...]]:
    """Held-out prompts with the replies of the first model, and with those of the last, in turn."""
    rows, titles, prompts = list[Tokens](), list[str](), list[str]()
    kinds = [(kind, stage(folder, f"held_out_{kind}")) for kind in ("start", "final")]
    for number in range(max(len(found) for _, found in kinds)):
        for kind, found in kinds:
            if number >= len(found) or len(rows) >= limit:
                continue
            prompt: Conversation = from_messages(found[number]["prompt"])
            reply = str(found[number]["replies"][0]["text"])
            row = form.prompt(prompt) + form.reply(prompt, reply)
            if len(row) > context:
                counts["conversations too long for the context, left out"] = (
                    counts.get("conversations too long for the context, left out", 0) + 1
                )
                continue
            rows.append(row)
            titles.append(f"{kind}'s reply to: {prompt.last}")
            prompts.append(prompt.key)
    if not rows:
        raise InputError(f"{folder} holds no held-out conversation that fits the context of {context}")
    return tuple(rows), tuple(titles), tuple(prompts)
