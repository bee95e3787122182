"""What only an accelerator can show. Run where there is one: pytest -m gpu."""

import pytest
import torch

from solon.models.backbones import llama
from solon.models.backbones.attention import Trees, tree_attention
from solon.models.backbones.backbone import TreeLayout, pack_groups
from solon.models.backbones.graphs import ReplayedStep
from solon.models.load import load_open
from solon.models.sampling import Request, SamplingParams, generate
from solon.models.scoring import reply_logprobs, score
from solon.training.fit import fit, reply_cross_entropy
from solon.training.optimiser import Plan
from solon.words.conversation import Conversation
from tests.models.test_huggingface import KINDS, made

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no accelerator here"),
]
GROUPS = [((5, 6, 7, 8), [(9, 10), (11,)]), ((5, 6), [(12, 13, 14)]), (tuple(range(3, 40)), [(41, 42)])]
LINE = pack_groups(GROUPS, torch.device("cpu"))[1]


@pytest.mark.parametrize("kind", KINDS)
def test_packed_rows_give_what_a_cpu_gives(kind: str) -> None:
    here, there = made(kind), made(kind).to("cuda")
    with torch.no_grad():
        for mine, theirs in zip(reply_logprobs(here, GROUPS), reply_logprobs(there, GROUPS), strict=True):
            torch.testing.assert_close(theirs.cpu(), mine, atol=1e-3, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_too(kind: str) -> None:
    bodies = [made(kind).requires_grad_(True), made(kind).to("cuda").requires_grad_(True)]
    for body in bodies:
        reply_cross_entropy(body)([(prompt, replies[0]) for prompt, replies in GROUPS]).loss.backward()
    for mine, theirs in zip(*(body.parameters() for body in bodies), strict=True):
        if mine.grad is not None and theirs.grad is not None:
            torch.testing.assert_close(theirs.grad.cpu(), mine.grad, atol=1e-2, rtol=1e-2)


def test_trees_in_one_kernel_give_the_same_gradients() -> None:
    fork = TreeLayout(
        *(
            torch.tensor([row], device="cuda")
            for row in (LINE.positions_BT[0].tolist(), LINE.ends_BT[0].tolist())
        ),
        lengths=LINE.lengths,
    )
    trees, blocks = (
        TreeLayout(fork.positions_BT.cpu(), fork.ends_BT.cpu(), lengths=fork.lengths).trees(),
        fork.trees(width=16),
    )
    assert trees is not None and blocks is not None and blocks.blocks is not None
    given = [
        torch.randn(1, heads, sum(LINE.lengths), 16, device="cuda", requires_grad=True) for heads in (4, 2, 2)
    ]
    found = []
    for own in (Trees(trees.lengths, 0, [mask.cuda() for mask in trees.masks]), blocks):
        mixed = tree_attention(*given, own, 0.25)
        found.append([mixed, *torch.autograd.grad(mixed.square().sum(), given)])
    for first, second in zip(*found, strict=True):
        torch.testing.assert_close(first, second, atol=2e-2, rtol=2e-2)  # TF32 in the fused kernel


def test_replies_of_a_recorded_step_are_those_of_a_plain_one() -> None:
    body = made("llama").to("cuda")
    requests = [Request(tuple(range(3, 3 + size)), (1, 2), lambda tokens: False) for size in (4, 60, 20)]
    rules = SamplingParams(
        80, 1.0, 1.0, frozenset()
    )  # over a stretch of positions, so that it is recorded again
    replayed = {place: row.tokens for place, row, _ in generate(body, requests, rules)}
    assert isinstance(body.stepper(), ReplayedStep)
    body.stepper = lambda: llama.stepper(body.module)  # type: ignore[method-assign]
    assert {place: row.tokens for place, row, _ in generate(body, requests, rules)} == replayed


def test_bf16_training_lowers_the_loss() -> None:
    body = made("llama").to("cuda").requires_grad_(True)
    rows = [(prompt, replies[0]) for prompt, replies in GROUPS]
    steps = list(fit(body, lambda number: [rows], reply_cross_entropy(body), plan=Plan(30, 1e-2, bf16=True)))
    assert steps[-1].metrics["loss"] < steps[0].metrics["loss"] / 2


@pytest.mark.model
def test_a_real_model_samples_and_scores_itself() -> None:
    model = load_open("smollm2")
    prompts = [Conversation().human(f"What is {number} plus one?") for number in range(40)]
    samples = [group[0] for group in model.sample(prompts, max_tokens=32, seed=0)]
    again = score(
        model.module,
        [
            (model.dialogue.prompt(prompt), sample.tokens)
            for prompt, sample in zip(prompts, samples, strict=True)
        ],
    )
    for sample, found in zip(samples, again, strict=True):
        torch.testing.assert_close(found, torch.tensor(sample.logprobs), atol=0.3, rtol=0.05)
