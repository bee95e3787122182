"""vLLM as a language model: fast sampling on accelerators. The one file that imports it (extra
`solon[vllm]`).

Tokens go in and tokens come out: vLLM never sees text but stop strings, and never tokenises. Prompts share
prefixes through its cache. New weights are sent as a safetensors file whose fingerprint every worker must
answer before anything is sampled.
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
    """What runs in each of vLLM's workers (`worker_extension_cls`)."""

    model_runner: Any

    def receive(self, path: str) -> str:
        """Load a file of weights under their Hugging Face names; returns the fingerprint of what was read."""
        self.model_runner.model.load_weights(load_file(path).items())
        return fingerprint(Path(path))


def fingerprint(path: Path) -> str:
    """16 hexadecimal digits over the bytes of a file of weights, or of every such file in a folder."""
    total = hashlib.sha256()
    for part in sorted(path.glob("*.safetensors")) if path.is_dir() else [path]:
        with part.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()[:16]


class VllmModel:
    """A model folder served by vLLM in this process (its workers may be others). `engine` is for tests and
    for engines that exist already.
    """

    def __init__(self, folder: Path, dialogue: Dialogue, *, engine: Any = None, **options: Any) -> None:
        self.folder, self.dialogue = folder, dialogue
        told = {
            "enable_prefix_caching": True,
            "skip_tokenizer_init": False,
            "trust_remote_code": False,
            **options,
        }
        self.engine = engine or vllm.LLM(
            model=str(folder), worker_extension_cls="solon.models.vllm.WeightReceiver", **told
        )
        self.fingerprint = fingerprint(folder)

    @property
    def name(self) -> str:
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
        """See `Speaker.sample`. Each copy is a request with a seed of its own; how far a reply depends on
        those beside it is vLLM's to say (its batch-invariant mode makes it independent).
        """
        stops = [*self.dialogue.stops, *stop]
        given, how = [], []
        for prompt, seeds in zip(prompts, row_seeds(prompts, count=count, seed=seed), strict=True):
            for own in seeds:
                given.append({"prompt_token_ids": list(self.dialogue.prompt(prompt))})
                how.append(
                    vllm.SamplingParams(
                        max_tokens=max_tokens,
                        temperature=temperature,
                        top_p=top_p,
                        seed=own % 2**31,
                        logprobs=0,
                        stop=stops or None,
                        include_stop_str_in_output=True,
                        stop_token_ids=sorted(self.dialogue.ends),
                        ignore_eos=True,
                    )
                )
        drawn = iter(self.engine.generate(given, how, use_tqdm=False))
        return [
            [self._sample(prompt, next(drawn).outputs[0], stops) for _ in range(count)] for prompt in prompts
        ]

    def _sample(self, prompt: Conversation, made: Any, stops: Sequence[str]) -> Sample:
        tokens = tuple(made.token_ids)
        if len(made.logprobs or ()) != len(tokens):
            raise InputError(
                f"vLLM returned {len(tokens)} tokens and {len(made.logprobs or ())} log-probabilities; "
                "they must be one each"
            )
        logprobs = tuple(float(row[token].logprob) for row, token in zip(made.logprobs, tokens, strict=True))
        text = self.dialogue.text(prompt, tokens)
        cut = min((text.index(string) for string in stops if string in text), default=None)
        why = Stop.LENGTH
        if tokens and tokens[-1] in self.dialogue.ends:
            why = Stop.END
        elif cut is not None:
            why = Stop.STRING
        return Sample(tokens, text[:cut], logprobs, why, self.fingerprint)

    def score(self, prompts: Sequence[Conversation], replies: Sequence[str]) -> list[Sample]:
        """See `LanguageModel.score`. One-token replies of a prompt are one request for the log-probabilities
        of just those tokens, which the prefix cache serves; longer ones are read off the prompt's own, which
        vLLM computes without it.
        """
        pairs = [
            (self.dialogue.prompt(prompt), self.dialogue.reply(prompt, reply))
            for prompt, reply in zip(prompts, replies, strict=True)
        ]
        if any(not reply for _, reply in pairs):
            raise InputError("an empty reply has no log-probability")
        wanted: dict[Tokens, dict[int, None]] = {}
        for prompt, reply in pairs:
            if len(reply) == 1:
                wanted.setdefault(prompt, {})[reply[0]] = None
        short = [
            vllm.SamplingParams(
                max_tokens=1, temperature=0.0, logprobs=0, logprob_token_ids=list(tokens), detokenize=False
            )
            for tokens in wanted.values()
        ]
        whole = list(dict.fromkeys(prompt + reply for prompt, reply in pairs if len(reply) > 1))
        long = [
            vllm.SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0, detokenize=False)
            for _ in whole
        ]
        given = [{"prompt_token_ids": list(tokens)} for tokens in (*wanted, *whole)]
        made = self.engine.generate(given, [*short, *long], use_tqdm=False) if given else []
        first = {prompt: found.outputs[0].logprobs[0] for prompt, found in zip(wanted, made, strict=False)}
        read = {
            tokens: found.prompt_logprobs for tokens, found in zip(whole, made[len(wanted) :], strict=True)
        }
        samples = []
        for (prompt, reply), text in zip(pairs, replies, strict=True):
            rows = [first[prompt]] if len(reply) == 1 else read[prompt + reply][len(prompt) :]
            missing = [token for row, token in zip(rows, reply, strict=True) if token not in row]
            if missing:
                raise InputError(
                    f"vLLM returned no log-probability for token {missing[0]} of the reply {text[:40]!r}"
                )
            logprobs = tuple(float(row[token].logprob) for row, token in zip(rows, reply, strict=True))
            samples.append(Sample(reply, text, logprobs, Stop.GIVEN, self.fingerprint))
        return samples

    def update(self, model: TorchModel) -> None:
        """Take over a model's weights. Raises InputError, and serves nothing more as if it had, where a
        worker did not.
        """
        body: Any = model.merged().module
        tensors = {
            name: tensor
            for name, tensor in body.module.state_dict().items()
            if name not in body.module.all_tied_weights_keys
        }
        self.fingerprint = ""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "weights.safetensors"
            save_tensors(tensors, path)
            sent = fingerprint(path)
            answers = self.engine.collective_rpc("receive", args=(str(path),))
            self.engine.reset_prefix_cache()  # what it holds was computed by the weights before
        wrong = [answer for answer in answers if answer != sent]
        if wrong or not answers:
            raise InputError(
                f"{len(wrong)} of {len(answers)} vLLM workers did not take up the weights {sent}; start "
                "the engine anew"
            )
        self.fingerprint = sent


def load_vllm(folder: Path) -> VllmModel:
    """A model folder of Hugging Face's, with its own dialogue form. Raises InputError where it is none."""
    check_folder(folder)
    config = AutoConfig.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return VllmModel(
        folder,
        dialogue_of(tokenizer, SimpleNamespace(generation_config=GenerationConfig.from_model_config(config))),
    )
