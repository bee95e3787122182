"""The induction heads of a model that is given: every head's exact scores, and what repeated text costs
without the best of them.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from solon.interpretability.induction import DRAWS, Head, ablate_heads, head_scores, repeated_sequences
from solon.models.base import derive
from solon.records.report import Claim, Figure, Line, Report, Table, number
from solon.records.run import Run
from solon.statistics.intervals import Estimate, mean, paired_difference
from solon.studies.induction_heads.settings import Given, Settings
from solon.study.claims import interval, sign

BLOCK, REPEATS = 25, 4


def study_model(run: Run, settings: Settings, given: Given) -> Report:
    """Scores of every head, then the best induction heads silenced together, beside as many others; every
    stage is kept.
    """
    body = given.model.module
    asked = repeated_sequences(given.tokens, seed=run.seed, start=given.start)

    def score() -> dict[str, Any]:
        found = head_scores(body, asked, given.text, start=len(given.start))
        return {name.removesuffix("_LH"): own.tolist() for name, own in asdict(found).items()}

    kept = run.once("scores", score)
    prefix = np.array(kept["prefix"])
    heads = prefix.shape[1]
    order: list[Head] = [
        (int(place) // heads, int(place) % heads) for place in np.argsort(-prefix, axis=None)
    ]
    top, others = order[: settings.top], order[settings.top * 2 :]
    counts = sorted({1, 2, 5, settings.top} & set(range(1, settings.top + 1)))
    groups = [("best", count, top[:count]) for count in counts]
    rng = random.Random(derive(run.seed, "others"))
    groups += [
        ("others", settings.top, rng.sample(others, min(settings.top, len(others))))
        for _ in range(settings.random_draws)
    ]
    first = len(given.start) + BLOCK  # losses begin at the second token

    def silence(some: Sequence[Group]) -> list[dict[str, Any]]:
        made = []
        for _, _, group in some:
            clean, gone = ablate_heads(body, asked, group, at_once=2)
            later = slice(first, None)  # predictions of tokens that stood before
            made.append(
                {
                    "clean": clean[:, later].mean(dim=1).tolist(),
                    "after": gone[:, later].mean(dim=1).tolist(),
                    "fresh": clean[:, : first - 1].mean(dim=1).tolist(),
                }
            )
        return made

    rows = run.rows("silenced", groups, lambda own: f"{own[0]} {own[1]} {own[2]}", silence, size=1)
    return report(settings, given, kept, list(zip(groups, rows, strict=True)), order)


Group = tuple[str, int, list[Head]]


def report(
    settings: Settings,
    given: Given,
    kept: Mapping[str, Any],
    silenced: Sequence[tuple[Group, Mapping[str, Any]]],
    order: Sequence[Head],
) -> Report:
    prefix, copying, previous, error = (
        np.array(kept[name]) for name in ("prefix", "copying", "previous", "prefix_error")
    )
    heads, top = prefix.shape[1], order[: settings.top]
    cost = {
        count: paired_difference(row["after"], row["clean"])
        for (kind, count, _), row in silenced
        if kind == "best"
    }
    apart = [
        float(np.mean(row["after"])) - float(np.mean(row["clean"]))
        for (kind, *_), row in silenced
        if kind == "others"
    ]
    gain = paired_difference(silenced[0][1]["clean"], silenced[0][1]["fresh"])
    claims = [
        Claim.of(
            "repeats",
            f"Loss on repeated random tokens less that on their first {BLOCK} (nats)",
            gain,
            None if (up := sign(gain)) is None else not up,
        ),
        _best_claim(prefix, error, order[0]),
    ]
    claims += [
        Claim.of(
            f"silenced/{count}",
            f"Loss on repeats without the {count} best induction heads, patterns held, less that with them "
            "(nats)",
            own,
            sign(own),
        )
        for count, own in cost.items()
    ]
    if len(apart) > 1 and prefix.size >= 3 * settings.top:
        claims.append(
            Claim.of(
                "silenced/others",
                f"The same without {settings.top} heads drawn from those behind the best "
                f"{2 * settings.top}, over draws",
                mean(apart),
                None,
            )
        )
    listed = tuple(
        (
            f"{layer}.{head}",
            f"{number(prefix[layer, head])} ({number(error[layer, head])})",
            number(copying[layer, head]),
            number(previous[layer, head]),
        )
        for layer, head in top
    )
    tables = [
        Table(
            "Induction heads",
            ("layer.head, from 0", "prefix matching (error)", "copying", "previous token"),
            listed,
            "Highest prefix matching first.",
        )
    ]
    before = [(int(place) // heads, int(place) % heads) for place in np.argsort(-previous, axis=None)][:5]
    seen = tuple(
        (f"{layer}.{head}", number(previous[layer, head]), number(prefix[layer, head]))
        for layer, head in before
    )
    tables.append(
        Table(
            "Previous-token heads", ("layer.head, from 0", "previous token, on text", "prefix matching"), seen
        )
    )
    tables.append(
        Table(
            "Without the best",
            ("heads silenced", "nats added on repeats"),
            tuple((str(count), interval(own)) for count, own in cost.items()),
        )
    )
    layers = tuple(float(layer) for layer in range(len(prefix)))
    lines = (
        Line("prefix matching", layers, tuple(map(float, prefix.max(axis=1)))),
        Line("previous token", layers, tuple(map(float, previous.max(axis=1)))),
    )
    figures = (Figure("Best head of each layer", "layer, from 0", "attention", lines),)
    strong = int((prefix >= 0.3).sum())
    summary = (
        f"{given.model.name}: {prefix.size} heads in {len(prefix)} layers, on {DRAWS} draws of {BLOCK} "
        f"random tokens {REPEATS} times over; {strong} heads have "
        f"a prefix matching of 0.3 or more. Previous-token scores are of {len(given.text)} rows of text.",
    )
    title = f"Induction heads of {given.model.name}"
    return Report(
        title, summary, tuple(claims), (), tuple(tables), figures, (), dict(given.counts), DEVIATIONS, {}
    )


DEVIATIONS = (
    "Random tokens are drawn from those of middle rank in the vocabulary; the paper leaves out the most "
    "and the least common.",
    "A head's copying is of what it writes straight through the final norm and the head of the model, up "
    "to a factor for each token.",
    "The in-context score over 512 tokens of natural text is not computed for a given model.",
)


def _best_claim(prefix: np.ndarray, error: np.ndarray, head: Head) -> Claim:
    half = 2.26 * float(error[head])  # t on 9 degrees of freedom: ten draws
    own = Estimate(
        float(prefix[head]), float(prefix[head]) - half, float(prefix[head]) + half, "t over draws", 10, 10
    )
    return Claim.of(
        "prefix",
        f"Prefix matching of the best head, {head[0]}.{head[1]} (above 0.5 asked for)",
        own,
        sign(own, 0.5),
    )
