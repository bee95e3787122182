"""Smooth and abrupt: abilities against definitions worked by hand, sums that never leak, a killed run."""

import random
from pathlib import Path

import pytest
import torch

from solon.errors import InputError
from solon.models.backbones.small import Shape, SmallTransformer
from solon.models.sampling import Request, SamplingParams, generate
from solon.studies.surprise.ability import (
    Sum,
    draw_sum,
    held_out_sums,
    largest_jump,
    measure_ability,
)
from solon.studies.surprise.settings import Settings
from solon.studies.surprise.study import DIALOGUE, checkpoints, example, study
from solon.study.conduct import NoInputs
from tests.killed import survived

SMALL = Settings(widths=(8, 16), layers=1, digits=(1, 2), steps=12, batch=8, checkpoints=3, sums=12)


def test_exact_match_is_greedy_decoding_and_loss_is_cross_entropy() -> None:
    backbone = SmallTransformer(Shape(DIALOGUE.size, width=16, layers=1, heads=2, context=16), seed=3)
    rows = [example(drawn, reverse=True) for drawn in held_out_sums(1, 0, 0)]
    ability = measure_ability(backbone, rows)
    for index, (prompt, answer) in enumerate(rows):
        logits = backbone.logits(backbone.hidden(torch.tensor([prompt + answer]))[0])[
            len(prompt) - 1 : -1
        ].detach()
        assert ability.loss[index] == pytest.approx(
            float(torch.nn.functional.cross_entropy(logits, torch.tensor(answer))), abs=1e-5
        )
        assert ability.per_token[index] == pytest.approx(
            float((logits.argmax(-1) == torch.tensor(answer)).float().mean())
        )
        [(_, row, _)] = list(
            generate(
                backbone,
                [Request(prompt, (0,), lambda tokens: False)],
                SamplingParams(len(answer), 0.0, 1.0, frozenset()),
            )
        )
        assert ability.exact[index] == float(tuple(row.tokens) == answer)
    assert ability.length == 2
    with pytest.raises(InputError, match="one length"):
        measure_ability(backbone, [rows[0], (rows[0][0], rows[0][1][:1])])


def test_held_out_sums_are_never_trained_on() -> None:
    rng = random.Random(0)
    assert not any(draw_sum(rng, 2, held_out=False).held_out for _ in range(500))
    kept = held_out_sums(2, 100, 0)
    assert len(set(kept)) == 100 and all(drawn.held_out for drawn in kept)
    assert Sum(7, 8, 2).answer(reverse=False) == "0 1 5" and Sum(7, 8, 2).answer(reverse=True) == "5 1 0"
    assert Sum(7, 8, 2).question().last == "0 7 + 0 8"


def test_jumps_and_checkpoints() -> None:
    assert largest_jump([0.2, 0.2]) == 0.0
    assert largest_jump([1.0, 0.4, 0.0]) == pytest.approx(0.6)
    assert checkpoints(1000, 4) == [10, 46, 215, 1000]
    with pytest.raises(InputError, match="multiples of four"):
        Settings(widths=(6,))


def test_a_killed_study_ends_on_the_same_report(tmp_path: Path) -> None:
    whole = survived(tmp_path, lambda run: study(run, SMALL, NoInputs()), patience=(2, 9))
    assert "the widest model has a lower loss" in whole
