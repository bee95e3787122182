"""vLLM behind the ladder, against a stub of its interface that answers with our own model's numbers."""

import importlib
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from solon.errors import InputError
from solon.models.base import Stop
from solon.models.dialogue import WordDialogue
from solon.models.torch_model import TorchModel
from solon.models.weights import save_tensors
from tests.models.test_huggingface import made
from tests.models.test_models import asked


@dataclass
class Logprob:
    logprob: float


@dataclass
class SamplingParams:
    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    logprob_token_ids: list[int] | None = None
    stop: list[str] | None = None
    stop_token_ids: list[int] | None = None
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    detokenize: bool = True


@dataclass
class Engine:
    """`LLM` as `VllmModel` uses it, computing with a model of ours."""

    model: TorchModel
    lies: bool = False
    cleared: int = 0
    asked: list[SamplingParams] = field(default_factory=list)

    def generate(
        self, prompts: list[dict[str, Any]], params: list[SamplingParams], use_tqdm: bool
    ) -> list[Any]:
        return [
            self._one(prompt["prompt_token_ids"], how) for prompt, how in zip(prompts, params, strict=True)
        ]

    def _one(self, prompt: list[int], how: SamplingParams) -> Any:
        self.asked.append(how)
        tokens = list(prompt)
        generator, rows = torch.Generator().manual_seed(how.seed or 0), []
        for _ in range(how.max_tokens):
            logprobs = self._logprobs(tokens)[-1]
            token = (
                int(logprobs.argmax())
                if how.temperature == 0
                else int(torch.multinomial(logprobs.exp(), 1, generator=generator))
            )
            rows.append(
                {each: Logprob(float(logprobs[each])) for each in (token, *(how.logprob_token_ids or ()))}
            )
            tokens.append(token)
            if token in (how.stop_token_ids or ()):
                break
        every = self._logprobs(prompt)
        read = [
            None,
            *({token: Logprob(float(row[token]))} for row, token in zip(every, prompt[1:], strict=False)),
        ]
        output: Any = ModuleType("output")
        output.outputs = [ModuleType("completion")]
        output.outputs[0].token_ids, output.outputs[0].logprobs = tokens[len(prompt) :], rows
        output.prompt_logprobs = read if how.prompt_logprobs is not None else None
        return output

    def _logprobs(self, tokens: list[int]) -> torch.Tensor:
        with torch.no_grad():
            body = self.model.module
            return body.logits(body.hidden(torch.tensor([tokens]))[0]).float().log_softmax(-1)

    def collective_rpc(self, name: str, args: tuple[str]) -> list[str]:
        module = importlib.import_module("solon.models.vllm")
        receiver = module.WeightReceiver()
        receiver.model_runner = ModuleType("runner")
        receiver.model_runner.model = ModuleType("model")
        receiver.model_runner.model.load_weights = self._load
        return ["0" * 16] if self.lies else [getattr(receiver, name)(*args)]

    def _load(self, weights: Any) -> None:
        self.model.module.module.load_state_dict(dict(weights), strict=False)  # type: ignore[union-attr]

    def reset_prefix_cache(self) -> None:
        self.cleared += 1


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Engine, TorchModel]:
    stub = ModuleType("vllm")
    stub.SamplingParams = SamplingParams  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", stub)
    monkeypatch.delitem(sys.modules, "solon.models.vllm", raising=False)
    module = importlib.import_module("solon.models.vllm")
    (tmp_path / "model").mkdir()
    save_tensors({"start": torch.zeros(1)}, tmp_path / "model" / "model.safetensors")
    own, there = (
        TorchModel("tiny", made("llama"), WordDialogue(tuple(f"w{n}" for n in range(64 - 5))))
        for _ in range(2)
    )
    engine = Engine(there)
    return module.VllmModel(tmp_path / "model", own.dialogue, engine=engine), engine, own


Served = tuple[Any, Engine, TorchModel]


def test_scores_are_the_models_own(served: Served) -> None:
    there, engine, own = served
    prompts = [prompt for prompt in asked(3) for _ in range(3)]
    replies = ["w1", "w2", "w3 w4 w5"] * 3
    for mine, theirs in zip(own.score(prompts, replies), there.score(prompts, replies), strict=True):
        assert theirs.tokens == mine.tokens
        assert theirs.logprobs == pytest.approx(mine.logprobs, abs=1e-4)
        assert theirs.stop is Stop.GIVEN
    short = [how for how in engine.asked if how.logprob_token_ids]
    assert len(short) == 3  # one request for both one-token replies of a prompt
    assert all(len(how.logprob_token_ids or ()) == 2 and how.prompt_logprobs is None for how in short)


def test_samples_are_tokens_with_their_log_probabilities(served: Served) -> None:
    there, _, own = served
    prompts = asked(4)
    groups = there.sample(prompts, count=2, max_tokens=6, seed=3)
    for prompt, group in zip(prompts, groups, strict=True):
        assert len({sample.tokens for sample in group}) == 2  # copies have seeds of their own
        for sample in group:
            assert sample.stop is (Stop.END if sample.tokens[-1] in own.dialogue.ends else Stop.LENGTH)
            body = own.module
            tokens = own.dialogue.prompt(prompt) + sample.tokens
            with torch.no_grad():
                logprobs = body.logits(body.hidden(torch.tensor([tokens]))[0]).log_softmax(-1)
            start = len(tokens) - len(sample.tokens)
            wanted = [float(logprobs[place - 1, tokens[place]]) for place in range(start, len(tokens))]
            assert sample.logprobs == pytest.approx(wanted, abs=1e-4)


def test_new_weights_are_sent_and_their_fingerprint_is_checked(served: Served) -> None:
    there, engine, own = served
    before = there.fingerprint
    with torch.no_grad():
        for parameter in own.module.parameters():
            parameter.mul_(1.1)
    there.update(own)
    assert there.fingerprint != before
    assert engine.cleared == 1
    mine, theirs = (speaker.score(asked(1), ["w1 w2"])[0] for speaker in (own, there))
    assert theirs.logprobs == pytest.approx(mine.logprobs, abs=1e-4)
    assert theirs.weights == there.fingerprint
    engine.lies = True
    with pytest.raises(InputError, match="did not load the weights"):
        there.update(own)
    assert there.fingerprint == ""
