"""An OpenModel: a body, the dialogue form it speaks, and its weights in hand."""

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
    """A causal transformer in this process. The name is for people; the fingerprint says what the weights
    are.
    """

    def __init__(self, name: str, body: Backbone, dialogue: Dialogue, *, source: str = "") -> None:
        self._name, self._body, self.dialogue = name, body, dialogue
        self.source = source or name  # what an exported adapter says it belongs to
        self._fingerprint = Fingerprint()

    @property
    def name(self) -> str:
        return self._name

    @property
    def module(self) -> Backbone:
        return self._body

    @property
    def context(self) -> int:
        """Tokens that prompt and reply may have together."""
        return self._body.context

    @property
    def sites(self) -> tuple[str, ...]:
        """The names of every module whose output can be read or changed."""
        return tuple(name for name, _ in self._body.named_modules() if name)

    @property
    def fingerprint(self) -> str:
        return self._fingerprint.of(self._body)

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
        """See `Speaker.sample`. The context may end a reply before `max_tokens` does: its stop is then
        LENGTH.
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
        """The same with a seed given for each sample of each prompt."""
        stops = (*self.dialogue.stops, *stop)
        rows = zip(prompts, seeds, strict=True)
        requests = [
            Request(self._prompt(prompt), tuple(own), self._stopped(prompt, stops)) for prompt, own in rows
        ]
        rules = SamplingParams(max_tokens, temperature, top_p, self.dialogue.ends)
        weights = self.fingerprint
        drawn: dict[tuple[int, int], Sample] = {}
        for place, row, why in generate(self._body, requests, rules):
            text = self.dialogue.text(prompts[place[0]], tuple(row.tokens))
            cut = min((text.index(string) for string in stops if string in text), default=len(text))
            drawn[place] = Sample(tuple(row.tokens), text[:cut], tuple(row.logprobs), why, weights)
        return [[drawn[number, copy] for copy in range(len(own))] for number, own in enumerate(seeds)]

    def _prompt(self, prompt: Conversation) -> Tokens:
        tokens = self.dialogue.prompt(prompt)
        if len(tokens) >= self.context:
            raise InputError(
                f"a prompt of {len(tokens)} tokens leaves no room in {self.name}'s context of "
                f"{self.context}; leave it out (see fits)"
            )
        return tokens

    def _stopped(self, prompt: Conversation, stops: Sequence[str]) -> Callable[[list[int]], bool]:
        if not stops:
            return lambda tokens: False
        return lambda tokens: any(string in self.dialogue.text(prompt, tuple(tokens)) for string in stops)

    def score(
        self, prompts: Sequence[Conversation], replies: Sequence[str], *, truncate: bool = False
    ) -> list[Sample]:
        """See `LanguageModel.score`. With `truncate`, a prompt that does not fit beside the longest of the
        replies to it in this call loses its first tokens, for all of them, and the samples say how many.
        """
        found = self.requests(prompts, replies, truncate=truncate)
        weights = self.fingerprint
        rows = zip(found, replies, score(self._body, [request for request, _ in found]), strict=True)
        return [
            Sample(tokens, reply, tuple(logprobs.tolist()), Stop.GIVEN, weights, cut)
            for ((_, tokens), cut), reply, logprobs in rows
        ]

    def requests(
        self, prompts: Sequence[Conversation], replies: Sequence[str], *, truncate: bool = False
    ) -> list[tuple[ScoreRequest, int]]:
        """What `score` computes: the tokens of each prompt and reply, and how many of the prompt's first were
        cut.
        """
        whole, longest = [], dict[Tokens, int]()
        known = {conversation: self.dialogue.prompt(conversation) for conversation in set(prompts)}
        for conversation, reply in zip(prompts, replies, strict=True):
            prompt, tokens = known[conversation], self.dialogue.reply(conversation, reply)
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
        """The same model spoken to in plain text (see `dialogue.PlainText`)."""
        return TorchModel(self._name, self._body, plain_text(self.dialogue), source=self.source)

    def copy(self) -> TorchModel:
        """Its own trainable weights; frozen ones are shared and never change."""
        return TorchModel(self._name, copy_sharing_frozen(self._body), self.dialogue, source=self.source)

    def adapted(self, lora: Lora, *, seed: int) -> TorchModel:
        """A copy on the same, now frozen, base with fresh adapters that change nothing yet."""
        self._body.requires_grad_(False)
        twin = self.copy()
        add_adapters(twin.module.trunk, lora, seed=seed)
        return twin

    def unfrozen(self) -> TorchModel:
        """A copy of its own with every weight free to train, in fp32."""
        self._body.requires_grad_(False)
        body = copy.deepcopy(self._body).float().requires_grad_(True)
        return TorchModel(self._name, body, self.dialogue, source=self.source)

    @property
    def bf16_is_faster(self) -> bool:
        """Whether this machine computes faster in bfloat16 than in fp32."""
        return fast_precision() is torch.bfloat16

    def rounded(self) -> TorchModel:
        """What samples fastest: itself, or where weights are in fp32 and this machine is faster in bfloat16,
        a rounded copy. Samples carry the fingerprint of the weights that drew them, which then is the copy's.
        """
        if not self.bf16_is_faster or all(
            parameter.dtype is torch.bfloat16 for parameter in self._body.parameters()
        ):
            return self
        return TorchModel(
            self._name, rounded_copy(self._body, torch.bfloat16), self.dialogue, source=self.source
        )

    def merged(self) -> TorchModel:
        """A copy with the adapters added into the weights, ready to be saved for other libraries."""
        return TorchModel(self._name, merge_adapters(self._body), self.dialogue, source=self.source)

    def save(self, path: Path) -> None:
        """The weights that train (safetensors). For a folder that others load, see `huggingface.export`."""
        save_trained(self._body, path)

    def load(self, path: Path) -> None:
        load_trained(self._body, path)
