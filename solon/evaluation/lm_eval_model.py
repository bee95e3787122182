"""Solon as a model of lm-evaluation-harness: `--model solon`, an extra (`pip install 'solon[lm-eval]'`).

Contexts and continuations are tokenised as by the harness's `hf` model, so numbers in float32 are equal.
Prefixes that requests share are computed once.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from jinja2 import TemplateError
from lm_eval import utils
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import has_bos_prefix, normalize_gen_kwargs
from tqdm import tqdm

from solon.errors import InputError
from solon.models.base import Tokens, derive
from solon.models.dialogue import ChatTemplate, Transcript
from solon.models.load import load_open
from solon.models.sampling import Request, SamplingParams, generate
from solon.models.scoring import score_and_greedy
from solon.models.torch_model import TorchModel
from solon.models.trie import ScoreRequest
from solon.pool.maps import batched

LOG = logging.getLogger(__name__)
CHUNK = 1024  # requests scored together, sharing prefixes, between updates of the progress bar
KNOWN = {"do_sample", "temperature", "top_p", "until", "max_gen_toks"}


@register_model("solon")
class SolonLM(TemplateLM):
    """`model` is smollm2, gemma3-270m, a model folder or a hub id; `precision` auto, float32 or bfloat16.

    Contexts that are too long lose their first tokens, as in the harness; a warning after each call counts
    them. Raises InputError on unknown arguments and on a model without a tokenizer for any text.
    """

    def __init__(self, model: str | TorchModel, precision: str = "auto", seed: int = 0, **more: Any) -> None:
        super().__init__()
        ignored = {name for name, value in more.items() if value is not None} - {
            "batch_size",
            "max_batch_size",
            "device",
        }
        if ignored:
            raise InputError(
                "the solon model has the arguments model, precision and seed; not "
                f"{', '.join(sorted(ignored))}"
            )
        self.solon = load_open(model, precision=precision) if isinstance(model, str) else model
        if not isinstance(self.solon.dialogue, (ChatTemplate, Transcript)):
            raise InputError(
                f"{self.solon.name} has a vocabulary of whole words; the harness needs a tokenizer that "
                "reads any text"
            )
        self.tokenizer: Any = self.solon.dialogue.tokenizer
        self.seed = seed

    @property
    def eot_token_id(self) -> int:
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        first = self.tokenizer.bos_token_id
        return self.eot_token_id if first is None else int(first)

    @property
    def max_length(self) -> int:
        return self.solon.context

    @property
    def tokenizer_name(self) -> str:
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def get_model_info(self) -> dict[str, Any]:
        """The model's name and fingerprint, for the harness's results."""
        return {"model_name": self.solon.name, "model_fingerprint": self.solon.fingerprint}

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """The chat as text by the tokenizer's template; without its system message where the template takes
        none, as in the harness.
        """
        if not getattr(self.tokenizer, "chat_template", None):
            raise InputError(f"{self.solon.name} has no chat template: leave --apply_chat_template out")
        more = {
            "tokenize": False,
            "add_generation_prompt": add_generation_prompt,
            "continue_final_message": not add_generation_prompt,
        }
        try:
            return str(self.tokenizer.apply_chat_template(chat_history, **more))
        except TemplateError:
            LOG.warning("the chat template takes no system role; it is left out")
            return str(
                self.tokenizer.apply_chat_template(
                    [message for message in chat_history if message["role"] != "system"], **more
                )
            )

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The tokenizer's template, for the harness's results."""
        return (
            str(self.tokenizer.chat_template)
            if chat_template and getattr(self.tokenizer, "chat_template", None)
            else None
        )

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """Tokens of a text, without a second start token where the text begins with one."""
        if add_special_tokens is None and has_bos_prefix(string, self.tokenizer.decode(self.prefix_token_id)):
            add_special_tokens = False
        more = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        return list(self.tokenizer.encode(string, **more))

    def _loglikelihood_tokens(
        self,
        requests: list[tuple[tuple[str, str], list[int], list[int]]],
        disable_tqdm: bool = False,
        **kwargs: Any,
    ) -> list[tuple[float, bool]]:
        results: list[tuple[float, bool]] = []
        cut = 0
        with tqdm(total=len(requests), disable=disable_tqdm, desc="Scoring") as bar:
            for batch in batched(requests, CHUNK):
                pairs = []
                for _, context, reply in batch:
                    room = self.max_length + 1 - len(reply)  # the last token is predicted and never read
                    if room < 1 or not reply:
                        raise InputError(
                            f"a continuation of {len(reply)} tokens cannot be scored in a context of "
                            f"{self.max_length}"
                        )
                    cut += len(context) > room
                    pairs.append((tuple(context[-room:]), tuple(reply)))
                for (key, _, _), own_T2 in zip(batch, self._scored(pairs), strict=True):
                    results.append((float(own_T2[:, 0].sum()), bool(own_T2[:, 1].all())))
                    if key is not None:
                        self.cache_hook.add_partial("loglikelihood", key, results[-1])
                bar.update(len(batch))
        if cut:
            LOG.warning("%d of %d contexts were cut on the left to fit", cut, len(requests))
        return results

    def _scored(self, pairs: list[ScoreRequest]) -> list[torch.Tensor]:
        """(T, 2) for each pair: every reply token's log-probability and whether it is greedy. Rows that fill
        the context are run without their last token.
        """
        long = [
            index for index, (prompt, reply) in enumerate(pairs) if len(prompt) + len(reply) > self.max_length
        ]
        short = iter(
            score_and_greedy(
                self.solon.module, [pair for index, pair in enumerate(pairs) if index not in set(long)]
            )
        )
        return [
            self._filling(*pair) if len(pair[0]) + len(pair[1]) > self.max_length else next(short)
            for pair in pairs
        ]

    @torch.inference_mode()
    def _filling(self, prompt: Tokens, reply: Tokens) -> torch.Tensor:
        backbone, target_T = self.solon.module, torch.tensor(reply, device=self.solon.module.device)
        hidden_TC = backbone.hidden(torch.tensor([(prompt + reply)[:-1]], device=backbone.device))[
            0, -len(reply) :
        ]
        logits_TV = backbone.logits(hidden_TC).float()
        logprob_T = logits_TV.log_softmax(dim=-1).gather(1, target_T[:, None])[:, 0]
        return torch.stack([logprob_T, (logits_TV.argmax(dim=-1) == target_T).float()], dim=-1).cpu()

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Log-probabilities (nats) of whole texts, in windows that together predict every token once."""
        windows: list[Any] = []
        of: list[int] = []
        for index, request in enumerate(requests):
            token_windows = utils.get_rolling_token_windows(
                token_list=self.tok_encode(request.args[0]),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            )
            for window in map(utils.make_disjoint_window, token_windows):
                windows.append((None, *window))
                of.append(index)
        totals = [0.0] * len(requests)
        for index, (logprob, _) in zip(
            of, self._loglikelihood_tokens(windows, disable_tqdm=disable_tqdm), strict=True
        ):
            totals[index] += logprob
        for request, total in zip(requests, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return totals

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Replies up to the first of their stop strings."""
        settings = [normalize_gen_kwargs(dict(request.args[1])) for request in requests]
        groups: dict[tuple[int, float, float], list[int]] = {}
        for index, arguments in enumerate(settings):
            if set(arguments) - KNOWN:
                raise InputError(
                    f"the solon model samples with {', '.join(sorted(KNOWN))}; not with "
                    f"{', '.join(sorted(set(arguments) - KNOWN))}"
                )
            groups.setdefault(
                (
                    arguments["max_gen_toks"],
                    float(arguments.get("temperature", 0.0)),
                    float(arguments.get("top_p", 1.0)),
                ),
                [],
            ).append(index)
        texts: dict[int, str] = {}
        ends = self.solon.dialogue.ends | {self.eot_token_id}
        with tqdm(total=len(requests), disable=disable_tqdm, desc="Sampling") as bar:
            for (tokens, temperature, top_p), indices in groups.items():
                prompts = [
                    self._asked(requests[index].args[0], settings[index]["until"], tokens, index)
                    for index in indices
                ]
                for (number, _), row, _ in generate(
                    self.solon.module, prompts, SamplingParams(tokens, temperature, top_p, ends)
                ):
                    index = indices[number]
                    texts[index] = self._text(row.tokens, settings[index]["until"])
                    self.cache_hook.add_partial("generate_until", requests[index].args, texts[index])
                    bar.update()
        return [texts[index] for index in range(len(requests))]

    def _asked(self, context: str, until: Sequence[str], tokens: int, index: int) -> Request:
        room = self.max_length - tokens
        if room < 1:
            raise InputError(
                f"{tokens} tokens to generate leave no room in a context of {self.max_length}; set "
                "max_gen_toks"
            )
        prompt: Tokens = tuple(self.tok_encode(context))[-room:]
        return Request(
            prompt,
            (derive(self.seed, index),),
            lambda row: any(stop in self.tokenizer.decode(row) for stop in until),
        )

    def _text(self, tokens: Sequence[int], until: Sequence[str]) -> str:
        text = str(self.tokenizer.decode(tokens, skip_special_tokens=True))
        return text[: min((text.index(stop) for stop in until if stop and stop in text), default=len(text))]
