"""vLLM as a language model: fast sampling on accelerators. Only this file imports vLLM (extra `solon[vllm]`).

Tokens go in and tokens come out: the only text that vLLM gets is stop strings, and it never tokenises.
Prompts share prefixes through its cache. New weights are sent as a safetensors file; every worker must return
its fingerprint before anything is sampled.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import vllm
from safetensors.torch import load_file
from transformers import AutoConfig, AutoTokenizer, GenerationConfig

from solon.errors import InputError
from solon.models.base import Sample, Stop, Tokens, row_seeds
from solon.models.dialogue import Dialogue
from solon.models.huggingface import check_folder, dialogue_of
from solon.models.torch_model import TorchModel
from solon.models.weights import save_tensors
from solon.words.conversation import Conversation


class WeightReceiver:
    """An extension of each of vLLM's workers (`worker_extension_cls`)."""

    model_runner: Any

    def receive(self, path: str) -> str:
        """Load a file of weights under their Hugging Face names; returns the fingerprint of the file."""
        self.model_runner.model.load_weights(load_file(path).items())
        return fingerprint(Path(path))


def fingerprint(path: Path) -> str:
    """16 hexadecimal digits over the bytes of a file of weights, or of all such files in a folder."""
    digest = hashlib.sha256()
    for part in sorted(path.glob("*.safetensors")) if path.is_dir() else [path]:
        with part.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


class VllmModel:
    """A model folder served by vLLM in this process; its workers may be other processes. `engine` is an
    engine that exists already; `options` are vLLM's.
    """

    def __init__(self, folder: Path, dialogue: Dialogue, *, engine: Any = None, **options: Any) -> None:
        self.folder, self.dialogue = folder, dialogue
        arguments = {
            "enable_prefix_caching": True,
            "skip_tokenizer_init": False,
            "trust_remote_code": False,
            **options,
        }
        self.engine = engine or vllm.LLM(
            model=str(folder), worker_extension_cls="solon.models.vllm.WeightReceiver", **arguments
        )
        self.fingerprint = fingerprint(folder)

    @property
    def name(self) -> str:
        """The name, for reports."""
        return f"vllm:{self.folder}"

    def sample(
        self,
        prompts: Sequence[Conversation],
        *,
        count: int = 1,
        max_tokens: int = 512,
        temperature: float = 1.0,
        top_p: float = 1.0,
        stop: Sequence[str] = (),
        seed: int,
    ) -> list[list[Sample]]:
        """See `Speaker.sample`. Each sample is a request with its own seed; only vLLM's batch-invariant mode
        makes it independent of the others.
        """
        stops = [*self.dialogue.stops, *stop]
        inputs, params = [], []
        for prompt, seeds in zip(prompts, row_seeds(prompts, count=count, seed=seed), strict=True):
            for row_seed in seeds:
                inputs.append({"prompt_token_ids": list(self.dialogue.prompt(prompt))})
                params.append(
                    vllm.SamplingParams(
                        max_tokens=max_tokens,
                        temperature=temperature,
                        top_p=top_p,
                        seed=row_seed % 2**31,
                        logprobs=0,
                        stop=stops or None,
                        include_stop_str_in_output=True,
                        stop_token_ids=sorted(self.dialogue.ends),
                        ignore_eos=True,
                    )
                )
        outputs = iter(self.engine.generate(inputs, params, use_tqdm=False))
        return [
            [self._sample(prompt, next(outputs).outputs[0], stops) for _ in range(count)]
            for prompt in prompts
        ]

    def _sample(self, prompt: Conversation, output: Any, stops: Sequence[str]) -> Sample:
        """The sample of one output. Raises InputError unless there is one log-probability for each token."""
        tokens = tuple(output.token_ids)
        if len(output.logprobs or ()) != len(tokens):
            raise InputError(
                f"vLLM returned {len(tokens)} tokens and {len(output.logprobs or ())} log-probabilities; "
                "they must be one each"
            )
        logprobs = tuple(
            float(row[token].logprob) for row, token in zip(output.logprobs, tokens, strict=True)
        )
        text = self.dialogue.text(prompt, tokens)
        cut = min((text.index(string) for string in stops if string in text), default=None)
        stopped = Stop.LENGTH
        if tokens and tokens[-1] in self.dialogue.ends:
            stopped = Stop.END
        elif cut is not None:
            stopped = Stop.STRING
        return Sample(tokens, text[:cut], logprobs, stopped, self.fingerprint)

    def score(self, prompts: Sequence[Conversation], replies: Sequence[str]) -> list[Sample]:
        """See `LanguageModel.score`. One-token replies of a prompt are one request for the log-probabilities
        of those tokens; longer ones are read from the log-probabilities of the prompt.

        Raises InputError where vLLM returns none for a token.
        """
        pairs = [
            (self.dialogue.prompt(prompt), self.dialogue.reply(prompt, reply))
            for prompt, reply in zip(prompts, replies, strict=True)
        ]
        if any(not reply for _, reply in pairs):
            raise InputError("an empty reply has no log-probability")
        tokens_after: dict[Tokens, dict[int, None]] = {}
        for prompt, reply in pairs:
            if len(reply) == 1:
                tokens_after.setdefault(prompt, {})[reply[0]] = None
        short = [
            vllm.SamplingParams(
                max_tokens=1, temperature=0.0, logprobs=0, logprob_token_ids=list(tokens), detokenize=False
            )
            for tokens in tokens_after.values()
        ]
        whole = list(dict.fromkeys(prompt + reply for prompt, reply in pairs if len(reply) > 1))
        long = [
            vllm.SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0, detokenize=False)
            for _ in whole
        ]
        inputs = [{"prompt_token_ids": list(tokens)} for tokens in (*tokens_after, *whole)]
        outputs = self.engine.generate(inputs, [*short, *long], use_tqdm=False) if inputs else []
        first_logprobs = {
            prompt: output.outputs[0].logprobs[0]
            for prompt, output in zip(tokens_after, outputs, strict=False)
        }
        prompt_logprobs = {
            tokens: output.prompt_logprobs
            for tokens, output in zip(whole, outputs[len(tokens_after) :], strict=True)
        }
        samples = []
        for (prompt, reply), text in zip(pairs, replies, strict=True):
            rows = (
                [first_logprobs[prompt]]
                if len(reply) == 1
                else prompt_logprobs[prompt + reply][len(prompt) :]
            )
            missing = [token for row, token in zip(rows, reply, strict=True) if token not in row]
            if missing:
                raise InputError(
                    f"vLLM returned no log-probability for token {missing[0]} of the reply {text[:40]!r}"
                )
            logprobs = tuple(float(row[token].logprob) for row, token in zip(rows, reply, strict=True))
            samples.append(Sample(reply, text, logprobs, Stop.GIVEN, self.fingerprint))
        return samples

    def update(self, model: TorchModel) -> None:
        """Load the weights of `model` into all workers. Raises InputError where a worker did not; the
        fingerprint is then "".
        """
        backbone: Any = model.merged().module
        tensors = {
            name: tensor
            for name, tensor in backbone.module.state_dict().items()
            if name not in backbone.module.all_tied_weights_keys
        }
        self.fingerprint = ""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "weights.safetensors"
            save_tensors(tensors, path)
            sent = fingerprint(path)
            answers = self.engine.collective_rpc("receive", args=(str(path),))
            self.engine.reset_prefix_cache()  # it was computed by the old weights
        wrong = [answer for answer in answers if answer != sent]
        if wrong or not answers:
            raise InputError(
                f"{len(wrong)} of {len(answers)} vLLM workers did not load the weights {sent}; start "
                "the engine anew"
            )
        self.fingerprint = sent


def load_vllm(folder: Path) -> VllmModel:
    """A Hugging Face model folder served by vLLM, with its own dialogue format. Raises InputError where it is
    not one.
    """
    check_folder(folder)
    config = AutoConfig.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return VllmModel(
        folder,
        dialogue_of(tokenizer, SimpleNamespace(generation_config=GenerationConfig.from_model_config(config))),
    )
