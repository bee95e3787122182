"""Sparse autoencoders: exact gradients, planted directions found, streams that go on where they stopped, the
forms of other libraries.
"""

import itertools
import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from solon.errors import InputError
from solon.interpretability.autoencoder import (
    Autoencoder,
    AutoencoderBank,
    activation_scale,
    active_pairs,
    gradients,
)
from solon.interpretability.dictionary import (
    fit_autoencoders,
    measure_autoencoder,
    recovered_directions,
    training_plan,
)
from solon.interpretability.dictionary_files import read_autoencoder, write_saelens, write_sparsify
from solon.interpretability.features import (
    best_features,
    feature_activations,
    feature_fit,
    nearest_features,
    sample_by_interval,
)
from solon.interpretability.steering import HookSite, attribute_features, clamp_features, loss_recovered
from solon.interpretability.stream import activation_batches, harvester, pack_tokens
from solon.models.activations import activations, direct_logit_attribution, layer_sites
from solon.models.backbones.small import Shape, SmallTransformer
from solon.models.dialogue import WordDialogue
from solon.studies.monosemanticity import toy_language
from solon.studies.monosemanticity.directions import planted
from solon.training.steps import Diverged


def some(width: int, features: int, seed: int, *, shift: float = 0.5) -> tuple[Autoencoder, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    own = Autoencoder(width, features, seed=seed, scale=1.3)
    with torch.no_grad():
        own.encoder_FD.add_(torch.randn(features, width, generator=generator) * 0.1)
        own.encoder_bias_F.normal_(generator=generator).sub_(shift)
        own.decoder_bias_D.normal_(generator=generator)
    return own, torch.randn(90, width, generator=generator)


def plain_loss(own: Autoencoder, x_BD: Tensor, l1_coefficient: float) -> Tensor:
    f_BF = own.encode(x_BD)
    error = (f_BF @ own.decoder_FD + own.decoder_bias_D - own.scale * x_BD).square().sum()
    return (error + l1_coefficient * (f_BF @ own.decoder_FD.norm(dim=1)).sum()) / len(x_BD)


@pytest.mark.parametrize("dense", [True, False])
def test_a_steps_gradients_are_autograds(dense: bool) -> None:
    for seed in range(3):
        own, x_BD = some(48, 300, seed)
        expected = torch.autograd.grad(plain_loss(own, x_BD, 3.0), list(own.parameters()))
        losses = gradients(own, x_BD, 3.0, dense=dense)
        for (name, parameter), wanted in zip(own.named_parameters(), expected, strict=True):
            assert parameter.grad is not None
            assert float((parameter.grad - wanted).norm() / wanted.norm()) < 1e-5, name
        assert losses.error + 3.0 * losses.sparsity == pytest.approx(
            plain_loss(own, x_BD, 3.0).item(), rel=1e-5
        )
        assert losses.active == pytest.approx(float((own.encode(x_BD) > 0).sum()) / len(x_BD))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(2, 80), st.integers(0, 10**6), st.floats(-1, 3), st.floats(1e-3, 1e3))
def test_screening_leaves_nothing_out(
    width: int, features: int, seed: int, shift: float, size: float
) -> None:
    own, x_BD = some(width, features, seed, shift=shift)
    with torch.no_grad():
        own.encoder_FD.mul_(size)
    z_BF = torch.nn.functional.linear(x_BD.double(), own.encoder_FD.double(), own.encoder_bias_F.double())
    found = torch.zeros(z_BF.shape, dtype=torch.float64)
    with pytest.MonkeyPatch.context() as patch:  # also where the processor does not compute in it
        patch.setattr("solon.interpretability.autoencoder.fast_precision", lambda: torch.bfloat16)
        on = active_pairs(own, x_BD)
    found[on.rows_N, on.features_N] = on.values_N.double()
    close = 1e-5 * (1 + z_BF.abs().max().item())  # what float32 itself cannot tell
    assert (found - z_BF.clamp(min=0)).abs().max().item() < close


def test_an_empty_step_is_exact_too() -> None:
    own, x_BD = some(16, 40, 0)
    with torch.no_grad():
        own.encoder_bias_F.fill_(-1e3)
    expected = torch.autograd.grad(plain_loss(own, x_BD, 2.0), list(own.parameters()))
    assert gradients(own, x_BD, 2.0, dense=False).active == 0
    for parameter, wanted in zip(own.parameters(), expected, strict=True):
        assert parameter.grad is not None and torch.allclose(parameter.grad, wanted, atol=1e-6)


def test_planted_directions_are_found() -> None:
    world = planted(32, 64, seed=0, active=2.5)
    bank = AutoencoderBank(
        [Autoencoder(32, 128, seed=1, scale=activation_scale(next(world.batches(2048, seed=5))))]
    )
    for step in fit_autoencoders(
        bank, lambda number: world.batches(512, seed=1, start=number), [4.0], plan=training_plan(1200, 2e-3)
    ):
        assert np.isfinite(step.metrics["loss"])
    cosines = recovered_directions(world.directions_GD, next(iter(bank)))
    assert float((cosines >= 0.9).float().mean()) >= 0.8
    # other directions are not
    chance = recovered_directions(planted(32, 64, seed=9, active=2.5).directions_GD, next(iter(bank)))
    assert float((chance >= 0.9).float().mean()) < 0.05


def test_members_of_a_bank_learn_as_they_would_alone_and_go_on_where_they_stopped() -> None:
    world = planted(16, 24, seed=0, active=1.5)

    def stream(number: int):  # type: ignore[no-untyped-def]
        return world.batches(64, seed=1, start=number)

    def fresh() -> AutoencoderBank:
        return AutoencoderBank([Autoencoder(16, 32, seed=1), Autoencoder(16, 48, seed=2)])

    whole, plan = fresh(), training_plan(30, 1e-3)
    for _ in fit_autoencoders(whole, stream, [1.0, 5.0], plan=plan):
        pass
    alone = AutoencoderBank([Autoencoder(16, 48, seed=2)])
    for _ in fit_autoencoders(alone, stream, [5.0], plan=plan):
        pass
    assert torch.equal(list(whole)[1].decoder_FD, next(iter(alone)).decoder_FD)
    cut = fresh()
    state = next(itertools.islice(fit_autoencoders(cut, stream, [1.0, 5.0], plan=plan), 11, None)).state()
    kept = {name: tensor.clone() for name, tensor in state.items()}
    again = fresh()
    for _ in fit_autoencoders(again, stream, [1.0, 5.0], plan=plan, state=kept):
        pass
    for (name, left), (_, right) in zip(whole.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(left, right), name


def test_a_loss_that_is_not_finite_is_said() -> None:
    bank = AutoencoderBank([Autoencoder(4, 8, seed=0)])
    with pytest.raises(Diverged):
        next(
            fit_autoencoders(
                bank, lambda number: iter([torch.full((4, 4), float("nan"))]), [1.0], plan=training_plan(3)
            )
        )


def test_scales_bring_lengths_to_the_root_of_the_width() -> None:
    x_BD = (
        torch.randn(500, 20, generator=torch.Generator().manual_seed(0)) * torch.linspace(1, 9, 500)[:, None]
    )
    assert float((x_BD * activation_scale(x_BD)).square().sum(dim=1).mean()) == pytest.approx(20, rel=1e-5)
    assert float((x_BD * activation_scale(x_BD, "mean_norm")).norm(dim=1).mean()) == pytest.approx(
        20**0.5, rel=1e-5
    )
    assert activation_scale(x_BD) < activation_scale(x_BD, "mean_norm")  # Jensen
    with pytest.raises(InputError, match="typical length"):
        activation_scale(torch.zeros(3, 4))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(1, 5), st.integers(1, 4), st.integers(0, 9))
def test_a_stream_can_begin_anywhere_and_draws_all_alike(
    chunk: int, per_row: int, parts: int, start: int
) -> None:
    rows = 3 * chunk

    def harvest(places):  # type: ignore[no-untyped-def]
        return torch.tensor([[float(place), float(token)] for place in places for token in range(per_row)])

    def stream(first: int):  # type: ignore[no-untyped-def]
        return activation_batches(harvest, rows, chunk=chunk, size=1, seed=3, start=first, parts=parts)

    whole = list(itertools.islice(stream(0), 40 + 10 * chunk * per_row))
    for left, right in zip(itertools.islice(stream(start), 5), whole[start:], strict=False):
        assert torch.equal(left, right)
    seen = [tuple(own[0].tolist()) for own in whole]
    counts = {pair: seen.count(pair) for pair in set(seen)}
    assert max(counts.values()) - min(counts.values()) <= parts + 1


def body(seed: int = 0) -> SmallTransformer:
    return SmallTransformer(Shape(65, width=24, layers=3, heads=2, context=16), seed=seed)


def test_harvested_activations_are_the_models_own_and_no_hook_stays() -> None:
    own, rows = body(), toy_language.rows(0, 7, 12)
    site = layer_sites(own)[1]
    found = harvester(own, rows, 2, skip=1, tokens=30)(range(7))
    assert torch.allclose(found, activations(own, rows, [site])[site][:, 1:].flatten(0, 1), atol=1e-5)
    assert not any(part._forward_hooks for part in own.modules())
    with pytest.raises(InputError, match="there are 1 to 3"):
        harvester(own, rows, 4)
    with torch.no_grad():
        own.embed.weight[6] = float("nan")
    with pytest.raises(InputError, match="not finite"):
        harvester(own, [(6, 6, 6)], 1)([0])


def test_rows_are_cut_and_counted() -> None:
    assert pack_tokens(lambda text: [1] * len(text), ["aaa", "bb"], 2, end=[0], most=2) == [(1, 1), (1, 0)]
    with pytest.raises(InputError, match="do not fill one chunk"):
        next(activation_batches(lambda places: torch.zeros(len(places), 2), 3, chunk=4, size=1, seed=0))


@pytest.mark.parametrize("kind", ["relu", "topk", "jumprelu"])
def test_autoencoders_come_back_as_they_were_written(tmp_path: Path, kind: str) -> None:
    own, x_BD = some(12, 30, 4)
    if kind == "topk":
        own.top_k = 5
    if kind == "jumprelu":
        own.threshold_F.uniform_(0, 1, generator=torch.Generator().manual_seed(0))
    for name, write, refused in (("a", write_saelens, "topk"), ("b", write_sparsify, "jumprelu")):
        if kind == refused:
            with pytest.raises(InputError):
                write(own, tmp_path / name, {})
            continue
        write(own, tmp_path / name, {"hook_name": "blocks.1"})
        back, config = read_autoencoder(tmp_path / name)
        assert config["metadata"]["hook_name"] == "blocks.1" and config["metadata"][
            "trained_scale"
        ] == pytest.approx(1.3)
        assert torch.allclose(back.encode(x_BD), own.encode(x_BD), atol=1e-5)
        assert torch.allclose(back(x_BD), own(x_BD), atol=1e-5)


def test_what_is_no_autoencoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cfg\.json"):
        read_autoencoder(tmp_path)
    own, _ = some(4, 6, 0)
    write_saelens(own, tmp_path / "a", {})
    config = json.loads((tmp_path / "a/cfg.json").read_text())
    for change, words in (
        ({"architecture": "gated"}, "gated"),
        ({"normalize_activations": "layer_norm"}, "layer_norm"),
    ):
        (tmp_path / "a/cfg.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(InputError, match=words):
            read_autoencoder(tmp_path / "a")


def test_clamping_moves_the_feature_and_leaves_the_error() -> None:
    own, x_BD = some(16, 30, 1)
    x_BTD = x_BD[None]
    f_BF = own.encode(x_BD)
    with torch.no_grad():
        after = clamp_features(own, {3: 2.0, 5: 0.0})(x_BTD)[0]
        f_BF[:, 3], f_BF[:, 5] = 2.0, 0.0
        assert torch.allclose(after - own.decode(f_BF), x_BD - own(x_BD), atol=1e-5)
    with pytest.raises(InputError, match="no feature 30"):
        clamp_features(own, {30: 1.0})


def test_attribution_is_ablation_where_all_above_is_linear() -> None:
    own_body = body(2)
    own, _ = some(24, 60, 3)
    place = HookSite(own_body, 3)  # above the last layer only the norm is not linear
    row = toy_language.rows(1, 1, 10)[0]
    found = attribute_features(place, own, row, 7, 30, most=20)
    assert len(found.features) == 20
    assert np.corrcoef(found.attribution, found.ablation)[0, 1] > 0.9
    exact = attribute_features(place, own, row, 7, 7)  # a difference that is none
    assert max(map(abs, exact.attribution + exact.ablation)) < 1e-5
    with pytest.raises(InputError, match="behind the first"):
        attribute_features(place, own, row[:1], 7, 30)


def test_a_perfect_reconstruction_costs_nothing_and_zero_is_the_floor() -> None:
    own_body, rows = body(1), toy_language.rows(2, 6, 12)
    width = own_body.width
    perfect = Autoencoder(width, 2 * width, seed=0)
    with torch.no_grad():
        identity = torch.eye(width)
        perfect.encoder_FD.copy_(torch.cat([identity, -identity]))
        perfect.decoder_FD.copy_(torch.cat([identity, -identity]))
    kept = loss_recovered(HookSite(own_body, 2), perfect, rows, torch.zeros(width))
    assert kept.reconstructed == pytest.approx(kept.clean, abs=1e-4) and kept.mean == pytest.approx(kept.zero)
    sample = [harvester(own_body, rows, 2)(range(6))]
    assert measure_autoencoder(perfect, sample).explained == pytest.approx(1.0, abs=1e-4)
    nothing = Autoencoder(width, 4, seed=0)
    with torch.no_grad():
        nothing.encoder_bias_F.fill_(-1e3)
        nothing.decoder_bias_D.copy_(sample[0].mean(dim=0))
    value = measure_autoencoder(nothing, sample)
    assert value.explained == pytest.approx(0.0, abs=1e-3) and value.dead == 1.0 and value.active == 0.0


def test_firings_and_what_they_go_with() -> None:
    own, x_BD = some(16, 30, 6)
    found = feature_activations(own, x_BD.split(17))
    f_BF = (own.encode(x_BD) * own.norms_F).detach()
    for feature in range(30):
        places, values = found.of_feature(feature)
        assert np.array_equal(places, f_BF[:, feature].nonzero()[:, 0].numpy())
        assert np.allclose(values, f_BF[places, feature].numpy(), atol=1e-5)
    places, values = found.of_feature(4)
    true_P = np.zeros(len(x_BD), dtype=bool)
    true_P[places] = True
    fit = feature_fit(found, 4, true_P)
    assert (
        fit.sensitivity is not None
        and fit.sensitivity.value == 1.0
        and all(own.value == 1.0 for own in fit.specificity if own is not None)
    )
    best = best_features(found, [places])[0]
    assert best.score >= 1.0 - 1e-3 and best.precision == pytest.approx(1.0)
    first = sample_by_interval(values, intervals=4, each=3, seed=0)[0]
    assert (
        values[first[0]] == values.max() and sample_by_interval(values[:0], intervals=4, each=3, seed=0) == []
    )
    near = nearest_features(own, 4, 3)
    assert len(near) == 3 and near[0][1] >= near[1][1] and 4 not in [n for n, _ in near]


def test_logits_of_directions_are_what_they_add_through_the_head() -> None:
    own = body(4)
    directions = torch.randn(3, 24, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = own.unembed(own.final_norm(directions))
    assert torch.allclose(direct_logit_attribution(own, directions), expected, atol=1e-5)


def test_the_toy_language_is_spelled_by_a_dialogue() -> None:
    dialogue = WordDialogue(toy_language.words())
    assert len(dialogue.special) == toy_language.FIRST
    row = toy_language.row(random.Random(0), 2000)
    steps = [
        toy_language.class_of(b) == toy_language.successor(toy_language.class_of(a))
        for a, b in itertools.pairwise(row)
    ]
    assert np.mean(steps) == pytest.approx(0.8 + 0.2 / 6, abs=0.03)
