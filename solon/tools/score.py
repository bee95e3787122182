"""How likely replies are: rows of a file of any length, planned, scored over a pool, and kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from solon.data.rows import from_messages, to_messages
from solon.data.tables import read_rows
from solon.errors import InputError
from solon.models.base import Sample
from solon.models.choice import choice_from_samples
from solon.models.pooled import ModelSource, load_cached
from solon.models.torch_model import TorchModel
from solon.models.trie import build_trie
from solon.pool.workers import pool_of
from solon.records.codecs import from_sample
from solon.records.progress import spoken
from solon.records.run import Run, digest
from solon.study.console import interruptible
from solon.words.conversation import Conversation


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt and the texts to score after it: as alternatives (`choices`), or each for itself."""

    prompt: Conversation
    texts: tuple[str, ...]
    choices: bool

    @property
    def key(self) -> str:
        return digest(self.prompt.key, self.texts, self.choices)


@dataclass(frozen=True, slots=True)
class ScoredFile:
    """Where the rows of a scored file are, and how many: prompts, texts, prompts cut on the left."""

    path: Path
    prompts: int
    texts: int
    cut: int


def score_file(
    model: TorchModel, source: ModelSource, requests: Path, *, workers: str, truncate: bool, runs: Path
) -> ScoredFile:
    """Every request of a file, kept under `runs`: the file is read twice, to check it and to score it, and
    only a few chunks of it are in memory. `source` is what workers load.
    """
    keys, count, texts = hashlib.sha256(), 0, 0
    for request in read_requests(requests):
        keys.update(request.key.encode())
        count, texts = count + 1, texts + len(request.texts)
    inputs = {"model": model.fingerprint, "requests": keys.hexdigest()[:16]}
    pool = pool_of(workers)
    work = partial(
        score_rows, model if pool is None else source, truncate=truncate, weights=model.fingerprint
    )
    settings, facts = {"truncate": truncate}, {"model": model.name}
    with (
        interruptible() as stop,
        Run.open(runs, "score", settings, inputs, seed=0, facts=facts, progress=spoken(), stop=stop) as run,
    ):
        rows = run.stream(
            "scored", read_requests(requests), lambda row: row.key, work, total=count, size=64, pool=pool
        )
        cut = sum(row["cut"] > 0 for row in rows)
        return ScoredFile(run.folder / "scored.jsonl", count, texts, cut)


def score_rows(
    model: TorchModel | ModelSource, requests: Sequence[Request], *, truncate: bool, weights: str
) -> list[dict[str, Any]]:
    """A row of each request: its prompt, what `result_of` says of its texts, and the tokens cut on the left.
    A worker is given what to load, once.

    Raises InputError where a worker finds other weights under that name.
    """
    if isinstance(model, ModelSource):
        model = load_cached(model)
    if model.fingerprint != weights:
        raise InputError(
            f"a worker has other weights of {model.name} ({model.fingerprint}, not {weights}); give all "
            "the same files and precision"
        )
    prompts = [request.prompt for request in requests for _ in request.texts]
    texts = [text for request in requests for text in request.texts]
    samples = iter(model.score(prompts, texts, truncate=truncate))
    rows = []
    for request in requests:
        scored = [next(samples) for _ in request.texts]
        cut = max(sample.cut for sample in scored)
        rows.append({"prompt": to_messages(request.prompt), **result_of(request, scored), "cut": cut})
    return rows


def read_requests(path: Path) -> Iterator[Request]:
    """Rows of a file. Raises InputError, with the line, on one that does not say what to score."""
    for number, row in read_rows(path):
        kinds = [name for name in ("reply", "replies", "choices") if row.get(name)]
        texts = [row[kinds[0]]] if kinds == ["reply"] else row[kinds[0]] if len(kinds) == 1 else None
        if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
            raise InputError(
                f"{path}, line {number}: expected one of reply (text), replies or choices (lists of texts, "
                f"none empty); found {kinds}"
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
        opened = prompt.assistant(str(row["opening"])) if row.get("opening") else prompt
        yield Request(opened, tuple(texts), kinds == ["choices"])


def plan(model: TorchModel, requests: Sequence[Request], *, truncate: bool) -> dict[str, int]:
    """What would be computed, in tokens, and what would be saved since prompts share beginnings."""
    prompts = [request.prompt for request in requests for _ in request.texts]
    texts = [text for request in requests for text in request.texts]
    planned = model.requests(prompts, texts, truncate=truncate)
    asked = [request for request, _ in planned]
    whole = sum(len(prompt) + len(reply) for prompt, reply in asked)
    unique = build_trie(asked).unique_tokens
    return {
        "requests": len(asked),
        "tokens": whole,
        "unique_tokens": unique,
        "tokens_saved": whole - unique,
        "prompts_cut": sum(cut > 0 for _, cut in planned),
    }


def result_of(request: Request, samples: Sequence[Sample]) -> dict[str, Any]:
    """The belief over choices, or every reply with its log-probabilities (nats)."""
    if request.choices:
        return {"choices": list(request.texts), **asdict(choice_from_samples(samples))}
    return {"replies": [from_sample(sample) for sample in samples]}
