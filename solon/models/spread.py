"""A language model whose calls are spread over workers, each with the weights in hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from solon.conversation import Conversation
from solon.errors import InputError
from solon.models.base import Sample, Speaker
from solon.models.load import load_open, load_speaker
from solon.models.torch_model import TorchModel
from solon.pool import Pool, mapped, parts, pool_of

PART = 32  # prompts of one piece of work


@dataclass(frozen=True, slots=True)
class Source:
    """What a worker loads."""

    name: str
    precision: str = "auto"


@lru_cache(maxsize=2)
def loaded(source: Source) -> TorchModel:
    """The model of this process."""
    return load_open(source.name, precision=source.precision)


class SpreadModel(TorchModel):
    """An open model whose sampling and scoring run over a pool; copies of it, and what is trained on it, run here. What it
    returns does not depend on the number of workers: rows are cut into the same parts whatever it is, and equal prompts stand
    in one part. A model that is not spread cuts its rows otherwise: its samples are the same, its scores are to rounding.
    """

    def __init__(self, source: Source, pool: Pool | None, model: TorchModel | None = None) -> None:
        model = model or loaded(source)
        super().__init__(model.name, model.module, model.dialogue, source=model.source)
        self.given, self.pool = source, pool

    def sample(
        self,
        prompts: Sequence[Conversation],
        *,
        count: int = 1,
        max_tokens: int = 512,
        temperature: float = 1.0,
        top_p: float = 1.0,
        stop: Sequence[str] = (),
        seed: int,
    ) -> list[list[Sample]]:
        """See `Speaker.sample`. Raises InputError, which names the prompt, where one cannot be sampled."""
        how = {"count": count, "max_tokens": max_tokens, "temperature": temperature, "top_p": top_p, "stop": tuple(stop), "seed": seed}
        work = partial(_sampled, self.given, how)
        return self._spread(work, prompts, [(prompt,) for prompt in prompts])

    def score(self, prompts: Sequence[Conversation], replies: Sequence[str], *, truncate: bool = False) -> list[Sample]:
        """See `LanguageModel.score`. Prompts that share a beginning are best given as neighbours."""
        work = partial(_scored, self.given, truncate)
        return self._spread(work, prompts, list(zip(prompts, replies, strict=True)))

    def _spread(self, work: Callable[[list[Any]], list[Any]], prompts: Sequence[Conversation], rows: list[Any]) -> list[Any]:
        cut = parts(prompts, lambda prompt: prompt.key, size=PART)
        given = [[rows[place] for place in places] for places in cut]
        found: dict[int, Any] = {}
        for places, made in zip(cut, mapped(work, given, self.pool, name=lambda part: f"a part of {len(part)} prompts"), strict=True):
            found |= dict(zip(places, made, strict=True))
        weights = {sample.weights for made in found.values() for sample in (made if isinstance(made, list) else [made])} - {self.fingerprint}
        if weights:
            raise InputError(f"workers answered with other weights of {self.name} ({', '.join(weights)}); give all the same files")
        return [found[place] for place in range(len(rows))]


def _sampled(source: Source, how: dict[str, Any], rows: list[tuple[Conversation]]) -> list[Any]:
    model = loaded(source)
    return blamed(lambda some: model.sample([prompt for (prompt,) in some], **how), rows)


def _scored(source: Source, truncate: bool, rows: list[tuple[Conversation, str]]) -> list[Any]:
    model = loaded(source)
    return blamed(lambda some: model.score([prompt for prompt, _ in some], [reply for _, reply in some], truncate=truncate), rows)


def blamed(work: Callable[[list[Any]], list[Any]], rows: list[Any]) -> list[Any]:
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


def spread_over(on: str, name: str, *, precision: str = "auto", say: Callable[[str], None] = lambda words: None) -> Speaker:
    """The model of that name, here or on workers as `on` says (see `pool_of`). A server spreads its own work.

    Raises InputError where there is no such model or no such place.
    """
    served = name.startswith(("http://", "https://", "vllm:"))
    return load_speaker(name, precision=precision, say=say) if served else spread_open(on, name, precision=precision, say=say)


def spread_open(on: str, name: str, *, precision: str = "auto", say: Callable[[str], None] = lambda words: None) -> TorchModel:
    """The same for a model whose weights are in hand."""
    pool, model = pool_of(on), load_open(name, precision=precision, say=say)  # fetched, converted or refused here, once
    return model if pool is None else SpreadModel(Source(name, precision), pool, model)
