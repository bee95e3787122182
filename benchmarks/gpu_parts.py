"""The short benchmarks that `benchmarks.gpu` runs, on a random model of SmolLM2's shape (135M parameters):
Solon beside what one would write without it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.sidebyside import Ratio, alternating
from solon.interpretability.autoencoder import Autoencoder, gradients
from solon.interpretability.curvature import fit_factors
from solon.interpretability.linear import linear_layers
from solon.interpretability.objectives import language_objective
from solon.models.backbones import llama
from solon.models.backbones.huggingface import HuggingFaceBackbone
from solon.models.base import Tokens
from solon.models.sampling import Request, SamplingParams, generate
from solon.models.scoring import score
from solon.training.fit import Example, fit, micro_batches, reply_cross_entropy
from solon.training.optimiser import Optimiser, Plan

RATE = 1e-5


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much work a benchmark does, and where."""

    device: str
    layers: int
    rows: int
    tokens: int
    features: int
    runs: int


def sizes_of(dry: bool, runs: int) -> Sizes:
    return Sizes("cpu", 2, 8, 16, 256, runs) if dry else Sizes("cuda", 30, 64, 256, 16384, runs)


@dataclass(frozen=True, slots=True)
class Line:
    """One comparison: seconds of both sides, how much work that was, and what both sides are."""

    ratio: Ratio
    amount: float
    unit: str
    peer: str
    note: str = ""

    def as_list(self) -> list[str]:
        ours, peer = self.amount / self.ratio.ours, self.amount / self.ratio.peer
        times = f"{self.ratio.times:.2f}x ({self.ratio.least:.2f} to {self.ratio.most:.2f})"
        return [self.ratio.name, f"{ours:,.0f} {self.unit}/s", f"{peer:,.0f}", self.peer, times, self.note]


def compare(
    name: str, ours: Callable[[], object], peer: Callable[[], object], sizes: Sizes
) -> tuple[Ratio, str]:
    """Both sides once uncounted, then in turn; the device is waited for. Beside the ratio: what the first
    calls took, compilations among them, and the most memory that this part has held.
    """

    def waited(call: Callable[[], object]) -> float:
        began = time.perf_counter()
        call()
        if sizes.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    first = [waited(call) for call in (ours, peer)]
    ratio = alternating(name, partial(waited, ours), partial(waited, peer), runs=sizes.runs)
    peak = f", peak {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if sizes.device == "cuda" else ""
    return ratio, f"first calls {first[0]:.1f} and {first[1]:.1f} s{peak}"


def backbone(sizes: Sizes, dtype: torch.dtype = torch.bfloat16) -> HuggingFaceBackbone:
    """A random model of SmolLM2-135M's shape."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=sizes.layers,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
    )
    module = LlamaForCausalLM(config).to(sizes.device, dtype)
    return HuggingFaceBackbone(module.requires_grad_(False).eval())


def plain_module(body: HuggingFaceBackbone) -> LlamaForCausalLM:
    """The same weights in transformers' own class with its own attention, run operation by operation."""
    module = LlamaForCausalLM(body.module.config).to(body.device, body.module.dtype)
    module.load_state_dict(body.module.state_dict())
    module.set_attn_implementation("sdpa")
    return module.eval()


def words(rng: random.Random, count: int) -> Tokens:
    return tuple(rng.choices(range(1000, 40000), k=count))


def padded(rows: Sequence[Tokens], device: torch.device | str) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and mask, padded on the right."""
    longest = max(map(len, rows))
    ids = torch.tensor([row + (0,) * (longest - len(row)) for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=device)
    return ids, mask


def sampling(sizes: Sizes) -> Iterator[Line]:
    """Steps recorded as CUDA graphs beside the same steps launched one by one, and beside generate."""
    rng, recorded, plain = random.Random(0), backbone(sizes), backbone(sizes)
    module = plain_module(recorded)
    plain.stepper = lambda: llama.stepper(plain.module)  # type: ignore[method-assign]
    prompts = [words(rng, sizes.tokens // 2) for _ in range(32)]
    params = SamplingParams(sizes.tokens // 4, 1.0, 1.0, frozenset())

    def draw(body: HuggingFaceBackbone, numbers: Sequence[int] = range(32)) -> list[list[int]]:
        requests = [Request(prompts[number], (number,), lambda tokens: False) for number in numbers]
        rows = {place: row.tokens for place, row, _ in generate(body, requests, params)}
        return [rows[place, 0] for place in range(len(numbers))]

    def peer() -> None:
        ids, mask = padded(prompts, sizes.device)
        with torch.inference_mode():
            module.generate(
                input_ids=ids,
                attention_mask=mask,
                do_sample=True,
                top_k=0,
                max_new_tokens=params.max_tokens,
                eos_token_id=None,
                pad_token_id=0,
            )

    ours, amount = partial(draw, recorded), 32 * params.max_tokens
    together = ours()
    equal = sum(a == b for a, b in zip(together, draw(plain), strict=True))
    alone = sum(draw(recorded, [number])[0] == together[number] for number in range(4))
    facts = f"{equal} of 32 replies are those of plain steps; {alone} of 4 are the same alone"
    ratio, note = compare("sampling, recorded steps", ours, partial(draw, plain), sizes)
    yield Line(ratio, amount, "tokens", "plain steps", f"{note}; {facts}")
    ratio, note = compare("sampling, 32 rows", ours, peer, sizes)
    yield Line(ratio, amount, "tokens", "generate", note)


def scoring(sizes: Sizes) -> Iterator[Line]:
    """Replies behind long shared prompts, and with nothing to share, beside padded batches of 16."""
    rng, body = random.Random(0), backbone(sizes)
    module = plain_module(body)

    def peer(requests: Sequence[tuple[Tokens, Tokens]]) -> list[torch.Tensor]:
        logprobs = []
        order = sorted(range(len(requests)), key=lambda place: -len(requests[place][0]))
        for start in range(0, len(order), 16):
            batch = [requests[place] for place in order[start : start + 16]]
            ids, mask = padded([prompt + reply for prompt, reply in batch], sizes.device)
            with torch.inference_mode():
                logits = module(input_ids=ids, attention_mask=mask, use_cache=False).logits
                for row, (prompt, reply) in enumerate(batch):
                    own = logits[row, len(prompt) - 1 : len(prompt) + len(reply) - 1].float().log_softmax(-1)
                    logprobs.append(
                        own.gather(1, torch.tensor(reply, device=sizes.device)[:, None])[:, 0].cpu()
                    )
        return [own for _, own in sorted(zip(order, logprobs, strict=True), key=lambda item: item[0])]

    header = words(rng, 3 * sizes.tokens)
    questions = [header + words(rng, 40) for _ in range(sizes.rows)]
    shared = [(question, words(rng, 8)) for question in questions for _ in range(4)]
    apart = [(words(rng, sizes.tokens), words(rng, sizes.tokens // 4)) for _ in range(2 * sizes.rows)]
    for name, requests in (("scoring, shared prompts", shared), ("scoring, nothing shared", apart)):
        amount = sum(len(prompt) + len(reply) for prompt, reply in requests)
        some = requests[:32]
        gap = max(float((a - b).abs().max()) for a, b in zip(score(body, some), peer(some), strict=True))
        ratio, note = compare(name, partial(score, body, requests), partial(peer, requests), sizes)
        yield Line(ratio, amount, "tokens", "padded batches", f"{note}; at most {gap:.2g} nats apart")


def training(sizes: Sizes) -> Iterator[Line]:
    """Fine-tuning steps of all weights by bf16 autocast over fp32 beside a padded batch and cross_entropy."""
    rng, body = random.Random(0), backbone(sizes, torch.float32).requires_grad_(True)
    module = plain_module(body).requires_grad_(True).train()
    rows = [
        (words(rng, rng.randint(sizes.tokens // 4, sizes.tokens)), words(rng, rng.randint(8, sizes.tokens)))
        for _ in range(sizes.rows // 2)
    ]
    adam = torch.optim.AdamW(module.parameters(), lr=RATE, weight_decay=0.0, fused=True)
    steps = 4

    def size(row: Example) -> int:
        return len(row[0]) + len(row[1])

    def ours() -> None:
        parts = micro_batches(rows, size, tokens=16384)
        list(fit(body, lambda number: parts, reply_cross_entropy(body), plan=Plan(steps, RATE, bf16=True)))

    def peer() -> None:
        ids, mask = padded([prompt + reply for prompt, reply in rows], sizes.device)
        labels = ids.masked_fill(mask == 0, -100)
        for row, (prompt, _) in enumerate(rows):
            labels[row, : len(prompt)] = -100
        for _ in range(steps):
            with torch.autocast(sizes.device, torch.bfloat16):
                logits = module(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
            loss = F.cross_entropy(logits.float().flatten(0, 1), labels[:, 1:].flatten())
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            adam.step()
            adam.zero_grad(set_to_none=True)

    ratio, note = compare("fine-tuning, all weights", ours, peer, sizes)
    yield Line(ratio, steps * sum(map(size, rows)), "tokens", "a padded batch", note)


def autoencoder(sizes: Sizes) -> Iterator[Line]:
    """A training step, by sparse gradients and by dense ones, beside autograd, at 1% active features."""
    width, batch, steps = 576, 16 * sizes.tokens, 5
    generator = torch.Generator().manual_seed(0)
    x_BD = torch.randn(batch, width, generator=generator).to(sizes.device)
    models = [Autoencoder(width, sizes.features, seed=0).to(sizes.device) for _ in range(3)]
    for model in models:
        with torch.no_grad():
            model.encoder_bias_F -= 0.23  # of inner products of about 0.1
    optimisers = [Optimiser(model, Plan(10**6, 1e-9)) for model in models[:2]]
    adam = torch.optim.AdamW(models[2].parameters(), lr=1e-9, weight_decay=0.0, fused=True)
    active = float((models[0].encode(x_BD[:256]) > 0).float().mean())

    def ours(place: int, dense: bool) -> None:
        for number in range(1, steps + 1):
            gradients(models[place], x_BD, 5.0, dense=dense)
            optimisers[place].step(number, weight=1.0)

    def autograd() -> None:
        model = models[2]
        for _ in range(steps):
            f_BF = F.relu(F.linear(x_BD, model.encoder_FD, model.encoder_bias_F))
            error = (f_BF @ model.decoder_FD + model.decoder_bias_D - x_BD).square().sum(dim=1).mean()
            loss = error + 5.0 * (f_BF * model.decoder_FD.norm(dim=1)).sum(dim=1).mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            adam.step()
            adam.zero_grad(set_to_none=True)

    for name, place, dense in (("autoencoder, sparse", 0, False), ("autoencoder, dense", 1, True)):
        ratio, note = compare(name, partial(ours, place, dense), autograd, sizes)
        yield Line(ratio, steps * batch, "activations", "autograd", f"{note}; {active:.1%} active")


def influence(sizes: Sizes) -> Iterator[Line]:
    """EK-FAC's factors of two layers' MLPs, in bfloat16 throughout beside float32."""
    rng, body = random.Random(0), backbone(sizes, torch.float32)
    rows = [(words(rng, 1), words(rng, sizes.tokens - 1)) for _ in range(2 * sizes.rows)]
    layers = linear_layers(body, [f"layers.{layer}.mlp" for layer in (0, sizes.layers - 1)])
    objective, half = language_objective(body), torch.bfloat16
    ours = partial(fit_factors, objective, layers, rows, tokens=16384, dtype=half, rotation_dtype=half)
    ratio, note = compare(
        "influence factors, bfloat16",
        ours,
        partial(fit_factors, objective, layers, rows, tokens=16384),
        sizes,
    )
    yield Line(
        ratio,
        len(rows),
        "rows",
        "float32",
        f"{note}; {len(layers)} layers, rows of {sizes.tokens} tokens",
    )


PARTS: dict[str, Callable[[Sizes], Iterator[Line]]] = {
    "sampling": sampling,
    "scoring": scoring,
    "training": training,
    "autoencoder": autoencoder,
    "influence": influence,
}
