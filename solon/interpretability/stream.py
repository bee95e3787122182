"""Activations as shuffled batches, without end, from any batch on.

Rows of text are read in chunks; the activations of a chunk are dealt at random into parts, and each pool of
batches is made of one part of each of the last few chunks. So neighbours in a batch are from several chunks
of rows, a batch costs no more than its own copy, and a stream that is begun again at batch n computes only
the few chunks that its pool is made of.

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

PARTS = 4  # chunks that a pool is mixed from


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
    """Batches (size, D), from number `start` on. `harvest` gives the activations of some of the `rows`, the
    same number for each; every epoch has its own order of rows. What is left of a pool that is not a multiple
    of `size` is left out, as are the first pools' missing parts.

    Raises InputError where a pool would not fill a batch.
    """
    if rows < chunk or chunk < 1:
        raise InputError(f"{rows} rows do not fill one chunk of {chunk}; give more text, or less in a chunk")
    per_epoch, per_row = rows // chunk, len(harvest([0]))
    whole = chunk * per_row
    per_pool = whole // size
    if per_pool < 1:
        raise InputError(
            f"a chunk of {chunk} rows with {per_row} activations each does not fill a batch of {size}"
        )

    def chunked(number: int) -> list[Tensor]:
        """One chunk's activations in parts."""
        epoch, place = divmod(number, per_epoch)
        order = torch.randperm(rows, generator=_generator(seed, "rows", epoch))[
            place * chunk : (place + 1) * chunk
        ]
        activations = harvest(order.tolist())
        dealt = torch.randperm(whole, generator=_generator(seed, "deal", number))
        return [activations[dealt[first : first + length]] for length, first in _parts(whole, parts)]

    pool, skipped = divmod(start, per_pool)
    held: deque[list[Tensor]] = deque(
        (chunked(number) for number in range(pool, pool + parts - 1)), maxlen=parts
    )
    for number in itertools.count(pool):
        held.append(chunked(number + parts - 1))
        mixed = torch.cat([own[parts - 1 - age] for age, own in enumerate(held)])
        order = torch.randperm(len(mixed), generator=_generator(seed, "pool", number))
        for place in range(skipped, per_pool):
            yield mixed[order[place * size : (place + 1) * size]]
        skipped = 0


def _parts(whole: int, parts: int) -> list[tuple[int, int]]:
    """(length, first place) of parts as equal as can be."""
    edges = [whole * part // parts for part in range(parts + 1)]
    return [(last - first, first) for first, last in itertools.pairwise(edges)]


def _generator(seed: int, *names: object) -> torch.Generator:
    return torch.Generator().manual_seed(derive(seed, *names))


def harvester(
    body: Backbone, rows: Sequence[Tokens], layer: int, *, skip: int = 1, tokens: int = 4096
) -> Callable[[Sequence[int]], Tensor]:
    """A function that gives the residual stream after `layer` (from 1) of some rows, at every token but the
    first `skip` of each, whose activations are often a hundred times the others'. Layers above are not
    computed where the body can be cut, and no hook outlives a call. Rows are of one length.

    Raises InputError on a layer that is not there, rows of several lengths, and (when called) on activations
    that are not finite.
    """
    sites = layer_sites(body)
    if not 1 <= layer <= len(sites):
        raise InputError(f"no layer {layer}; there are 1 to {len(sites)}: {', '.join(sites)}")
    lengths = {len(row) for row in rows}
    if len(lengths) != 1 or min(lengths) <= skip:
        raise InputError(f"rows have to be of one length above {skip}; found {sorted(lengths)[:5]}")
    body.requires_grad_(False)  # shared with the shorter body, not copied
    site = sites[layer - 1]
    try:
        short = body.first_layers(layer)
    except InputError:  # an architecture that cannot be cut: all of it is computed
        short = body
    at_once = max(1, tokens // lengths.pop())

    def harvest(places: Sequence[int]) -> Tensor:
        found = []
        for first in range(0, len(places), at_once):
            some = [rows[place] for place in places[first : first + at_once]]
            with torch.inference_mode(), record_outputs(short, [site]) as kept:
                short.hidden(pad(some, short.device))
                found.append(kept[site][:, skip:].flatten(0, 1).float().cpu())
        whole = torch.cat(found).clone()
        bad = int((~torch.isfinite(whole)).any(dim=1).sum())
        if bad:
            raise InputError(
                f"{bad} of {len(whole)} activations after layer {layer} are not finite; try --precision "
                "float32"
            )
        return whole

    return harvest


def within_norm(stream: Iterator[Tensor], limit: float) -> Iterator[Tensor]:
    """The same batches without activations longer than `limit`."""
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
    """Texts one after another, each with its end, cut into rows of `length` tokens, `most` of them at the
    most; what does not fill the last row is left out.

    >>> pack_tokens(lambda text: [ord(letter) - 97 for letter in text], ["abc", "de"], 2, end=[9])
    [(0, 1), (2, 9), (3, 4)]
    """
    rows, open_ = list[Tokens](), list[int]()
    for text in texts:
        open_ += [*encode(text), *end]
        whole = len(open_) // length
        rows += [tuple(open_[length * place : length * (place + 1)]) for place in range(whole)]
        del open_[: length * whole]
        if most is not None and len(rows) >= most:
            return rows[:most]
    return rows
