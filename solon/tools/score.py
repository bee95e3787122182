"""`solon score MODEL PROMPT --reply ... | --choices ...`, or a file of them: how likely replies are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro

from solon.data.rows import from_messages, to_messages
from solon.data.tables import read_rows
from solon.errors import InputError
from solon.models.base import Sample
from solon.models.choice import choice_from_samples
from solon.models.load import load_open
from solon.models.pooled import ModelSource, load_cached
from solon.models.torch_model import TorchModel
from solon.models.trie import build_trie
from solon.pool.workers import pool_of
from solon.records.codecs import from_sample
from solon.records.progress import spoken
from solon.records.run import Run, digest
from solon.study.legacy import answer, interruptible, parse, say
from solon.words.conversation import Conversation


@dataclass(frozen=True)
class Options:
    """Log-probabilities, in nats, of a given reply's tokens; or the belief over choices."""

    model: Annotated[str, tyro.conf.Positional]
    prompt: Annotated[str, tyro.conf.Positional] = ""
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
    precision: str = "auto"
    json: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """One row: a prompt and the texts to score after it, as alternatives or each for itself."""

    prompt: Conversation
    texts: tuple[str, ...]
    choices: bool

    @property
    def key(self) -> str:
        return digest(self.prompt.key, self.texts, self.choices)


def main(argv: Sequence[str]) -> int:
    options = parse(Options, argv, command="score")
    if options.requests and (options.prompt or options.reply or options.choices or options.opening):
        raise InputError("--requests names a file of prompts and texts; give no others beside it")
    model = load_open(options.model, precision=options.precision, say=say)
    if options.requests is not None and not options.dry_run:
        return many(model, options.requests, options)
    asked = list(read(options.requests)) if options.requests else [single(options)]
    prompts, texts = (
        [row.prompt for row in asked for _ in row.texts],
        [text for row in asked for text in row.texts],
    )
    if options.dry_run:
        return dry_run(model, prompts, texts, options)
    own = model.score(prompts, texts, truncate=options.truncate)
    return answer(
        {"model": model.name, **found(asked[0], own)}, "\n".join(lines(asked[0], own)), as_json=options.json
    )


def many(model: TorchModel, path: Path, options: Options) -> int:
    """A file of any length: it is read twice, to check it and to score it, and only a few chunks of it are in
    memory.
    """
    keys, count, texts = hashlib.sha256(), 0, 0
    for row in read(path):
        keys.update(row.key.encode())
        count, texts = count + 1, texts + len(row.texts)
    inputs = {"model": model.fingerprint, "requests": keys.hexdigest()[:16]}
    pool = pool_of(options.workers)
    given = model if pool is None else ModelSource(options.model, options.precision)
    work = partial(scored, given, truncate=options.truncate, weights=model.fingerprint)
    settings, facts = {"truncate": options.truncate}, {"model": model.name}
    with (
        interruptible() as stop,
        Run.open(
            options.runs, "score", settings, inputs, seed=0, facts=facts, progress=spoken(), stop=stop
        ) as run,
    ):
        rows = run.stream("scored", read(path), lambda row: row.key, work, total=count, size=64, pool=pool)
        cut = sum(row["cut"] > 0 for row in rows)
        kept = run.folder / "scored.jsonl"
    human = f"scored {texts} texts after {count} prompts; {cut} prompts cut on the left\n{kept}"
    return answer(
        {"model": model.name, "rows": str(kept), "n": count, "cut": cut}, human, as_json=options.json
    )


def scored(
    model: TorchModel | ModelSource, some: Sequence[Asked], *, truncate: bool, weights: str
) -> list[dict[str, Any]]:
    """A row of each: its prompt, and what `found` says of its texts. A worker is given what to load, once.

    Raises InputError where a worker has found other weights under that name.
    """
    if isinstance(model, ModelSource):
        model = load_cached(model)
    if model.fingerprint != weights:
        raise InputError(
            f"a worker has other weights of {model.name} ({model.fingerprint}, not {weights}); give all "
            "the same files and precision"
        )
    flat = [(row.prompt, text) for row in some for text in row.texts]
    samples = iter(model.score([prompt for prompt, _ in flat], [text for _, text in flat], truncate=truncate))
    rows = []
    for row in some:
        own = [next(samples) for _ in row.texts]
        rows.append(
            {"prompt": to_messages(row.prompt), **found(row, own), "cut": max(sample.cut for sample in own)}
        )
    return rows


def single(options: Options) -> Asked:
    if bool(options.reply) == bool(options.choices) or not options.prompt:
        raise InputError("give a prompt and --reply or --choices (one of the two), or a file with --requests")
    prompt = Conversation().human(options.prompt)
    return Asked(
        prompt.assistant(options.opening) if options.opening else prompt,
        options.reply or options.choices,
        bool(options.choices),
    )


def read(path: Path) -> Iterator[Asked]:
    """Rows of a file. Raises InputError, with the line, on one that does not say what to score."""
    for number, row in read_rows(path):
        given = [name for name in ("reply", "replies", "choices") if row.get(name)]
        texts = [row[given[0]]] if given == ["reply"] else row[given[0]] if len(given) == 1 else None
        if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
            raise InputError(
                f"{path}, line {number}: expected one of reply (text), replies or choices (lists of texts, "
                f"none empty); found {given}"
            )
        if "messages" not in row and not isinstance(row.get("prompt"), str):
            raise InputError(
                f"{path}, line {number}: expected a prompt (text) or messages; found the fields {sorted(row)}"
            )
        try:
            prompt = (
                from_messages(row["messages"]) if "messages" in row else Conversation().human(row["prompt"])
            )
        except (TypeError, InputError) as error:
            raise InputError(f"{path}, line {number}: {error}") from error
        yield Asked(
            prompt.assistant(str(row["opening"])) if row.get("opening") else prompt,
            tuple(texts),
            given == ["choices"],
        )


def dry_run(
    model: TorchModel, prompts: Sequence[Conversation], texts: Sequence[str], options: Options
) -> int:
    planned = model.requests(prompts, texts, truncate=options.truncate)
    requests = [request for request, _ in planned]
    whole, unique = (
        sum(len(prompt) + len(reply) for prompt, reply in requests),
        build_trie(requests).unique_tokens,
    )
    cut = sum(own > 0 for _, own in planned)
    told = {
        "requests": len(requests),
        "tokens": whole,
        "unique_tokens": unique,
        "tokens_saved": whole - unique,
        "prompts_cut": cut,
    }
    return answer(
        {"model": model.name, **told},
        "\n".join(f"{name.replace('_', ' '):<14} {value}" for name, value in told.items()),
        as_json=options.json,
    )


def found(row: Asked, samples: Sequence[Sample]) -> dict[str, Any]:
    if row.choices:
        return {"choices": list(row.texts), **asdict(choice_from_samples(samples))}
    return {"replies": [from_sample(sample) for sample in samples]}


def lines(row: Asked, samples: Sequence[Sample]) -> list[str]:
    if not row.choices:
        return [
            f"{s.logprob:9.3f} nats  {len(s.tokens):3d} tokens  {s.logprob / len(s.tokens):7.3f} a token  "
            f"{s.text}"
            for s in samples
        ]
    one = choice_from_samples(samples)
    rows = zip(row.texts, one.belief, one.logprobs, one.tokens, strict=True)
    told = [
        f"{share:8.4f}  {logprob:9.3f} nats  {tokens:2d} tokens  {choice}"
        for choice, share, logprob, tokens in rows
    ]
    return [*told, f"mass on the choices together: {one.mass:.4f}"]
