"""Scoring speed beside lm-evaluation-harness 0.4.13, in one process, on SmolLM2 in bf16.

    python -m benchmarks.scoring [--items 8] [--runs 5] [--json]        # needs the extra [bench]

Both are given the same token ids, of the shape of each task: the peer's own scoring loop
(`_loglikelihood_tokens`, batch 16, logits cache on) and Solon's `score`. Times are of that loop alone. The
numbers of both are compared too, in bf16 as timed and in fp32 on a part.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM

from benchmarks.sidebyside import alternating, multiply_limit, options_of, told
from solon.models.base import Tokens
from solon.models.load import load_open
from solon.models.scoring import score
from solon.models.trie import ScoreRequest, build_trie

VOCABULARY = range(1000, 40000)


def words(rng: random.Random, count: int) -> Tokens:
    return tuple(rng.choices(VOCABULARY, k=count))


def single_token_options(items: int, rng: random.Random) -> list[ScoreRequest]:
    """Five shots of about 90 tokens, an item of about 90, four options of one token."""
    header, options = words(rng, 450), [words(rng, 1) for _ in range(4)]
    return [
        (header + item, option)
        for item in (words(rng, rng.randint(60, 120)) for _ in range(items))
        for option in options
    ]


def long_options(items: int, rng: random.Random) -> list[ScoreRequest]:
    """The same with four options of 4 to 12 tokens."""
    header = words(rng, 450)
    asked = [header + words(rng, rng.randint(60, 120)) for _ in range(items)]
    return [(prompt, words(rng, rng.randint(4, 12))) for prompt in asked for _ in range(4)]


def p_true(items: int, rng: random.Random) -> list[ScoreRequest]:
    """Twenty shots of about 60 tokens, an item of about 60, True or False in three tokens each."""
    header, start = words(rng, 1200), words(rng, 1)
    options = [(*start, *words(rng, 2)) for _ in range(2)]
    return [
        (header + item, option)
        for item in (words(rng, rng.randint(40, 80)) for _ in range(items))
        for option in options
    ]


def early_answers(items: int, rng: random.Random) -> list[ScoreRequest]:
    """For each question 20 chains of thought of 6 sentences, cut after each, an answer asked for, four
    one-token options.
    """
    asking, options, found = words(rng, 12), [words(rng, 1) for _ in range(4)], []
    for _ in range(max(1, items // 8)):
        question = words(rng, 90)
        for _ in range(20):
            sentences = [words(rng, rng.randint(12, 20)) for _ in range(6)]
            for cut in range(7):
                prompt = (
                    question + tuple(token for sentence in sentences[:cut] for token in sentence) + asking
                )
                found += [(prompt, option) for option in options]
    return found


def yes_or_no(items: int, rng: random.Random) -> list[ScoreRequest]:
    """Nothing to share but an item's own prompt of 40 to 120 tokens: yes or no, one token each."""
    options = [words(rng, 1) for _ in range(2)]
    return [
        (item, option)
        for item in (words(rng, rng.randint(40, 120)) for _ in range(4 * items))
        for option in options
    ]


TASKS = {
    "5-shot, one-token options": (single_token_options, 4.0),
    "5-shot, options of 4-12 tokens": (long_options, 8.0),
    "20-shot P(True)": (p_true, 8.0),
    "early answers, 20 chains": (early_answers, 4.0),
    "zero-shot yes or no": (yes_or_no, 1.5),
}


def main() -> None:
    options = options_of(__doc__, items=8)
    model = load_open(options.model, precision="bfloat16")
    peer = beside(load_open(options.model, precision="bfloat16"))
    found, more = [], dict[str, object]()
    limit = multiply_limit()
    parameters = (
        sum(parameter.numel() for parameter in model.module.trunk.parameters())
        - model.module.vocabulary * model.module.width
    )
    for name, (shape, target) in TASKS.items():
        requests = shape(options.items, random.Random(0))
        gap = largest_gap(score(model.module, requests), asked(peer, requests))
        ratio = alternating(
            name,
            lambda requests=requests: score(model.module, requests),
            lambda requests=requests: asked(peer, requests),
            runs=options.runs,
        )
        trie, whole = build_trie(requests), sum(len(prompt) + len(reply) for prompt, reply in requests)
        share = parameters * trie.unique_tokens / ratio.ours / limit
        told_of = (
            f"{len(requests)} requests, {trie.unique_tokens} of {whole} tokens computed, {share:.0%} "
            "of the machine's multiply-adds"
        )
        more[name] = (
            f"target {target}x {'met' if ratio.times >= target else 'MISSED'}; {told_of}; largest "
            f"difference {gap:.3f} nats (bf16)"
        )
        found.append(ratio)
    more["exact"] = f"largest difference in fp32 {exact_gap(options.model):.1e} nats"
    told(found, more, as_json=options.json)


def beside(model: Any) -> HFLM:
    """The peer around the same weights, with the attention that it would choose."""
    module = model.module.module
    module.set_attn_implementation("sdpa")
    return HFLM(
        pretrained=module,
        tokenizer=model.dialogue.tokenizer,
        backend="causal",
        batch_size=16,
        logits_cache=True,
        max_length=4096,
    )


def asked(peer: HFLM, requests: Sequence[ScoreRequest]) -> list[float]:
    rows = [((str(place), ""), list(prompt), list(reply)) for place, (prompt, reply) in enumerate(requests)]
    return [logprob for logprob, _ in peer._loglikelihood_tokens(rows, disable_tqdm=True)]


def largest_gap(ours: Sequence[torch.Tensor], theirs: Sequence[float]) -> float:
    return max(abs(float(own.sum()) - other) for own, other in zip(ours, theirs, strict=True))


def exact_gap(name: str) -> float:
    """On requests whose header is computed apart and stands before packed rows, and on some that share
    nothing.
    """
    model = load_open(name, precision="float32")
    requests = long_options(6, random.Random(1)) + yes_or_no(1, random.Random(2))
    return largest_gap(
        score(model.module, requests), asked(beside(load_open(name, precision="float32")), requests)
    )


if __name__ == "__main__":
    main()
