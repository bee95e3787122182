"""Endless shuffled batches of activations, which can start at any batch.

Rows of text are read in chunks. A chunk's activations are divided at random into parts, and each pool of
batches combines one part of each of the last few chunks. So a batch mixes rows of several chunks, and a
stream that starts at batch n computes only the chunks of its pool.

Shapes: B activations of a batch, D channels.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from solon.errors import InputError
from solon.models.activations import layer_sites, record_outputs
from solon.models.backbones.backbone import Backbone, pad
from solon.models.base import Tokens, derive

PARTS = 4  # chunks in a pool


def activation_batches(
    harvest: Callable[[Sequence[int]], Tensor],
    rows: int,
    *,
    chunk: int,
    size: int,
    seed: int,
    start: int = 0,
    parts: int = PARTS,
) -> Iterator[Tensor]:
    """Batches (size, D) from index `start` on. `harvest(indices)` gives the activations of rows, as many for
    each; every epoch shuffles the rows anew. A pool's remainder that fills no batch is left out, as are the
    missing parts of the first pools.

    Raises InputError where rows do not fill a chunk, or a chunk a batch.
    """
    if rows < chunk or chunk < 1:
        raise InputError(f"{rows} rows do not fill one chunk of {chunk}; give more text, or less in a chunk")
    per_epoch, per_row = rows // chunk, len(harvest([0]))
    per_chunk = chunk * per_row
    per_pool = per_chunk // size
    if per_pool < 1:
        raise InputError(
            f"a chunk of {chunk} rows with {per_row} activations each does not fill a batch of {size}"
        )

    def chunked(number: int) -> list[Tensor]:
        """One chunk's activations in parts."""
        epoch, position = divmod(number, per_epoch)
        order = torch.randperm(rows, generator=_generator(seed, "rows", epoch))[
            position * chunk : (position + 1) * chunk
        ]
        activations = harvest(order.tolist())
        dealt = torch.randperm(per_chunk, generator=_generator(seed, "deal", number))
        return [activations[dealt[first : first + length]] for length, first in _parts(per_chunk, parts)]

    pool, skipped = divmod(start, per_pool)
    chunks: deque[list[Tensor]] = deque(
        (chunked(number) for number in range(pool, pool + parts - 1)), maxlen=parts
    )
    for number in itertools.count(pool):
        chunks.append(chunked(number + parts - 1))
        mixed = torch.cat([chunk_parts[parts - 1 - age] for age, chunk_parts in enumerate(chunks)])
        order = torch.randperm(len(mixed), generator=_generator(seed, "pool", number))
        for batch in range(skipped, per_pool):
            yield mixed[order[batch * size : (batch + 1) * size]]
        skipped = 0


def _parts(total: int, parts: int) -> list[tuple[int, int]]:
    """(length, start) of parts of nearly equal length."""
    edges = [total * part // parts for part in range(parts + 1)]
    return [(last - first, first) for first, last in itertools.pairwise(edges)]


def _generator(seed: int, *names: object) -> torch.Generator:
    return torch.Generator().manual_seed(derive(seed, *names))


def harvester(
    backbone: Backbone, rows: Sequence[Tokens], layer: int, *, skip: int = 1, tokens: int = 4096
) -> Callable[[Sequence[int]], Tensor]:
    """A function from indices of rows to the residual stream after `layer` (from 1), at every token but the
    first `skip` of each row, whose activations are often a hundred times as large. Later layers are not
    computed where the backbone can be truncated. `tokens` limits a forward pass.

    Raises InputError on a layer that does not exist, rows of several lengths, and (when called) on
    activations that are not finite.
    """
    sites = layer_sites(backbone)
    if not 1 <= layer <= len(sites):
        raise InputError(f"no layer {layer}; there are 1 to {len(sites)}: {', '.join(sites)}")
    lengths = {len(row) for row in rows}
    if len(lengths) != 1 or min(lengths) <= skip:
        raise InputError(f"rows have to be of one length above {skip}; found {sorted(lengths)[:5]}")
    backbone.requires_grad_(False)  # the truncated backbone shares them
    site = sites[layer - 1]
    try:
        short = backbone.first_layers(layer)
    except InputError:  # an architecture that cannot be truncated is computed whole
        short = backbone
    at_once = max(1, tokens // lengths.pop())

    def harvest(indices: Sequence[int]) -> Tensor:
        outputs = []
        for first in range(0, len(indices), at_once):
            batch = [rows[index] for index in indices[first : first + at_once]]
            with torch.inference_mode(), record_outputs(short, [site]) as recorded:
                short.hidden(pad(batch, short.device))
                outputs.append(recorded[site][:, skip:].flatten(0, 1).float().cpu())
        activations = torch.cat(outputs).clone()
        bad = int((~torch.isfinite(activations)).any(dim=1).sum())
        if bad:
            raise InputError(
                f"{bad} of {len(activations)} activations after layer {layer} are not finite; "
                "try --precision float32"
            )
        return activations

    return harvest


def within_norm(stream: Iterator[Tensor], limit: float) -> Iterator[Tensor]:
    """The batches without activations of a norm above `limit`."""
    for x_BD in stream:
        yield x_BD[x_BD.norm(dim=1) <= limit]


def pack_tokens(
    encode: Callable[[str], Sequence[int]],
    texts: Iterable[str],
    length: int,
    *,
    end: Sequence[int] = (),
    most: int | None = None,
) -> list[Tokens]:
    """Texts, each followed by `end`, concatenated and cut into at most `most` rows of `length` tokens; an
    incomplete last row is left out.

    >>> pack_tokens(lambda text: [ord(letter) - 97 for letter in text], ["abc", "de"], 2, end=[9])
    [(0, 1), (2, 9), (3, 4)]
    """
    rows, open_ = list[Tokens](), list[int]()
    for text in texts:
        open_ += [*encode(text), *end]
        count = len(open_) // length
        rows += [tuple(open_[length * number : length * (number + 1)]) for number in range(count)]
        del open_[: length * count]
        if most is not None and len(rows) >= most:
            return rows[:most]
    return rows
