"""Sampling speed beside `transformers` generate at the same batch of 32, in one process, on SmolLM2 in bf16.

    python -m benchmarks.sampling [--prompts 32] [--runs 5] [--json] [--profile]

Four samples of each prompt, at temperature 1. Mixed: replies end after 16 to 256 tokens, drawn beforehand and
the same for both sides, so that useful tokens are equal; the peer gets them by a stopping criterion, whole
batches of eight prompts at a time. Equal: every reply has 64 tokens. The limit printed is what a machine of
this bandwidth and this rate of multiplying (both measured) cannot do without: the prompts multiplied once;
for every 32 useful tokens the weights read or multiplied, whichever takes longer; and every token's own keys
and values read. `--profile` shows instead where 32 replies of 40 tokens spend their time.
"""

from __future__ import annotations

import random
import time
from typing import Any

import torch
from transformers import StoppingCriteria

from benchmarks.sidebyside import Ratio, alternating, multiply_limit, options_of, told
from solon.models.base import Tokens
from solon.models.load import load_open
from solon.models.sampling import Request, SamplingParams, generate

COUNT, ROWS = 4, 32


def workload(prompts: int, lengths: tuple[int, int], seed: int) -> list[tuple[Tokens, list[int]]]:
    """Prompts of 40 to 160 tokens, and how long each of their replies will be."""
    rng = random.Random(seed)
    found = []
    for _ in range(prompts):
        prompt = tuple(rng.choices(range(1000, 40000), k=rng.randint(40, 160)))
        found.append((prompt, [rng.randint(*lengths) for _ in range(COUNT)]))
    return found


def ours(model: Any, work: list[tuple[Tokens, list[int]]]) -> int:
    """Replies end by a stop test, one for each request: here its four replies are four requests' worth of
    lengths.
    """
    requests = []
    for prompt, lengths in work:
        ends = iter(lengths)
        # by the identity of a reply's list, which is held on to
        wanted: dict[int, tuple[list[int], int]] = {}

        def stopped(
            tokens: list[int], ends: Any = ends, wanted: dict[int, tuple[list[int], int]] = wanted
        ) -> bool:
            if id(tokens) not in wanted:
                wanted[id(tokens)] = (tokens, next(ends))
            return len(tokens) >= wanted[id(tokens)][1]

        requests.append(Request(prompt, tuple(range(COUNT)), stopped))
    rules = SamplingParams(max(max(lengths) for _, lengths in work), 1.0, 1.0, frozenset())
    return sum(len(row.tokens) for _, row, _ in generate(model.module, requests, rules))


class Lengths(StoppingCriteria):
    """Each row ends after its own number of tokens."""

    def __init__(self, start: int, lengths: list[int]) -> None:
        self.start, self.lengths = start, torch.tensor(lengths)

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        return input_ids.shape[1] - self.start >= self.lengths


def peers(module: Any, work: list[tuple[Tokens, list[int]]]) -> int:
    useful = 0
    for start in range(0, len(work), ROWS // COUNT):
        batch = work[start : start + ROWS // COUNT]
        longest = max(len(prompt) for prompt, _ in batch)
        ids = torch.tensor([(0,) * (longest - len(prompt)) + prompt for prompt, _ in batch])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt, _ in batch])
        lengths = [length for _, own in batch for length in own]
        with torch.inference_mode():
            made = module.generate(
                input_ids=ids,
                attention_mask=mask,
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                num_return_sequences=COUNT,
                max_new_tokens=max(lengths),
                stopping_criteria=[Lengths(longest, lengths)],
                eos_token_id=None,
                pad_token_id=0,
            )
        if made.shape[1] - longest != max(lengths):
            raise AssertionError(
                f"the peer stopped after {made.shape[1] - longest} tokens, not {max(lengths)}"
            )
        useful += sum(lengths)
    return useful


def bandwidth(seconds: float = 2.0) -> float:
    """Bytes a second that a product of one row with a large matrix reads."""
    matrix, row = torch.randn(8192, 8192).to(torch.bfloat16), torch.randn(1, 8192).to(torch.bfloat16)
    row @ matrix.T
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        row @ matrix.T
        count += 1
    return count * matrix.numel() * 2 / (time.perf_counter() - began)


def limit(
    model: Any, work: list[tuple[Tokens, list[int]]], *, read: float, multiplied: float
) -> tuple[float, str]:
    """The least seconds for these replies at so many bytes read and so many multiply-adds a second, and what
    binds a step.
    """
    config = model.module.module.config
    trunk, head = (
        sum(parameter.numel() for parameter in model.module.trunk.parameters()),
        config.vocab_size * config.hidden_size,
    )
    # bytes of keys and values a position
    held = 2 * 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    useful = sum(length for _, lengths in work for length in lengths)
    reading, multiplying = 2 * (trunk + head) / read, ROWS * (trunk + head) / multiplied
    prompts = sum(len(prompt) for prompt, _ in work) * trunk / multiplied
    seen = (
        sum(
            held * (len(prompt) + place)
            for prompt, lengths in work
            for length in lengths
            for place in range(length)
        )
        / read
    )
    return prompts + useful / ROWS * max(
        reading, multiplying
    ) + seen, "multiplying" if multiplying > reading else "reading weights"


def main() -> None:
    options = options_of(__doc__, flags=("profile",), prompts=32)
    if torch.cuda.is_available():
        raise SystemExit("this benchmark times a CPU; hide the accelerator (CUDA_VISIBLE_DEVICES=)")
    model, other = (load_open(options.model, precision="bfloat16") for _ in range(2))
    other.module.module.set_attn_implementation("sdpa")
    other.module.module.generation_config.eos_token_id = None
    if options.profile:
        work = workload(8, (40, 40), seed=0)
        ours(model, work)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as found:
            ours(model, work)
        print(
            found.key_averages().table(sort_by="self_cpu_time_total", row_limit=12, max_name_column_width=48)
        )
        return
    read, multiplied = bandwidth(), multiply_limit()
    ratios: list[Ratio] = []
    more: dict[str, object] = {}
    for name, lengths, target in (
        ("mixed lengths, 16-256 tokens", (16, 256), 4.0),
        ("equal lengths, 64 tokens", (64, 64), 2.0),
    ):
        work = workload(options.prompts, lengths, seed=0)
        useful = ours(model, work)
        if useful != peers(other.module.module, work):
            raise AssertionError("both sides must make the same number of tokens")
        ratio = alternating(
            name,
            lambda work=work: ours(model, work),
            lambda work=work: peers(other.module.module, work),
            runs=options.runs,
        )
        least, binding = limit(model, work, read=read, multiplied=multiplied)
        rates = f"{useful / ratio.ours:.0f} useful tokens/s, the peer {useful / ratio.peer:.0f}"
        more[name] = (
            f"target {target}x {'met' if ratio.times >= target else 'MISSED'}; {rates}; "
            f"{least / ratio.ours:.0%} of the machine's limit ({binding})"
        )
        ratios.append(ratio)
    told(ratios, more, as_json=options.json)


if __name__ == "__main__":
    main()
