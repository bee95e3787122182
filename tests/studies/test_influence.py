"""Influence against what it stands for: exact curvature, the response of the proximal objective, retraining;
and the identities it must satisfy.
"""

import math
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from solon.cli import main
from solon.errors import InputError
from solon.interpretability.candidates import TfIdfIndex, recall_at_top, tail_exponent
from solon.interpretability.curvature import (
    Objective,
    fit_factors,
    load_factors,
    rotated_squares,
    save_factors,
)
from solon.interpretability.influence import (
    influence,
    influence_by_layer,
    influence_by_token,
    low_rank_approximation,
    preconditioned_queries,
)
from solon.interpretability.linear import LayerPass, linear_layers, record_pass
from solon.interpretability.objectives import comparison_objective, language_objective
from solon.models.backbones.small import Shape, SmallTransformer
from solon.models.scalar import ScalarModel
from solon.models.trie import ScoreRequest
from solon.records.page import page
from solon.records.report import Report
from solon.records.run import Run
from solon.studies.influence.ladder import (
    approximate,
    correlations,
    datamodelling_scores,
    draw_digits,
    proximal_responses,
    train_network,
)
from solon.studies.influence.settings import Settings as InfluenceSettings
from solon.studies.influence.study import study as ladder_study
from solon.study.conduct import NoInputs
from solon.tools.explain.report import report as explain_report
from solon.tools.explain.study import Settings as ExplainSettings
from solon.tools.explain.study import Source, explain, explain_all
from tests.killed import survived


def test_one_linear_layer_with_one_output_is_solved_exactly() -> None:
    torch.manual_seed(0)
    net = nn.Linear(6, 1)
    inputs, targets = torch.randn(80, 6), torch.randn(80)
    rows = list(range(80))

    def losses(some: Sequence[int]) -> torch.Tensor:  # Gaussian, of deviation 1
        return (net(inputs[some])[:, 0] - targets[some]).square() / 2

    # a label one deviation away: its pseudo-gradient is the mean square
    def drawn(some: Sequence[int], generator: torch.Generator) -> torch.Tensor:
        return net(inputs[some])[:, 0]

    module = nn.ModuleDict({"only": net})
    objective, layers = Objective(module, losses, drawn, lambda row: 1), linear_layers(module)
    factors = fit_factors(objective, layers, rows)
    extended = torch.cat([inputs, torch.ones(80, 1)], dim=1).double()
    dense = extended.T @ extended / 80
    gradient = (net(inputs)[:, 0] - targets).detach().double()[:, None] * extended
    expected = gradient[:5] @ torch.linalg.solve(
        dense + 0.1 * float(factors["only"].values_OI.mean()) * torch.eye(7, dtype=torch.float64), gradient.T
    )
    found = influence(objective, layers, preconditioned_queries(objective, layers, factors, rows[:5]), rows)
    assert found == pytest.approx(expected.numpy(), rel=1e-4, abs=1e-5)


def test_the_ladder_from_exact_curvature_down() -> None:
    data = draw_digits(0, rows=300, questions=10)
    own = approximate(train_network(data.inputs_NC, data.labels_N, seed=0), data)
    for ours, peer in zip(own.block_errors["ekfac"], own.block_errors["kfac"], strict=True):  # a theorem
        assert ours < peer < 1
    target = proximal_responses(own, data, range(8))
    near = {name: float(np.mean(correlations(values[:, :8], target))) for name, values in own.scores.items()}
    assert near["exact"] > 0.995 and near["blocks"] > 0.75
    assert near["ekfac"] > near["identity"] + 0.1 and near["ekfac"] > 0.3


def test_subsets_that_are_summed_right_are_ranked_right() -> None:
    rng = np.random.default_rng(0)
    scores_QN = rng.normal(size=(3, 40))
    subsets = [rng.permutation(40)[:20] for _ in range(30)]
    outcomes = np.stack([scores_QN[:, places].sum(axis=1) for places in subsets])
    assert datamodelling_scores(scores_QN, subsets, outcomes) == pytest.approx([1.0] * 3)
    assert datamodelling_scores(-scores_QN, subsets, outcomes) == pytest.approx([-1.0] * 3)


def test_the_study_survives_being_killed(tmp_path: Path) -> None:
    settings = InfluenceSettings(
        seeds=1, rows=100, questions=3, points=2, subsets=10, starts=1, sequences=100, queries=3, ranks=(1, 4)
    )
    whole = survived(tmp_path, lambda run: ladder_study(run, settings, NoInputs()), patience=(1, 4))
    lines = {line.split(" | ")[0].strip("| "): line for line in whole.splitlines() if line.startswith("| ")}
    assert "| holds |" in lines["A training row that is the query itself has the highest influence on it"]
    for name in ("layers", "tokens"):
        assert (
            "| holds |"
            in lines[
                f"Influences of {name} add up to the whole (largest error over the largest influence, "
                "below 1e-4)"
            ]
        )


def small_model(seed: int = 0) -> tuple[SmallTransformer, list[ScoreRequest]]:
    rng, body = (
        random.Random(seed),
        SmallTransformer(Shape(40, width=32, layers=2, heads=4, context=32), seed=seed),
    )
    for parameter in body.parameters():
        if parameter.ndim == 2:
            parameter.data *= 3  # far from flat
    return body, [
        (
            tuple(rng.choices(range(1, 40), k=rng.randint(2, 8))),
            tuple(rng.choices(range(1, 40), k=rng.randint(1, 12))),
        )
        for _ in range(60)
    ]


def test_layers_and_tokens_add_up_and_batches_do_not_matter() -> None:
    body, rows = small_model()
    layers, objective = linear_layers(body, ["mlp"]), language_objective(body)
    factors = fit_factors(objective, layers, rows, tokens=64)
    asked = preconditioned_queries(objective, layers, factors, rows[:3])
    whole = influence(objective, layers, asked, rows)
    single = influence(objective, layers, asked, rows, tokens=1)
    assert whole == pytest.approx(single, rel=1e-4, abs=1e-4 * float(np.abs(whole).max()))
    by_layer = {
        place: own
        for batch, found in influence_by_layer(objective, layers, asked, rows)
        for place, own in zip(batch, found.permute(2, 1, 0), strict=True)
    }
    for place in (0, 7, 30):
        assert by_layer[place].sum(dim=-1).numpy() == pytest.approx(
            whole[:, place], rel=1e-5, abs=1e-5 * float(np.abs(whole).max())
        )
        parts = influence_by_token(objective, layers, asked, rows[place])
        assert parts.shape == (len(layers), 3, len(rows[place][0]) + len(rows[place][1]) - 1)
        assert parts.sum(dim=(0, 2)).numpy() == pytest.approx(
            whole[:, place], rel=1e-4, abs=1e-5 * float(np.abs(whole).max())
        )
    one = preconditioned_queries(objective, layers, factors, rows[:1])
    assert influence(objective, layers, one, rows)[0] == pytest.approx(
        whole[0], rel=1e-4, abs=1e-4 * float(np.abs(whole).max())
    )


def gradients_of(own: LayerPass) -> torch.Tensor:
    return torch.cat([part.clone() for _, part in own.weight_gradients()])


def test_gradients_are_those_of_autograd() -> None:
    body, rows = small_model()
    layers, objective = linear_layers(body), language_objective(body)
    found = record_pass(layers, 4, lambda: objective.losses(rows[:4]))
    for place in range(4):
        body.zero_grad()
        objective.losses(rows[place : place + 1]).sum().backward()  # type: ignore[no-untyped-call]
        for name, layer in layers.items():
            ours = gradients_of(found[name])[place]
            own = (
                layer.weight.grad
                if layer.bias is None
                else torch.cat([layer.weight.grad, layer.bias.grad[:, None]], dim=1)
            )  # type: ignore[list-item,index]
            assert torch.allclose(ours, own, atol=1e-5 * float(own.abs().max()) + 1e-7), name  # type: ignore[arg-type,union-attr]
    assert all(parameter.requires_grad for parameter in body.parameters())


def test_a_row_that_repeats_the_query_comes_first_and_a_stranger_does_not() -> None:
    body, rows = small_model()
    layers, objective = linear_layers(body, ["mlp"]), language_objective(body)
    factors = fit_factors(objective, layers, rows)
    for place in (3, 17):
        found = influence(
            objective, layers, preconditioned_queries(objective, layers, factors, [rows[place]]), rows
        )[0]
        assert int(found.argmax()) == place and found[place] > 0


def test_what_is_kept_between_the_passes_changes_nothing_and_turning_first_or_last_agrees() -> None:
    body, rows = small_model()
    layers, objective = linear_layers(body, ["mlp"]), language_objective(body)
    kept, again = (
        fit_factors(objective, layers, rows, tokens=64),
        fit_factors(objective, layers, rows, tokens=64, cache_bytes=0),
    )
    for name in layers:
        assert torch.equal(kept[name].values_OI, again[name].values_OI)
    generator = torch.Generator().manual_seed(0)
    for tokens in (3, 400):  # on either side of the formula
        own = LayerPass(
            torch.randn(2, tokens, 12, generator=generator), torch.randn(2, tokens, 20, generator=generator)
        )
        basis_II, basis_OO = (torch.linalg.qr(torch.randn(n, n, generator=generator))[0] for n in (12, 20))
        expected = (basis_OO.T @ gradients_of(own) @ basis_II).square().sum(dim=0)
        assert torch.allclose(rotated_squares(own, basis_II, basis_OO), expected, rtol=1e-4)


def test_bfloat16_passes_keep_the_order_and_nearly_the_scores() -> None:
    body, rows = small_model()
    layers, objective = linear_layers(body, ["mlp"]), language_objective(body)
    factors = fit_factors(objective, layers, rows, labels="given")
    rounded = fit_factors(objective, layers, rows, labels="given", dtype=torch.bfloat16)
    turned = fit_factors(objective, layers, rows, labels="given", rotation_dtype=torch.bfloat16)
    for name in layers:
        assert torch.equal(factors[name].basis_II, turned[name].basis_II)
        apart = (factors[name].values_OI - turned[name].values_OI).abs().max()
        assert 0 < apart < 0.01 * factors[name].values_OI.max()
        assert factors[name].values_OI.sum().item() == pytest.approx(
            rounded[name].values_OI.sum().item(), rel=0.02
        )
    asked = preconditioned_queries(objective, layers, factors, rows[:4])
    exact, near = (
        influence(objective, layers, asked, rows),
        influence(objective, layers, asked, rows, dtype=torch.bfloat16),
    )
    assert 0 < np.abs(exact - near).max() < 0.01 * np.abs(exact).max()
    assert all(stats.spearmanr(one, other)[0] > 0.99 for one, other in zip(exact, near, strict=True))
    # one query takes another way
    alone = influence(
        objective,
        layers,
        preconditioned_queries(objective, layers, turned, rows[:1]),
        rows,
        dtype=torch.bfloat16,
    )
    assert np.abs(alone[0] - exact[0]).max() < 0.01 * np.abs(exact[0]).max()


def test_low_rank_queries_lose_little() -> None:
    body, rows = small_model()
    layers, objective = linear_layers(body, ["mlp"]), language_objective(body)
    asked = preconditioned_queries(objective, layers, fit_factors(objective, layers, rows), rows[:4])
    whole = influence(objective, layers, asked, rows)
    near = [
        stats.pearsonr(
            influence(
                objective, layers, {n: low_rank_approximation(own, rank) for n, own in asked.items()}, rows
            )[0],
            whole[0],
        )[0]
        for rank in (1, 4, 16)
    ]  # type: ignore[arg-type]
    assert near[0] < near[1] < near[2] and near[2] > 0.99


def test_factors_survive_the_disk(tmp_path: Path) -> None:
    body, rows = small_model()
    layers, objective = linear_layers(body, ["mlp"]), language_objective(body)
    factors = fit_factors(objective, layers, rows)
    save_factors(factors, tmp_path / "factors.safetensors")
    again = load_factors(tmp_path / "factors.safetensors")
    assert list(again) == list(factors) and all(
        torch.equal(again[n].values_OI, factors[n].values_OI) and again[n].tokens == factors[n].tokens
        for n in factors
    )


def test_comparisons_of_a_preference_model() -> None:
    body, rows = small_model()
    model = ScalarModel(body)
    nn.init.normal_(model.head.weight, std=0.5, generator=torch.Generator().manual_seed(1))
    pairs = [
        (first[0] + first[1], first[0] + second[1], float(number % 2))
        for number, (first, second) in enumerate(zip(rows[::2], rows[1::2], strict=True))
    ]
    objective, layers = comparison_objective(model), linear_layers(model, ["mlp"])
    factors = fit_factors(objective, layers, pairs, tokens=64)
    found = influence(objective, layers, preconditioned_queries(objective, layers, factors, pairs[:2]), pairs)
    assert int(found[0].argmax()) == 0 and int(found[1].argmax()) == 1
    turned = [(second, first, 1 - p) for first, second, p in pairs]
    assert influence(
        objective, layers, preconditioned_queries(objective, layers, factors, pairs[:2]), turned
    ) == pytest.approx(found, rel=1e-3, abs=1e-4 * float(np.abs(found).max()))


def test_candidates_equal_the_formula_and_tails_are_found() -> None:
    rng = random.Random(0)
    rows = [tuple(rng.choices(range(50), k=rng.randint(3, 20))) for _ in range(200)]
    query = (1, 2, 3, 3, 49, 77)
    index = TfIdfIndex(rows)

    def literal(row: tuple[int, ...]) -> float:
        total = 0.0
        for token in sorted(set(query)):
            holding = sum(token in own for own in rows)
            if token in row:
                total += (1.5 + 1) * 1 / (1.5 + 1) * math.log((200 - holding + 0.5) / (holding + 0.5) + 1)
        return total

    assert index.scores(query) == pytest.approx([literal(row) for row in rows], abs=1e-12)
    best = index.nearest(query, 10)
    assert (
        recall_at_top(best, index.scores(query), top=10) == 1.0
        and recall_at_top([], index.scores(query), top=10) == 0.0
    )
    for exponent in (2.0, 4.3):
        drawn = np.random.default_rng(0).pareto(exponent, size=100_000) + 1
        found = tail_exponent(drawn.tolist(), share=0.2)
        assert found.value == pytest.approx(exponent, rel=0.03) and found.low < exponent < found.high
    with pytest.raises(InputError, match="at least ten"):
        tail_exponent([1.0] * 50)


def test_an_explanation_names_the_row_that_it_repeats_and_survives_being_killed(tmp_path: Path) -> None:
    body, rows = small_model()
    objective = language_objective(body)

    def source() -> Source[ScoreRequest]:
        return Source(
            "rows",
            objective,
            tuple(rows),
            tuple(f"row {n} <b>" for n in range(len(rows))),
            lambda own: [f" {t}" for t in (own[0] + own[1])[1:]],
            lambda own: own[0] + own[1],
            (rows[7],),
            objective,
        )

    settings = ExplainSettings(top=3, tokens=64, fit_rows=40)

    def work(run: Run) -> Report:
        explained = explain_all(run, settings, [source()])
        return explain_report(settings, explained, [("asked", "replied")], {})

    whole = survived(tmp_path, work, patience=(1, 3))
    first = next(line for line in whole.splitlines() if line.startswith("| +"))
    assert first.endswith("| row 7 <b> |")
    with Run.open(tmp_path / "page", "explained", {}, {}, seed=0) as run:
        made = work(run)
    html = page(made)
    assert (
        "row 7 &lt;b&gt;" in html
        and "<b>" not in html
        and html.count('<span style="background: rgba(') >= 3 * (len(rows[7][0] + rows[7][1]) - 1) // 2
    )
    heat = made.gallery[0].heats[0]
    total = next(float(row[0]) for row in made.tables[1].rows if row[1] == "row 7 <b>")
    assert sum(value for _, value in heat.tokens) == pytest.approx(total, rel=1e-2)


def test_several_replies_parts_and_candidates_explain_alike(tmp_path: Path) -> None:
    body, rows = small_model()
    objective = language_objective(body)

    def source(*asked: ScoreRequest) -> Source[ScoreRequest]:
        titles = tuple(f"row {number}" for number in range(len(rows)))
        return Source(
            "rows",
            objective,
            tuple(rows),
            titles,
            lambda own: [f" {t}" for t in own[0] + own[1]],
            lambda own: own[0] + own[1],
            asked,
            objective,
        )

    def influences(name: str, settings: ExplainSettings, *asked: ScoreRequest) -> np.ndarray:
        with Run.open(tmp_path, name, {}, {}, seed=0) as run:
            return explain(run, settings, source(*asked)).total_QN

    both = influences("both", ExplainSettings(top=3), rows[7], rows[3])
    for place, own in enumerate((rows[7], rows[3])):
        assert influences(f"one {place}", ExplainSettings(top=3), own)[0] == pytest.approx(
            both[place], rel=1e-4, abs=1e-3
        )
    assert influences("parts", ExplainSettings(top=3, together=1), rows[7], rows[3]) == pytest.approx(
        both, rel=1e-4, abs=1e-3
    )
    few = influences("few", ExplainSettings(top=3, candidates=10), rows[7])
    near = sorted(TfIdfIndex([own[0] + own[1] for own in rows]).nearest(rows[7][0] + rows[7][1], 10))
    assert few[0] == pytest.approx(both[0][near], rel=1e-4, abs=1e-3)
    ranked = influences("ranked", ExplainSettings(top=3, rank=16), rows[7])
    assert np.corrcoef(ranked[0], both[0])[0, 1] > 0.99


def test_explain_says_what_it_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "none", "--prompt", "a", "--reply", " "]) == 2
    assert "none of them empty" in capsys.readouterr().err
    assert main(["explain", "none", "--prompt", "a", "--reply", "b", "--runs", str(tmp_path)]) == 2
    assert "names 0 runs" in capsys.readouterr().err
    with pytest.raises(InputError, match="damping is above 0"):
        ExplainSettings(damping=0.0)


def test_bad_input_is_told() -> None:
    body, rows = small_model()
    objective = language_objective(body)
    with pytest.raises(InputError, match="no Linear layer's name holds 'convolution'; there are blocks"):
        linear_layers(body, ["convolution"])
    with pytest.raises(InputError, match="no Linear layer to attribute to"):
        linear_layers(nn.Sequential(nn.Conv1d(1, 1, 1)))
    layers = linear_layers(body, ["mlp"])
    factors = fit_factors(objective, layers, rows[:8])
    with pytest.raises(InputError, match="rank 33 is above the dimension 32"):
        preconditioned_queries(objective, layers, factors, rows[:1], rank=33)
    with pytest.raises(InputError, match="at least one query"):
        preconditioned_queries(objective, layers, factors, [])
    with pytest.raises(InputError, match="none that is empty"):
        preconditioned_queries(objective, layers, factors, [((1, 2), ())])
    with pytest.raises(InputError, match="the same layers"):
        preconditioned_queries(objective, linear_layers(body), factors, rows[:1])
    with pytest.raises(InputError, match="does not see rows apart"):
        record_pass({"unembed": body.unembed}, 4, lambda: objective.losses(rows[:4]))
    with pytest.raises(InputError, match="at least one row"):
        fit_factors(objective, layers, [])
    body.embed.weight.data[5] = float("nan")
    with pytest.raises(InputError, match="finite"):
        fit_factors(objective, layers, [((5, 1), (2, 3))])
