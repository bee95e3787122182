"""Models on any OpenAI-compatible server: retries, bounded concurrency, replies cached on disk.

A server that returns log-probabilities of the prompt's tokens (the completions endpoint with `echo`, as vLLM
and llama.cpp do) is a LanguageModel: `RemoteLanguageModel`. All others are only Speakers: `RemoteModel` has
no `score`, so passing one to `choose` is a type error before anything runs.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from solon.data.rows import to_messages
from solon.errors import InputError
from solon.models.base import Sample, Stop, row_seeds
from solon.words.conversation import Conversation, write_transcript

RETRIED = {408, 409, 425, 429, 500, 502, 503, 504}
STOPS = {"length": Stop.LENGTH, "stop": Stop.END}


class RemoteModel:
    """A Speaker at `address` (".../v1"). The key is read from OPENAI_API_KEY unless given; it is never
    stored.

    `cache` is a folder of answers by request; `concurrency` requests run at once; a failed one is tried
    `attempts` times, after `pause` seconds doubled each time; `timeout` is in seconds. `tokens` of the
    samples are always empty and `weights` always "".
    """

    def __init__(
        self,
        address: str,
        model: str,
        *,
        key: str | None = None,
        cache: Path | None = None,
        concurrency: int = 8,
        attempts: int = 5,
        pause: float = 0.5,
        timeout: float = 120.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.address, self.model, self.cache = address.rstrip("/"), model, cache
        self.concurrency, self.attempts, self.pause = concurrency, attempts, pause
        secret = key if key is not None else os.environ.get("OPENAI_API_KEY", "")
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        self._client = httpx.Client(headers=headers, timeout=timeout, transport=transport)

    @property
    def name(self) -> str:
        """The model's name on the server."""
        return self.model

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
        """See `Speaker.sample`. Each reply is one request with its own seed; whether the seed has an effect
        depends on the server. Raises InputError where the server does not answer.
        """
        seeds = row_seeds(prompts, count=count, seed=seed)
        bodies = [
            {
                "model": self.model,
                "messages": to_messages(prompt),
                "max_tokens": max_tokens,
                "temperature": temperature,
                "top_p": top_p,
                "seed": row_seed % 2**31,
                **({"stop": list(stop)} if stop else {}),
            }
            for prompt, row in zip(prompts, seeds, strict=True)
            for row_seed in row
        ]
        samples = [_chat_sample(answer) for answer in self._all("/chat/completions", bodies)]
        return [samples[start : start + count] for start in range(0, len(samples), count)]

    def _all(self, path: str, bodies: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The answers to requests, in order, `concurrency` at once."""
        with ThreadPoolExecutor(self.concurrency) as pool:
            return list(pool.map(lambda body: self._one(path, body), bodies))

    def _one(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """One answer, from the cache where the same request is in it."""
        request = json.dumps([self.address, path, body], sort_keys=True)
        file = self.cache / f"{hashlib.sha256(request.encode()).hexdigest()}.json" if self.cache else None
        if file and file.exists():
            answer: dict[str, Any] = json.loads(file.read_text())
            return answer
        answer = self._ask(path, body)
        if file:
            file.parent.mkdir(parents=True, exist_ok=True)
            partial = file.with_suffix(f".{os.getpid()}.{id(body)}.partial")
            partial.write_text(json.dumps(answer))
            partial.rename(file)
        return answer

    def _ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """One answer, with retries."""
        reason = ""
        for attempt in range(self.attempts):
            if attempt:
                time.sleep(self.pause * 2 ** (attempt - 1))
            try:
                response = self._client.post(self.address + path, json=body)
            except httpx.TransportError as error:
                reason = f"{type(error).__name__}: {error}"
                continue
            if response.status_code == 200:
                answer: dict[str, Any] = response.json()
                return answer
            reason = f"status {response.status_code}: {response.text[:200]}"
            if response.status_code not in RETRIED:
                break
        raise InputError(f"{self.address}{path} did not answer for model {self.model!r}; last: {reason}")


class RemoteLanguageModel(RemoteModel):
    """A LanguageModel at a completions endpoint that returns the prompt with its log-probabilities.

    It gets the Human/Assistant form, since a server's chat template is not known here.
    """

    def score(self, prompts: Sequence[Conversation], replies: Sequence[str]) -> list[Sample]:
        """See `LanguageModel.score`. Raises InputError where a token of the server contains both prompt and
        reply.
        """
        starts: list[int] = []
        bodies: list[dict[str, Any]] = []
        for prompt, reply in zip(prompts, replies, strict=True):
            if not reply:
                raise InputError("an empty reply has no log-probability")
            head = write_transcript(prompt)
            text = head + (f" {reply}" if prompt.awaits_reply else reply)
            starts.append(len(head))
            bodies.append(
                {
                    "model": self.model,
                    "prompt": text,
                    "max_tokens": 1,
                    "temperature": 0,
                    "echo": True,
                    "logprobs": 1,
                }
            )
        answers = self._all("/completions", bodies)
        return [
            _echo_sample(answer, start, len(body["prompt"]), reply)
            for answer, start, body, reply in zip(answers, starts, bodies, replies, strict=True)
        ]


def _chat_sample(answer: dict[str, Any]) -> Sample:
    """The sample of a chat completion."""
    choice = answer["choices"][0]
    stop = STOPS.get(choice.get("finish_reason") or "stop", Stop.LENGTH)
    listed = (choice.get("logprobs") or {}).get("content") or []
    return Sample(
        (), choice["message"]["content"] or "", tuple(float(token["logprob"]) for token in listed), stop, ""
    )


def _echo_sample(answer: dict[str, Any], start: int, end: int, reply: str) -> Sample:
    """The sample of the characters `start` to `end` of an echoed completion."""
    answered = (answer["choices"][0].get("logprobs") or {}) if answer.get("choices") else {}
    offsets, logprobs = answered.get("text_offset"), answered.get("token_logprobs")
    if not offsets or not logprobs:
        raise InputError(
            "this server returns no log-probabilities of the prompt: it is a Speaker, not a LanguageModel"
        )
    scored = [
        (offset, logprob) for offset, logprob in zip(offsets, logprobs, strict=True) if start <= offset < end
    ]
    if not scored or scored[0][0] != start:
        raise InputError(
            f"a token of the server runs across the border between prompt and reply {reply[:30]!r}"
        )
    if any(logprob is None or not math.isfinite(logprob) for _, logprob in scored):
        raise InputError(f"the server gave no finite log-probability for a token of {reply[:30]!r}")
    return Sample((), reply, tuple(float(logprob) for _, logprob in scored), Stop.GIVEN, "")
