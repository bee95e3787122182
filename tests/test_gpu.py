"""What only an accelerator can show: its numbers beside a CPU's, recorded steps and compiled attention. Run
where there is one: make test-gpu.
"""

import itertools
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any
from unittest import mock

import pytest
import torch

from solon.alignment.preference import comparison_loss
from solon.interpretability.autoencoder import Autoencoder, gradients
from solon.interpretability.curvature import fit_factors
from solon.interpretability.influence import influence, preconditioned_queries
from solon.interpretability.linear import linear_layers
from solon.interpretability.objectives import language_objective
from solon.interpretability.stream import harvester
from solon.models.backbones import llama
from solon.models.backbones.attention import Trees, tree_attention
from solon.models.backbones.backbone import TreeLayout, pack_groups
from solon.models.backbones.graphs import ReplayedStep
from solon.models.backbones.huggingface import HuggingFaceBackbone
from solon.models.backbones.small import Shape, SmallTransformer
from solon.models.memory import run_in_halves
from solon.models.sampling import Request, SamplingParams, generate
from solon.models.scalar import ScalarModel, last_hidden_states
from solon.models.scoring import exact_kl, reply_logprobs, score
from solon.training.fit import fit, reply_cross_entropy
from solon.training.optimiser import Plan
from tests.models.test_huggingface import KINDS, made, plain, words

DEVICE = "cuda"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no accelerator here"),
]
GROUPS = [((5, 6, 7, 8), [(9, 10), (11,)]), ((5, 6), [(12, 13, 14)]), (tuple(range(3, 40)), [(41, 42)])]
LINE = pack_groups(GROUPS, torch.device("cpu"))[1]
EXAMPLES = [(prompt, replies[0]) for prompt, replies in GROUPS]
both = pytest.mark.parametrize("width", [8, 16])  # of a head: plain products below 16, one kernel from there
kinds = pytest.mark.parametrize("kind", KINDS)


def pair(kind: str, width: int) -> tuple[HuggingFaceBackbone, HuggingFaceBackbone]:
    """The same tiny model on the CPU and on the accelerator; three queries a key, as SmolLM2 has."""
    sizes = {"head_dim": width, "hidden_size": 48, "num_attention_heads": 6}
    with mock.patch.dict("tests.models.test_huggingface.SIZES", sizes):
        return made(kind), made(kind).to(DEVICE)


# beside a CPU


@both
@kinds
def test_packed_rows_give_what_a_cpu_gives(kind: str, width: int) -> None:
    here, there = pair(kind, width)
    with torch.no_grad():
        for mine, theirs in zip(reply_logprobs(here, GROUPS), reply_logprobs(there, GROUPS), strict=True):
            torch.testing.assert_close(theirs.cpu(), mine, atol=1e-3, rtol=0)


@pytest.mark.parametrize("length", [1, 30, 70, 127, 200])
def test_rows_of_any_length_have_a_kernel(length: int) -> None:
    """Two queries a key, where torch has another kernel for short rows that does not compile for some."""
    rows = [(tuple(range(length)), [(9, 10)])]
    with mock.patch.dict("tests.models.test_huggingface.SIZES", head_dim=32, vocab_size=256):
        here, there = made("llama"), made("llama").to(DEVICE)
    with torch.no_grad():
        mine, theirs = reply_logprobs(here, rows), reply_logprobs(there, rows)
    torch.testing.assert_close(theirs[0].cpu(), mine[0], atol=2e-3, rtol=0)


@both
@kinds
def test_gradients_too(kind: str, width: int) -> None:
    here, there = pair(kind, width)
    _, again = pair(kind, width)
    again.recompute()
    for body in (here, there, again):
        body.requires_grad_(True)
        reply_cross_entropy(body)(EXAMPLES).loss.backward()
    for mine, *theirs in zip(*(body.parameters() for body in (here, there, again)), strict=True):
        for own in theirs:
            if mine.grad is not None and own.grad is not None:
                torch.testing.assert_close(own.grad.cpu(), mine.grad, atol=1e-2, rtol=1e-2)


@both
@kinds
@pytest.mark.parametrize("row_tokens", [8, 1024])
def test_scores_behind_prefixes_and_under_windows(kind: str, width: int, row_tokens: int) -> None:
    rng, (here, there) = random.Random(1), pair(kind, width)
    header = words(rng, 25)
    prompts = [header + words(rng, rng.randint(1, 12)) for _ in range(5)] + [words(rng, 30)]
    requests = [(prompt, words(rng, rng.randint(1, 6))) for prompt in prompts for _ in range(3)]
    with mock.patch.multiple(
        "solon.models.scoring", ROW_TOKENS=row_tokens, SHARED_TOKENS=4, PACKED_TOKENS=16
    ):
        scores = score(there, requests)
    for (prompt, reply), logprobs in zip(requests, scores, strict=True):
        torch.testing.assert_close(logprobs, plain(here, prompt, reply), atol=2e-3, rtol=0)


@both
@kinds
@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.7, 0.9), (0.0, 1.0)])
def test_samples_have_a_cpus_log_probabilities(
    kind: str, width: int, temperature: float, top_p: float
) -> None:
    rng, (here, there) = random.Random(2), pair(kind, width)
    header = words(rng, 21)
    prompts = [header + words(rng, rng.randint(1, 9)) for _ in range(4)] + [words(rng, 5)]
    requests = [Request(prompt, (number, 100 + number), never) for number, prompt in enumerate(prompts)]
    params = SamplingParams(12, temperature, top_p, frozenset({1}))
    with mock.patch("solon.models.sampling.PREFILL", 8):
        for (number, _), row, _ in generate(there, requests, params):
            wanted = plain(here, prompts[number], tuple(row.tokens))
            torch.testing.assert_close(torch.tensor(row.logprobs), wanted, atol=2e-3, rtol=0)


def never(tokens: list[int]) -> bool:
    return False


@both
def test_preference_models_and_probes_give_what_a_cpu_gives(width: int) -> None:
    rows = [((prompt, [replies[0], (17, 18)]), 0.8, 1.0) for prompt, replies in GROUPS]
    losses, states = [], []
    for body in pair("llama", width):
        scalar = ScalarModel(body)
        with torch.no_grad():
            scalar.head.weight.copy_(torch.linspace(-1, 1, body.width)[None])
        losses.append(comparison_loss(scalar)(rows).loss.item())
        states.append(last_hidden_states(body, [prompt for prompt, _ in EXAMPLES]))
    assert losses[1] == pytest.approx(losses[0], abs=1e-2)
    torch.testing.assert_close(states[1], states[0], atol=1e-2, rtol=1e-2)


def test_the_exact_kl_is_a_cpus() -> None:
    values = []
    for device in ("cpu", DEVICE):
        first, second = made("llama").to(device), made("llama with adapters").to(device)
        values.append(exact_kl(first, second, GROUPS))
    assert values[1] == pytest.approx(values[0], abs=1e-3)


# attention and steps that only an accelerator has


def test_trees_in_one_kernel_give_the_same_gradients() -> None:
    layout = TreeLayout(LINE.positions_BT.to(DEVICE), LINE.ends_BT.to(DEVICE), lengths=LINE.lengths)
    trees, blocks = LINE.trees(), layout.trees(width=16)
    assert trees is not None and blocks is not None and blocks.blocks is not None
    given = [
        torch.randn(1, heads, sum(LINE.lengths), 16, device=DEVICE, requires_grad=True) for heads in (4, 2, 2)
    ]
    results = []
    for tree in (Trees(trees.lengths, 0, [mask.to(DEVICE) for mask in trees.masks]), blocks):
        mixed = tree_attention(*given, tree, 0.25)
        results.append([mixed, *torch.autograd.grad(mixed.square().sum(), given)])
    for first, second in zip(*results, strict=True):
        torch.testing.assert_close(first, second, atol=2e-2, rtol=2e-2)  # TF32 in the fused kernel


def test_the_kernel_is_compiled_a_few_times_for_rows_of_all_lengths(recwarn: pytest.WarningsRecorder) -> None:
    """In either precision, with and without gradients, prefixes and windows. Past its limit of compilations
    torch would go on with the definition, which makes all scores at once.
    """
    rng, counters = random.Random(3), torch._dynamo.utils.counters
    bodies = [
        pair(kind, 16)[1].to(dtype)
        for kind in ("llama", "gemma3")
        for dtype in (torch.float32, torch.bfloat16)
    ]

    def work(sizes: Sequence[int]) -> None:
        for body, size in itertools.product(bodies, sizes):
            header = words(rng, size)
            requests = [(header + words(rng, 1 + number), words(rng, 3)) for number in range(3)]
            with mock.patch.multiple("solon.models.scoring", ROW_TOKENS=16, SHARED_TOKENS=4):
                score(body, requests)
            score(body, requests)
            body.requires_grad_(True)
            with torch.autocast(DEVICE, torch.bfloat16, enabled=body.module.dtype is torch.float32):
                reply_cross_entropy(body)(requests).loss.backward()
            body.requires_grad_(False)

    with mock.patch("torch._dynamo.config.fail_on_recompile_limit_hit", True):
        work((5, 20, 40, 60))
        before = counters["stats"]["unique_graphs"]
        work((7, 33, 51))
    print("graphs compiled", before, counters["stats"]["unique_graphs"], dict(counters["frames"]))
    assert counters["stats"]["unique_graphs"] - before <= 4
    assert not [own for own in recwarn if "flex_attention" in str(own.message)]


@pytest.mark.parametrize("kind", ["llama", "llama with adapters"])
def test_replies_of_a_recorded_step_are_those_of_a_plain_one(kind: str) -> None:
    body = made(kind).to(DEVICE)
    # over a stretch of positions, and with fewer slots towards the end, so that it is recorded again
    requests = [
        Request(tuple(range(3, 3 + size)), (1, 2), lambda tokens, size=size: len(tokens) >= size)
        for size in (4, 60, 20, 30, 31, 7, 50, 44, 12)
    ]
    params = SamplingParams(80, 1.0, 1.0, frozenset())
    replayed = {place: row.tokens for place, row, _ in generate(body, requests, params)}
    assert isinstance(body.stepper(), ReplayedStep)
    body.stepper = lambda: llama.stepper(body.module)  # type: ignore[method-assign]
    assert {place: row.tokens for place, row, _ in generate(body, requests, params)} == replayed


def test_a_reply_is_drawn_again_by_its_seed() -> None:
    body = made("llama").to(DEVICE)
    requests = [Request(tuple(range(3, 9)), (seed,), never) for seed in range(20)]
    params = SamplingParams(30, 1.0, 1.0, frozenset({1}))
    first, second = (
        {place: row.tokens for place, row, _ in generate(body, requests, params)} for _ in range(2)
    )
    assert first == second and len(set(map(tuple, first.values()))) > 10


# training


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_bf16_training_lowers_the_loss(kind: str) -> None:
    body = pair(kind, 16)[1].requires_grad_(True)
    plan = Plan(30, 1e-2, bf16=True)
    steps = list(fit(body, lambda number: [EXAMPLES], reply_cross_entropy(body), plan=plan))
    assert steps[-1].metrics["loss"] < steps[0].metrics["loss"] / 2


def test_going_on_from_a_state_is_the_run_that_never_stopped() -> None:
    bodies, states = [pair("llama", 8)[1].requires_grad_(True) for _ in range(2)], []
    plan = Plan(6, 1e-3)
    for step in fit(bodies[0], lambda number: [EXAMPLES], reply_cross_entropy(bodies[0]), plan=plan):
        if step.number == 3:
            states.append({name: own.clone().cpu() for name, own in step.state().items()})
    list(
        fit(bodies[1], lambda number: [EXAMPLES], reply_cross_entropy(bodies[1]), plan=plan, state=states[0])
    )
    for mine, theirs in zip(*(body.parameters() for body in bodies), strict=True):
        torch.testing.assert_close(theirs, mine, atol=1e-4, rtol=1e-3)


def test_running_out_of_memory_halves_the_work() -> None:
    sizes = list[int]()

    def work(rows: Sequence[int]) -> None:
        if len(rows) > 2:
            torch.empty(2**46, device=DEVICE)  # 256 TiB
        sizes.append(len(rows))

    with pytest.warns(RuntimeWarning, match="out of memory"):
        run_in_halves(work, range(8))
    assert sizes == [2, 2, 2, 2]


def test_a_step_that_runs_out_of_memory_goes_on_with_less() -> None:
    body, calls = pair("llama", 16)[1].requires_grad_(True), Counter[int]()
    loss = reply_cross_entropy(body)

    def hungry(rows: Sequence[Any]) -> Any:
        calls[len(rows)] += 1
        if len(rows) > 1:
            torch.empty(2**46, device=DEVICE)
        return loss(rows)

    with pytest.warns(RuntimeWarning, match="out of memory"):
        steps = list(fit(body, lambda number: [EXAMPLES], hungry, plan=Plan(2, 1e-3)))
    assert len(steps) == 2 and body.recomputes and calls[1] == 6


# dictionaries and influence


def test_autoencoder_gradients_are_a_cpus_dense_and_sparse() -> None:
    x_BD = torch.randn(64, 32, generator=torch.Generator().manual_seed(0))
    every = []
    for device, dense in itertools.product(("cpu", DEVICE), (True, False)):
        model = Autoencoder(32, 128, seed=1).to(device)
        with torch.no_grad():
            model.encoder_bias_F -= 0.05
        gradients(model, x_BD.to(device), 5.0, dense=dense)
        every.append([own.grad.cpu() for own in model.parameters() if own.grad is not None])
    for first, *others in zip(*every, strict=True):
        for own in others:
            torch.testing.assert_close(own, first, atol=1e-4, rtol=1e-3)


def test_influence_is_a_cpus() -> None:
    rng = random.Random(4)
    rows = [(words(rng, 3), words(rng, 9)) for _ in range(24)]
    scores = []
    for device in ("cpu", DEVICE):
        body = SmallTransformer(Shape(64, width=32, layers=2, heads=2, context=32), seed=0).to(device)
        layers, objective = linear_layers(body, ["mlp"]), language_objective(body)
        factors = fit_factors(objective, layers, rows, labels="given")
        queries = preconditioned_queries(objective, layers, factors, rows[:3])
        scores.append(torch.from_numpy(influence(objective, layers, queries, rows)))
    torch.testing.assert_close(scores[1], scores[0], atol=1e-2 * float(scores[0].abs().max()), rtol=0)


def test_activations_are_a_cpus() -> None:
    rows = [tuple(range(first, first + 12)) for first in range(3, 40)]
    here, there = (harvester(body, rows, 2)(range(len(rows))) for body in pair("llama", 16))
    torch.testing.assert_close(there, here, atol=1e-2, rtol=1e-2)
