"""A language model whose sampling and scoring run on a pool of workers, each with its own copy of the
weights.
"""

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

CHUNK = 32  # prompts that a worker gets at once


@dataclass(frozen=True, slots=True)
class ModelSource:
    """The name and precision of the model that a worker loads."""

    name: str
    precision: str = "auto"


@lru_cache(maxsize=2)
def load_cached(source: ModelSource) -> TorchModel:
    """This process's copy of the model, loaded once."""
    return load_open(source.name, precision=source.precision)


class PooledModel(TorchModel):
    """An open model whose `sample` and `score` run on a pool. Its copies, and training, run in this process.

    Results do not depend on the number of workers: rows are split into the same chunks whatever it is, and
    each row has its seeds. Against the same model without a pool, samples are equal and scores are equal to
    rounding.
    """

    def __init__(self, source: ModelSource, pool: Pool | None, model: TorchModel | None = None) -> None:
        model = model or load_cached(source)
        super().__init__(model.name, model.module, model.dialogue, source=model.source)
        self.model_source, self.pool = source, pool

    def sample_with_seeds(
        self, prompts: Sequence[Conversation], seeds: Sequence[Sequence[int]], **options: Any
    ) -> list[list[Sample]]:
        """See `TorchModel.sample_with_seeds`. Raises InputError with the prompt that cannot be sampled."""
        return self._map(partial(_sample, self.model_source, options), list(zip(prompts, seeds, strict=True)))

    def score(
        self, prompts: Sequence[Conversation], replies: Sequence[str], *, truncate: bool = False
    ) -> list[Sample]:
        """See `LanguageModel.score`. It is fastest where prompts that share a beginning are neighbours."""
        return self._map(
            partial(_score, self.model_source, truncate), list(zip(prompts, replies, strict=True))
        )

    def _map(self, work: Callable[[list[Any]], list[Any]], rows: list[Any]) -> list[Any]:
        """work(chunk) of each chunk on the pool, flattened. Raises InputError where a worker has other
        weights.
        """
        chunks = parallel_map(
            work, batched(rows, CHUNK), self.pool, name=lambda chunk: f"a part of {len(chunk)} prompts"
        )
        results = [result for chunk in chunks for result in chunk]
        samples = (
            sample for result in results for sample in (result if isinstance(result, list) else [result])
        )
        weights = {sample.weights for sample in samples} - {self.fingerprint}
        if weights:
            raise InputError(
                f"workers answered with other weights of {self.name} ({', '.join(weights)}); give all the "
                "same files"
            )
        return results


def _sample(
    source: ModelSource, options: dict[str, Any], rows: list[tuple[Conversation, Sequence[int]]]
) -> list[Any]:
    """In a worker: samples of each (prompt, seeds)."""
    model = load_cached(source)
    return name_failing_row(
        lambda part: model.sample_with_seeds(
            [prompt for prompt, _ in part], [seeds for _, seeds in part], **options
        ),
        rows,
    )


def _score(source: ModelSource, truncate: bool, rows: list[tuple[Conversation, str]]) -> list[Any]:
    """In a worker: the score of each (prompt, reply)."""
    model = load_cached(source)
    return name_failing_row(
        lambda part: model.score(
            [prompt for prompt, _ in part], [reply for _, reply in part], truncate=truncate
        ),
        rows,
    )


def name_failing_row(work: Callable[[list[Any]], list[Any]], rows: list[Any]) -> list[Any]:
    """work(rows). Where it raises, rows are tried one by one, and InputError says which prompt fails."""
    try:
        return work(rows)
    except Exception as error:
        for row in rows:
            try:
                work([row])
            except Exception as cause:
                raise InputError(f"the prompt that ends on {row[0].last[-80:]!r}: {cause}") from cause
        raise InputError(f"{len(rows)} prompts together, none of them alone: {error}") from error


def load_pooled(
    on: str, name: str, *, precision: str = "auto", say: Callable[[str], None] = lambda words: None
) -> Speaker:
    """The model `name`, in this process or on the workers that `on` names (see `pool_of`). A server has its
    own concurrency.

    Raises InputError where there is no such model, or `on` is not a pool.
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
    """`load_pooled` for a model whose weights are needed; a server raises InputError."""
    # downloaded, converted or refused once, before workers load it
    pool, model = pool_of(on), load_open(name, precision=precision, say=say)
    return model if pool is None else PooledModel(ModelSource(name, precision), pool, model)
