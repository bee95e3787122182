"""Heads looked into and silenced: exact on planted patterns, the same numbers as the model's own pass, and
the study's planted truth.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from solon.cli import main
from solon.errors import InputError
from solon.interpretability.induction import (
    ablate_heads,
    head_scores,
    in_context_scores,
    path_expansion,
    prefix_matching_scores,
    principal_components,
    repeated_sequences,
    steepest_fall,
    token_losses,
)
from solon.models.activations import layer_sites
from solon.models.backbones.heads import Heads, head_contributions
from solon.models.backbones.huggingface import HuggingFaceBackbone
from solon.models.backbones.small import Shape, SmallTransformer
from solon.studies.induction_heads.inputs import Inputs
from solon.studies.induction_heads.repeats import training_rows
from solon.studies.induction_heads.settings import Settings
from solon.studies.induction_heads.study import study
from tests.killed import survived


def body(
    *, layers: int = 2, wide: bool = False, smeared: bool = False, keyed: bool = True, seed: int = 0
) -> SmallTransformer:
    shape = Shape(
        32,
        width=32,
        layers=layers,
        heads=4,
        context=64,
        attention_only=not wide,
        keyed_positions=keyed,
        smeared_keys=smeared,
    )
    own = SmallTransformer(shape, seed=seed)
    for parameter in own.parameters():
        if parameter.ndim == 2:
            parameter.data *= 8  # far from flat
    return own


@pytest.mark.parametrize("kind", [{}, {"wide": True}, {"smeared": True}, {"keyed": False}])
def test_looking_changes_nothing(kind: dict[str, bool]) -> None:
    own = body(**kind)
    tokens_BT = training_rows(0, 0, count=4, length=20, vocabulary=32)
    heads = Heads()
    with torch.inference_mode():
        assert torch.allclose(own.hidden_with_heads(tokens_BT, heads), own.hidden(tokens_BT), atol=1e-5)
        assert len(heads.patterns_BHTT) == 2 and torch.allclose(
            heads.patterns_BHTT[0].sum(dim=-1), torch.ones(())
        )
        assert torch.allclose(
            own.hidden_with_heads(tokens_BT, Heads(frozen=heads.patterns_BHTT)),
            own.hidden(tokens_BT),
            atol=1e-5,
        )


def test_all_heads_silenced_leave_the_embedding() -> None:
    own = body()
    tokens_BT = training_rows(0, 0, count=2, length=12, vocabulary=32)
    everyone = frozenset((layer, head) for layer in range(2) for head in range(4))
    with torch.inference_mode():
        assert torch.allclose(
            own.hidden_with_heads(tokens_BT, Heads(ablated=everyone)),
            own.final_norm(own.embed(tokens_BT)),
            atol=1e-6,
        )


def test_what_heads_write_is_the_layers_own_output() -> None:
    own, heads = body(), Heads()
    tokens_BT = training_rows(0, 0, count=2, length=12, vocabulary=32)
    with torch.inference_mode():
        own.hidden_with_heads(tokens_BT, heads)
        first = own.get_submodule(layer_sites(own)[0])
        expected = first(own.embed(tokens_BT), None, None, own.position(torch.arange(12)))[0]
        assert torch.allclose(
            own.embed(tokens_BT) + head_contributions(first, heads.mixed_BHTD[0]).sum(dim=1),
            expected,
            atol=1e-5,
        )


def test_the_sum_of_all_paths_is_the_model() -> None:
    for layers in (1, 2, 3):
        logits, summed = path_expansion(
            body(layers=layers), tuple(training_rows(0, 0, count=2, length=20, vocabulary=32)[0].tolist())
        )
        assert float((logits - summed).abs().max() / logits.abs().max()) < 1e-4


def test_heads_of_a_hugging_face_model_are_looked_into() -> None:
    config = LlamaConfig(
        vocab_size=40,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
    )
    torch.manual_seed(0)
    own = HuggingFaceBackbone(LlamaForCausalLM(config).eval())
    tokens_BT, heads = training_rows(0, 0, count=3, length=20, vocabulary=32), Heads()
    with torch.inference_mode():
        assert torch.allclose(own.hidden_with_heads(tokens_BT, heads), own.hidden(tokens_BT), atol=1e-5)
        assert torch.allclose(
            own.hidden_with_heads(tokens_BT, Heads(frozen=heads.patterns_BHTT)),
            own.hidden(tokens_BT),
            atol=1e-5,
        )
    assert heads.patterns_BHTT[0].shape == (3, 4, 20, 20)
    layer = own.get_submodule(layer_sites(own)[0])
    whole = layer.self_attn.o_proj(heads.mixed_BHTD[0].transpose(1, 2).flatten(2)).detach()
    assert torch.allclose(head_contributions(layer, heads.mixed_BHTD[0]).sum(dim=1), whole, atol=1e-5)
    found = head_scores(
        own,
        repeated_sequences(range(40), seed=0, block=10, repeats=2, draws=2),
        [tuple(row) for row in tokens_BT.tolist()],
    )
    assert found.prefix_LH.shape == (2, 4) and np.isfinite(found.copying_LH).all()


def test_prefix_matching_of_patterns_made_by_hand() -> None:
    tokens_T = torch.tensor([9, 1, 2, 3, 1, 2, 3, 1, 2, 3])
    perfect = torch.zeros(10, 10)
    for place in range(4, 10):
        perfect[place, place - 2] = 1.0  # right behind the last time
    spread = torch.full((10, 10), 0.1)
    previous = torch.eye(10).roll(-1, 1)
    found = prefix_matching_scores(torch.stack([perfect, spread, previous]), tokens_T, 1)
    counts = [1, 1, 1, 2, 2, 2]  # earlier occurrences
    assert found.tolist() == pytest.approx([1.0, 0.1 * float(np.mean(counts)), 0.0], abs=1e-6)
    three = torch.zeros(10, 10)
    for place in range(4, 10):
        three[place, place - 3] = 1.0  # the same token: no induction
    assert float(prefix_matching_scores(three[None], tokens_T, 1)) == 0.0


def test_a_head_built_to_copy_scores_one_and_its_opposite_none() -> None:
    own = SmallTransformer(
        Shape(16, width=32, layers=1, heads=1, context=40, attention_only=True, keyed_positions=True), seed=0
    )
    with torch.no_grad():
        for parameter in (own.blocks[0].attention.query.weight, own.position.weight):
            parameter.zero_()  # attends to everything alike
        own.embed.weight.copy_(torch.eye(16, 32) * 4)
        own.blocks[0].attention.value.weight.copy_(torch.eye(32))
        own.blocks[0].attention.output.weight.copy_(torch.eye(32))
        own.unembed.weight.copy_(torch.eye(16, 32))
    asked = repeated_sequences(range(16), seed=0, block=8, repeats=3, draws=3)
    flat = head_scores(own, asked, asked)
    with torch.no_grad():
        own.blocks[0].attention.output.weight.mul_(-1)
    against = head_scores(own, asked, asked)
    assert flat.copying_LH[0, 0] > against.copying_LH[0, 0] and against.copying_LH[0, 0] < -0.9
    with torch.no_grad():
        own.blocks[0].attention.output.weight.mul_(-1)
        own.blocks[0].attention.query.weight.copy_(torch.eye(32) * 50)
        # attends to its own token alone, and raises it alone
        own.blocks[0].attention.key.weight.copy_(torch.eye(32) * 50)
    assert head_scores(own, asked, asked).copying_LH[0, 0] == pytest.approx(1.0, abs=1e-3)
    assert flat.prefix_LH[0, 0] == pytest.approx(
        np.mean([(place // 8) / (place + 1) for place in range(8, 24)]), abs=1e-5
    )
    assert flat.prefix_error_LH[0, 0] < 1e-6


def test_silencing_needs_no_pattern_to_change() -> None:
    own, some = (
        body(),
        [tuple(row) for row in training_rows(0, 1, count=6, length=20, vocabulary=32).tolist()],
    )
    clean, gone = ablate_heads(own, some, [(1, 2)], at_once=4)
    assert torch.allclose(clean, token_losses(own, some), atol=1e-4) and not torch.allclose(clean, gone)
    _, loose = ablate_heads(own, some, [(0, 2)], preserve=False)
    _, held = ablate_heads(own, some, [(0, 2)])
    assert not torch.allclose(loose, held)  # the second layer saw by what the first moved


def test_rows_repeat_what_they_should() -> None:
    made = training_rows(3, 7, count=40, length=64, vocabulary=32)
    assert torch.equal(made, training_rows(3, 7, count=40, length=64, vocabulary=32)) and not torch.equal(
        made, training_rows(3, 8, count=40, length=64, vocabulary=32)
    )
    for row in made[:20]:
        assert any(torch.equal(row[length:], row[:-length]) for length in range(21, 29))
    ruled = (made[20:, 1:] == (made[20:, :-1] * 7 + 3) % 32).float().mean()
    assert float(ruled) == pytest.approx(0.5 + 0.5 / 32, abs=0.05)
    with pytest.raises(InputError, match="at least 12"):
        training_rows(0, 0, count=4, length=8, vocabulary=32)
    with pytest.raises(InputError, match="cannot be drawn"):
        repeated_sequences(range(10), seed=0)


def test_events_of_curves() -> None:
    assert steepest_fall([0, 1, 2, 3, 4, 5], [0, 0, 0, -5, -5, -5], window=2) == (2, -5)
    assert in_context_scores(torch.tensor([[3.0, 2.0, 1.0]]), early=1, late=3) == [-2.0]
    line = np.outer(np.arange(6.0), np.ones(4))
    assert np.abs(principal_components(line)[:, 1]).max() < 1e-9


def test_the_study_survives_being_killed(tmp_path: Path) -> None:
    settings = Settings(
        kinds=("1 layer", "2 layers", "1 layer, smeared keys"),
        width=16,
        heads=2,
        length=24,
        steps=12,
        batch=4,
        snapshots=4,
        held_out=8,
    )
    survived(tmp_path, lambda run: study(run, settings, Inputs()), patience=(3, 9))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_induction_heads_form_in_two_layers_and_not_in_one(tmp_path: Path, seed: int) -> None:
    assert (
        main(
            [
                "run",
                "induction_heads",
                "--runs",
                str(tmp_path),
                "--seed",
                str(seed),
                "--kinds",
                "1 layer",
                "2 layers",
                "1 layer, smeared keys",
            ]
        )
        == 0
    )
    text = next(tmp_path.glob("induction_heads/*/report.md")).read_text()
    claims = [line for line in text.splitlines() if line.endswith("|") and "asked for)" in line]
    assert len(claims) >= 6 and all("| does not hold |" not in line for line in claims)
    assert (
        sum(
            "| holds |" in line
            for line in claims
            if "prefix matching of the best" in line or "in-context score (" in line
        )
        >= 4
    )


def test_bad_input_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "induction_heads", "--kinds", "4 layers", "--runs", str(tmp_path)])
    assert "kinds are among" in capsys.readouterr().err
    assert main(["run", "induction_heads", "smollm2", "--runs", str(tmp_path)]) == 2
    assert "--texts: text on which" in capsys.readouterr().err
