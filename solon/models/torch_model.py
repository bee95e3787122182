"""An OpenModel in this process: a backbone and its dialogue format."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from solon.errors import InputError
from solon.models.adapters import Lora, add_adapters, copy_sharing_frozen, merge_adapters, rounded_copy
from solon.models.backbones.backbone import Backbone, fast_precision
from solon.models.base import Sample, Stop, Tokens, row_seeds
from solon.models.dialogue import Dialogue, plain_text
from solon.models.sampling import Request, SamplingParams, generate
from solon.models.scoring import score
from solon.models.trie import ScoreRequest
from solon.models.weights import Fingerprint, load_trained, save_trained
from solon.words.conversation import Conversation


class TorchModel:
    """A causal transformer in this process. `name` is for reports; the fingerprint identifies the weights.
    `source` is the base model that an exported adapter names.
    """

    def __init__(self, name: str, backbone: Backbone, dialogue: Dialogue, *, source: str = "") -> None:
        self._name, self._backbone, self.dialogue = name, backbone, dialogue
        self.source = source or name
        self._fingerprint = Fingerprint()

    @property
    def name(self) -> str:
        """The name, for reports."""
        return self._name

    @property
    def module(self) -> Backbone:
        """The backbone."""
        return self._backbone

    @property
    def context(self) -> int:
        """The most tokens that prompt and reply may have together."""
        return self._backbone.context

    @property
    def sites(self) -> tuple[str, ...]:
        """The names of every module whose output can be recorded or edited."""
        return tuple(name for name, _ in self._backbone.named_modules() if name)

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over the weights (see `Fingerprint`)."""
        return self._fingerprint.of(self._backbone)

    def fits(self, prompt: Conversation, *, max_tokens: int) -> bool:
        """Whether the prompt leaves room for a reply of `max_tokens`."""
        return len(self.dialogue.prompt(prompt)) + max_tokens <= self.context

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
        """See `Speaker.sample`. Where the context is full before `max_tokens`, the stop is LENGTH too. Raises
        InputError on settings out of range.
        """
        if temperature < 0 or not 0 < top_p <= 1 or count < 1 or max_tokens < 1:
            raise InputError(
                f"cannot sample {count} replies of {max_tokens} tokens at temperature {temperature}, top_p "
                f"{top_p}"
            )
        seeds = row_seeds(prompts, count=count, seed=seed)
        return self.sample_with_seeds(
            prompts, seeds, max_tokens=max_tokens, temperature=temperature, top_p=top_p, stop=stop
        )

    def sample_with_seeds(
        self,
        prompts: Sequence[Conversation],
        seeds: Sequence[Sequence[int]],
        *,
        max_tokens: int,
        temperature: float = 1.0,
        top_p: float = 1.0,
        stop: Sequence[str] = (),
    ) -> list[list[Sample]]:
        """See `Speaker.sample`, with one seed for each sample of each prompt."""
        stops = (*self.dialogue.stops, *stop)
        requests = [
            Request(self._prompt(prompt), tuple(prompt_seeds), self._stopped(prompt, stops))
            for prompt, prompt_seeds in zip(prompts, seeds, strict=True)
        ]
        params = SamplingParams(max_tokens, temperature, top_p, self.dialogue.ends)
        weights = self.fingerprint
        samples: dict[tuple[int, int], Sample] = {}
        for index, sampled, stopped in generate(self._backbone, requests, params):
            text = self.dialogue.text(prompts[index[0]], tuple(sampled.tokens))
            cut = min((text.index(string) for string in stops if string in text), default=len(text))
            samples[index] = Sample(
                tuple(sampled.tokens), text[:cut], tuple(sampled.logprobs), stopped, weights
            )
        return [
            [samples[number, copy] for copy in range(len(prompt_seeds))]
            for number, prompt_seeds in enumerate(seeds)
        ]

    def _prompt(self, prompt: Conversation) -> Tokens:
        """The prompt's tokens. Raises InputError where they fill the context."""
        tokens = self.dialogue.prompt(prompt)
        if len(tokens) >= self.context:
            raise InputError(
                f"a prompt of {len(tokens)} tokens leaves no room in {self.name}'s context of "
                f"{self.context}; leave it out (see fits)"
            )
        return tokens

    def _stopped(self, prompt: Conversation, stops: Sequence[str]) -> Callable[[list[int]], bool]:
        """Whether a reply to `prompt` contains one of the stop strings, as a function of its tokens."""
        if not stops:
            return lambda tokens: False
        return lambda tokens: any(string in self.dialogue.text(prompt, tuple(tokens)) for string in stops)

    def score(
        self, prompts: Sequence[Conversation], replies: Sequence[str], *, truncate: bool = False
    ) -> list[Sample]:
        """See `LanguageModel.score`. With `truncate`, a prompt that does not fit with the longest of its
        replies in this call loses its first tokens, for all of them; `Sample.cut` is their number.
        """
        requests = self.requests(prompts, replies, truncate=truncate)
        weights = self.fingerprint
        rows = zip(
            requests, replies, score(self._backbone, [request for request, _ in requests]), strict=True
        )
        return [
            Sample(tokens, reply, tuple(logprobs.tolist()), Stop.GIVEN, weights, cut)
            for ((_, tokens), cut), reply, logprobs in rows
        ]

    def requests(
        self, prompts: Sequence[Conversation], replies: Sequence[str], *, truncate: bool = False
    ) -> list[tuple[ScoreRequest, int]]:
        """What `score` computes: the tokens of each prompt and reply, and how many were cut from the prompt's
        start.
        """
        whole, longest = [], dict[Tokens, int]()
        prompt_tokens = {conversation: self.dialogue.prompt(conversation) for conversation in set(prompts)}
        for conversation, reply in zip(prompts, replies, strict=True):
            prompt, tokens = prompt_tokens[conversation], self.dialogue.reply(conversation, reply)
            if not tokens:
                raise InputError(
                    f"an empty reply has no log-probability; its prompt ends on {conversation.last[-60:]!r}"
                )
            whole.append((prompt, tokens))
            longest[prompt] = max(longest.get(prompt, 0), len(tokens))
        cuts = {prompt: max(len(prompt) + size - self.context, 0) for prompt, size in longest.items()}
        for prompt, cut in cuts.items():
            if cut and (not truncate or cut >= len(prompt)):
                raise InputError(
                    f"prompt and reply have {len(prompt) + longest[prompt]} tokens, over {self.name}'s "
                    f"context of {self.context}"
                )
        return [((prompt[cuts[prompt] :], tokens), cuts[prompt]) for prompt, tokens in whole]

    def plain(self) -> TorchModel:
        """The same model with the plain-text format (see `dialogue.PlainText`)."""
        return TorchModel(self._name, self._backbone, plain_text(self.dialogue), source=self.source)

    def copy(self) -> TorchModel:
        """A copy with trainable weights of its own; frozen ones are shared and never change."""
        return TorchModel(self._name, copy_sharing_frozen(self._backbone), self.dialogue, source=self.source)

    def adapted(self, lora: Lora, *, seed: int) -> TorchModel:
        """A copy with new adapters, which change nothing yet. The shared base is frozen in both models."""
        self._backbone.requires_grad_(False)
        twin = self.copy()
        add_adapters(twin.module.trunk, lora, seed=seed)
        return twin

    def unfrozen(self) -> TorchModel:
        """A copy in fp32 whose weights all train; this model is frozen."""
        self._backbone.requires_grad_(False)
        backbone = copy.deepcopy(self._backbone).float().requires_grad_(True)
        return TorchModel(self._name, backbone, self.dialogue, source=self.source)

    @property
    def bf16_is_faster(self) -> bool:
        """Whether this machine computes faster in bfloat16 than in fp32."""
        return fast_precision() is torch.bfloat16

    def rounded(self) -> TorchModel:
        """The model that samples fastest: itself, or a copy rounded to bfloat16 where that is faster here.
        Its samples have the fingerprint of the rounded weights.
        """
        if not self.bf16_is_faster or all(
            parameter.dtype is torch.bfloat16 for parameter in self._backbone.parameters()
        ):
            return self
        return TorchModel(
            self._name, rounded_copy(self._backbone, torch.bfloat16), self.dialogue, source=self.source
        )

    def merged(self) -> TorchModel:
        """A copy with the adapters added into the weights, in fp32, for export."""
        return TorchModel(self._name, merge_adapters(self._backbone), self.dialogue, source=self.source)

    def save(self, path: Path) -> None:
        """Write the trainable weights (safetensors). For a folder that other libraries load, see
        `huggingface.export`.
        """
        save_trained(self._backbone, path)

    def load(self, path: Path) -> None:
        """Read the trainable weights that `save` wrote. Raises InputError where names or shapes differ."""
        load_trained(self._backbone, path)
