"""Whether a preference model of some models' replies judges another model's: annotations of AlpacaEval, one
file a model.

    python -m benchmarks.across_models FOLDER [--rows 300] [--depth 0.5]

For each file in turn: ridge heads on a frozen SmolLM2's end-of-context states learn from the other files'
comparisons, and from the file's own, on half of the instructions, and are measured on the file's comparisons
of the other half, of which no head saw an instruction. Beside them stands the share of comparisons that the
longer reply wins: what length alone would give. Every model is compared with one and the same strong model,
so what is learned is largely what that one's replies look like.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from solon.alignment.preference import PreferenceModel, end_states, ridge_head
from solon.data.exchange import read_public_comparisons
from solon.models.base import derive
from solon.models.load import load_open
from solon.models.scalar import ScalarModel
from solon.statistics.intervals import Estimate, paired_difference, proportion
from solon.study.stages import alternated
from solon.words.comparison import Comparison


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--depth", type=float, default=0.5)
    parser.add_argument("--model", default="smollm2")
    options = parser.parse_args()
    start = load_open(options.model)
    pm = PreferenceModel(
        "frozen",
        ScalarModel(start.module.first_layers(max(1, round(options.depth * start.module.depth)))),
        start.dialogue,
    )
    rows: dict[str, list[Comparison]] = {}
    for path in sorted(options.folder.glob("*.annotations.json.gz")):
        reading = read_public_comparisons(path)
        fitting = sorted(
            (c for c in reading.rows if pm.fits_context(c)), key=lambda c: derive(0, c.prompt.key)
        )[: options.rows]
        rows[path.name.removesuffix(".annotations.json.gz")] = alternated([c.hardened() for c in fitting])
        print(
            f"{path.name}: {len(reading.rows)} comparisons, {reading.counts()}; {len(fitting)} used",
            flush=True,
        )
    states = {name: end_states(pm, own) for name, own in rows.items()}
    columns = ("learned from others", "learned from its own", "others - own")
    print(f"{'measured on':<20}{''.join(f'{name:<48}' for name in columns)}longer reply wins")
    for name, own in rows.items():
        test = [place for place, c in enumerate(own) if held_out(c)]
        apart = {
            "others": [
                (other, place)
                for other in rows
                if other != name
                for place, c in enumerate(rows[other])
                if not held_out(c)
            ],
            "own": [(name, place) for place, c in enumerate(own) if not held_out(c)],
        }
        right = {}
        for kind, places in apart.items():
            learned = np.stack([states[other][place] for other, place in places])
            head = ridge_head(learned, np.array([rows[other][place].p_first for other, place in places]))
            scores = states[name][test] @ head
            right[kind] = [
                bool((scores[n, 0] > scores[n, 1]) == (own[place].p_first > 0.5))
                for n, place in enumerate(test)
            ]
        longer = [
            (len(own[place].first) > len(own[place].second)) == (own[place].p_first > 0.5) for place in test
        ]
        gap = paired_difference(
            [float(flag) for flag in right["others"]], [float(flag) for flag in right["own"]]
        )
        cells = [share(right["others"]), share(right["own"]), str(gap)]
        print(f"{name:<20}" + "".join(f"{cell:<48}" for cell in cells) + share(longer), flush=True)


def held_out(comparison: Comparison) -> bool:
    """By the instruction alone, which is the same in every file."""
    return derive(1, comparison.prompt.key) % 2 == 0


def share(flags: list[bool]) -> str:
    found: Estimate = proportion(flags, clusters=range(len(flags)))
    return str(found)


if __name__ == "__main__":
    main()
