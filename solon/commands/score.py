"""`solon score MODEL PROMPT --reply ... | --choices ...`, or a file of them: how likely replies are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from solon.errors import InputError
from solon.models.base import Sample
from solon.models.choice import choice_from_samples
from solon.models.load import load_open
from solon.models.pooled import ModelSource
from solon.models.torch_model import TorchModel
from solon.study.console import answer, say
from solon.study.options import Model, Precision, parse
from solon.tools.score import Request, plan, read_requests, result_of, score_file
from solon.words.conversation import Conversation


@dataclass(frozen=True)
class Options:
    """Log-probabilities, in nats, of a given reply's tokens; or the belief over choices."""

    model: Model
    prompt: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PROMPT")] = ""
    """what the human says"""
    opening: str = ""
    """how the assistant's turn has begun; replies and choices go on from it"""
    reply: tuple[str, ...] = ()
    """one or more replies to score"""
    choices: tuple[str, ...] = ()
    """two or more choices to believe in"""
    requests: Path | None = None
    """a file of many: rows with prompt (text) or messages, perhaps opening, and reply, replies or choices"""
    runs: Path = Path("runs")
    """where the scored rows of --requests are kept; the same command again goes on from what is there"""
    truncate: bool = False
    """cut prompts that do not fit the context on the left, and say how much, instead of refusing them"""
    dry_run: bool = False
    """say what would be computed, and compute nothing"""
    workers: str = "here"
    """where --requests runs: here, processes:N, ray, ray:N or ray:ADDRESS; the rows are the same to rounding
    """
    precision: Precision = "auto"
    json: bool = False


def main(argv: Sequence[str]) -> int:
    options = parse(Options, argv, command="score")
    if options.requests and (options.prompt or options.reply or options.choices or options.opening):
        raise InputError("--requests names a file of prompts and texts; give no others beside it")
    request = None if options.requests else single(options)
    model = load_open(options.model, precision=options.precision, say=say)
    if options.dry_run:
        requests = [request] if request else list(read_requests(options.requests or Path()))
        planned = plan(model, requests, truncate=options.truncate)
        lines = [f"{name.replace('_', ' '):<14} {value}" for name, value in planned.items()]
        return answer({"model": model.name, **planned}, "\n".join(lines), as_json=options.json)
    return many(model, options) if request is None else one(model, request, options)


def one(model: TorchModel, request: Request, options: Options) -> int:
    prompts = [request.prompt] * len(request.texts)
    samples = model.score(prompts, request.texts, truncate=options.truncate)
    result = {"model": model.name, **result_of(request, samples)}
    return answer(result, "\n".join(lines_of(request, samples)), as_json=options.json)


def many(model: TorchModel, options: Options) -> int:
    assert options.requests is not None
    scored = score_file(
        model,
        ModelSource(options.model, options.precision),
        options.requests,
        workers=options.workers,
        truncate=options.truncate,
        runs=options.runs,
    )
    human = (
        f"scored {scored.texts} texts after {scored.prompts} prompts; {scored.cut} prompts cut on the left"
    )
    result = {"model": model.name, "rows": str(scored.path), "n": scored.prompts, "cut": scored.cut}
    return answer(result, f"{human}\n{scored.path}", as_json=options.json)


def single(options: Options) -> Request:
    """The one request of the flags. Raises InputError where they are none."""
    if bool(options.reply) == bool(options.choices) or not options.prompt:
        raise InputError("give a prompt and --reply or --choices (one of the two), or a file with --requests")
    prompt = Conversation().human(options.prompt)
    opened = prompt.assistant(options.opening) if options.opening else prompt
    return Request(opened, options.reply or options.choices, bool(options.choices))


def lines_of(request: Request, samples: Sequence[Sample]) -> list[str]:
    """For a person: a line a reply or a choice."""
    if not request.choices:
        return [
            f"{sample.logprob:9.3f} nats  {len(sample.tokens):3d} tokens  "
            f"{sample.logprob / len(sample.tokens):7.3f} a token  {sample.text}"
            for sample in samples
        ]
    beliefs = choice_from_samples(samples)
    rows = zip(request.texts, beliefs.belief, beliefs.logprobs, beliefs.tokens, strict=True)
    listed = [
        f"{share:8.4f}  {logprob:9.3f} nats  {tokens:2d} tokens  {choice}"
        for choice, share, logprob, tokens in rows
    ]
    return [*listed, f"mass on the choices together: {beliefs.mass:.4f}"]
