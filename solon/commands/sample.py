"""`solon sample MODEL PROMPT`: replies to one prompt or to a file of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from solon.data.published import read_prompts
from solon.data.rows import to_messages
from solon.errors import InputError
from solon.models.pooled import load_pooled
from solon.records.codecs import from_sample
from solon.study.console import answer, say
from solon.study.options import Model, Precision, parse
from solon.words.conversation import Conversation


@dataclass(frozen=True)
class Options:
    """Sample replies. A reply depends on prompt, seed and settings, not on the other prompts."""

    model: Model = "smollm2"
    """smollm2, gemma3-270m, a folder, a hub id, or http://host:port/v1#model"""
    prompt: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PROMPT")] = ""
    """what the human says"""
    prompts: Path | None = None
    """a file of prompts instead"""
    system: str = ""
    """a system message before it"""
    count: int = 1
    max_tokens: int = 128
    temperature: float = 1.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int = 0
    workers: str = "here"
    """where it runs: here, processes:N, ray, ray:N or ray:ADDRESS; the replies are the same"""
    precision: Precision = "auto"
    json: bool = False


def main(argv: Sequence[str]) -> int:
    options = parse(Options, argv, command="sample")
    prompts = asked(options.prompt, options.prompts)
    if options.system:
        prompts = [prompt.system(options.system) for prompt in prompts]
    model = load_pooled(options.workers, options.model, precision=options.precision, say=say)
    groups = model.sample(
        prompts,
        count=options.count,
        max_tokens=options.max_tokens,
        temperature=options.temperature,
        top_p=options.top_p,
        stop=options.stop,
        seed=options.seed,
    )
    lines = []
    for prompt, group in zip(prompts, groups, strict=True):
        lines += [f"> {prompt.last}", *(f"{sample.text}  [{sample.stop.value}]" for sample in group), ""]
    rows = [
        {"prompt": to_messages(p), "replies": [from_sample(s) for s in group]}
        for p, group in zip(prompts, groups, strict=True)
    ]
    return answer(
        {"model": model.name, "seed": options.seed, "rows": rows},
        "\n".join(lines).rstrip(),
        as_json=options.json,
    )


def asked(prompt: str, file: Path | None) -> list[Conversation]:
    """One prompt or a file's. Raises InputError where neither or both are given."""
    if bool(prompt) == bool(file):
        raise InputError("give a prompt, or a file of them with --prompts (one of the two)")
    return list(read_prompts(file).rows) if file else [Conversation().human(prompt)]
