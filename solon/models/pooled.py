"""A language model whose calls are spread over workers, each with the weights in hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from solon.errors import InputError
from solon.models.base import Sample, Speaker
from solon.models.load import load_open, load_speaker
from solon.models.torch_model import TorchModel
from solon.pool.maps import Pool, batched, parallel_map
from solon.pool.workers import pool_of
from solon.words.conversation import Conversation

PART = 32  # prompts of one piece of work


@dataclass(frozen=True, slots=True)
class ModelSource:
    """What a worker loads."""

    name: str
    precision: str = "auto"


@lru_cache(maxsize=2)
def load_cached(source: ModelSource) -> TorchModel:
    """The model of this process."""
    return load_open(source.name, precision=source.precision)


class PooledModel(TorchModel):
    """An open model whose sampling and scoring run over a pool; copies of it, and what is trained on it, run
    here. What it returns does not depend on the number of workers: rows are cut into the same parts whatever
    it is, and each brings its seeds. A model that is not spread cuts its rows otherwise: its samples are the
    same, its scores are to rounding.
    """

    def __init__(self, source: ModelSource, pool: Pool | None, model: TorchModel | None = None) -> None:
        model = model or load_cached(source)
        super().__init__(model.name, model.module, model.dialogue, source=model.source)
        self.given, self.pool = source, pool

    def sample_with_seeds(
        self, prompts: Sequence[Conversation], seeds: Sequence[Sequence[int]], **how: Any
    ) -> list[list[Sample]]:
        """See `TorchModel.drawn`. Raises InputError, which names the prompt, where one cannot be sampled."""
        return self._spread(partial(_drawn, self.given, how), list(zip(prompts, seeds, strict=True)))

    def score(
        self, prompts: Sequence[Conversation], replies: Sequence[str], *, truncate: bool = False
    ) -> list[Sample]:
        """See `LanguageModel.score`. Prompts that share a beginning are best given as neighbours."""
        return self._spread(partial(_scored, self.given, truncate), list(zip(prompts, replies, strict=True)))

    def _spread(self, work: Callable[[list[Any]], list[Any]], rows: list[Any]) -> list[Any]:
        made = parallel_map(
            work, batched(rows, PART), self.pool, name=lambda part: f"a part of {len(part)} prompts"
        )
        found = [own for part in made for own in part]
        weights = {
            sample.weights for own in found for sample in (own if isinstance(own, list) else [own])
        } - {self.fingerprint}
        if weights:
            raise InputError(
                f"workers answered with other weights of {self.name} ({', '.join(weights)}); give all the "
                "same files"
            )
        return found


def _drawn(
    source: ModelSource, how: dict[str, Any], rows: list[tuple[Conversation, Sequence[int]]]
) -> list[Any]:
    model = load_cached(source)
    return name_failing_row(
        lambda some: model.sample_with_seeds(
            [prompt for prompt, _ in some], [seeds for _, seeds in some], **how
        ),
        rows,
    )


def _scored(source: ModelSource, truncate: bool, rows: list[tuple[Conversation, str]]) -> list[Any]:
    model = load_cached(source)
    return name_failing_row(
        lambda some: model.score(
            [prompt for prompt, _ in some], [reply for _, reply in some], truncate=truncate
        ),
        rows,
    )


def name_failing_row(work: Callable[[list[Any]], list[Any]], rows: list[Any]) -> list[Any]:
    """work(rows); where it raises, the rows are tried one by one, so that the error can name the row."""
    try:
        return work(rows)
    except Exception as error:
        for row in rows:
            try:
                work([row])
            except Exception as own:
                raise InputError(f"the prompt that ends on {row[0].last[-80:]!r}: {own}") from own
        raise InputError(f"{len(rows)} prompts together, none of them alone: {error}") from error


def load_pooled(
    on: str, name: str, *, precision: str = "auto", say: Callable[[str], None] = lambda words: None
) -> Speaker:
    """The model of that name, here or on workers as `on` says (see `pool_of`). A server spreads its own work.

    Raises InputError where there is no such model or no such place.
    """
    served = name.startswith(("http://", "https://", "vllm:"))
    return (
        load_speaker(name, precision=precision, say=say)
        if served
        else load_open_pooled(on, name, precision=precision, say=say)
    )


def load_open_pooled(
    on: str, name: str, *, precision: str = "auto", say: Callable[[str], None] = lambda words: None
) -> TorchModel:
    """The same for a model whose weights are in hand."""
    # fetched, converted or refused here, once
    pool, model = pool_of(on), load_open(name, precision=precision, say=say)
    return model if pool is None else PooledModel(ModelSource(name, precision), pool, model)
