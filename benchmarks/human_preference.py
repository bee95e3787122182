"""How well a frozen SmolLM2 predicts people's harmlessness comparisons: splits that share no dialogue.

    python benchmarks/human_preference.py HH.jsonl.gz [--depth 0.6] [--splits 20] [--ending TEXT]

The head of `start_head` (ridge-logistic, penalty cross-validated on the training side) on end-of-context
states, about 400 held-out pairs a split. Prints accuracy a split with its Wilson interval, the mean over the
first three splits and over all. `--ending` reads the score after another text than the opening of the human's
next turn, '<|im_end|><|endoftext|>' say.
"""

from __future__ import annotations

import argparse
import random
from dataclasses import replace
from pathlib import Path

import numpy as np

from solon.alignment.preference import PreferenceModel, end_states, ridge_head
from solon.data.published import first_human_text, read_comparisons
from solon.models.dialogue import ChatTemplate
from solon.models.load import load_open
from solon.models.scalar import ScalarModel
from solon.statistics.intervals import wilson


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--depth", type=float, default=0.6)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--ending", default="")
    options = parser.parse_args()
    comparisons = read_comparisons(options.pairs).rows
    start = load_open(options.model)
    body = start.module.first_layers(max(1, round(options.depth * start.module.depth)))
    form = start.dialogue
    if options.ending and isinstance(form, ChatTemplate):
        form = replace(
            form, context_end=tuple(form.tokenizer.encode(options.ending, add_special_tokens=False))
        )
    pm = PreferenceModel("frozen", ScalarModel(body), form)
    fitting = [c for c in comparisons if pm.fits_context(c)]
    states = end_states(pm, fitting)
    print(
        f"{len(fitting)} comparisons, {body.depth} of {start.module.depth} layers, states of "
        f"{states.shape[-1]}"
    )
    names = sorted({first_human_text(c.prompt) for c in fitting})
    shares = []
    for split in range(options.splits):
        order = random.Random(split).sample(names, len(names))
        rank = {name: place for place, name in enumerate(order)}
        places = sorted(range(len(fitting)), key=lambda place: rank[first_human_text(fitting[place].prompt)])
        test, train = places[:400], places[400:]
        labels = np.array([fitting[place].p_first for place in train])
        # half the pairs swapped, as in training
        turned = np.array([place % 2 for place in range(len(train))], dtype=bool)
        both = states[train]
        both[turned], labels[turned] = both[turned][:, ::-1], 1 - labels[turned]
        head = ridge_head(both, labels)
        right = int(((states[test, 0] - states[test, 1]) @ head > 0).sum())
        shares.append(right / len(test))
        print(f"split {split}: {wilson(right, len(test))}, trained on {len(train)}")
    for first in sorted({min(3, len(shares)), len(shares)}):
        print(
            f"mean over {first} splits: {np.mean(shares[:first]):.3f}, sd "
            f"{np.std(shares[:first], ddof=1):.3f}"
        )


if __name__ == "__main__":
    main()
