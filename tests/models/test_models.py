"""Sampling, scoring, adapters and weights on small transformers: exact laws, no luck."""

import random
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from solon.errors import InputError
from solon.models.activations import activations, record_outputs
from solon.models.adapters import Lora
from solon.models.backbones.attention import Trees, tree_attention, tree_block_mask
from solon.models.backbones.backbone import Backbone, TreeLayout, pack_groups
from solon.models.backbones.cache import SlotCache
from solon.models.backbones.graphs import ReplayedStep
from solon.models.backbones.small import Shape, SmallTransformer
from solon.models.backbones.small_files import load_small, save_small
from solon.models.base import Stop
from solon.models.choice import choose
from solon.models.dialogue import WordDialogue
from solon.models.sampling import inverse_cdf, nucleus
from solon.models.scalar import ScalarModel
from solon.models.scoring import exact_kl, group_by_prompt, reply_logprobs, score, score_groups
from solon.models.torch_model import TorchModel
from solon.models.trie import build_trie
from solon.models.weights import load_tensors
from solon.words.conversation import Conversation
from solon.words.question import Question

WORDS = tuple(f"w{n}" for n in range(40))


def model(seed: int = 0, *, scale: float = 8.0, **shape: object) -> TorchModel:
    """A random transformer, its weights blown up so that its distributions are far from flat."""
    dialogue = WordDialogue(WORDS)
    body = SmallTransformer(Shape(dialogue.size, width=32, layers=2, heads=4, context=64, **shape), seed=seed)  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in body.parameters():
            if parameter.ndim == 2:
                parameter *= scale
    return TorchModel("small", body, dialogue)


def asked(count: int, seed: int = 0) -> list[Conversation]:
    rng = random.Random(seed)
    return [Conversation().human(" ".join(rng.choices(WORDS, k=rng.randint(1, 20)))) for _ in range(count)]


@pytest.mark.parametrize("attention_only", [False, True])
def test_a_reply_does_not_depend_on_its_neighbours(attention_only: bool) -> None:
    speaker, prompts = model(attention_only=attention_only), asked(45)
    together = speaker.sample(prompts, count=2, max_tokens=20, seed=3)
    for place in (0, 17, 44):
        alone = speaker.sample([prompts[place]], count=2, max_tokens=20, seed=3)[0]
        assert [s.tokens for s in alone] == [s.tokens for s in together[place]]
        for one, other in zip(alone, together[place], strict=True):
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
    assert (
        speaker.sample(prompts[::-1], count=2, max_tokens=20, seed=3)[0][0].tokens == together[-1][0].tokens
    )
    assert together[0][0].tokens != together[0][1].tokens
    assert speaker.sample(prompts[:1], max_tokens=20, seed=4)[0][0].tokens != together[0][0].tokens


def test_prompts_that_begin_alike_are_computed_once_and_change_nothing() -> None:
    speaker, rng = model(), random.Random(5)
    header = " ".join(rng.choices(WORDS, k=19))  # 20 tokens with its role: two blocks of 8 and a half
    prompts = [
        Conversation().human(" ".join([header, *rng.choices(WORDS, k=rng.randint(1, 9))])) for _ in range(9)
    ]
    # ends where a block of the others does
    prompts.append(Conversation().human(" ".join(header.split()[:14])))
    assert len(speaker.dialogue.prompt(prompts[-1])) == 16
    counted: list[int] = []
    speaker.module.embed.register_forward_hook(lambda module, given, made: counted.append(given[0].numel()))  # type: ignore[operator, union-attr]
    with mock.patch("solon.models.sampling.PREFILL", 8):
        together = speaker.sample(prompts, max_tokens=1, seed=3)
        shared, counted[:] = sum(counted), []
        alone = [speaker.sample([prompt], max_tokens=1, seed=3)[0] for prompt in prompts]
    assert together == alone
    assert sum(counted) - shared == 8 * 16 + 8  # nine share two blocks, the tenth the first of them


def test_a_prompt_asked_twice_gets_two_replies() -> None:
    speaker, prompt = model(), asked(1)[0]
    first, second = speaker.sample([prompt, prompt], max_tokens=20, seed=0)
    both = speaker.sample([prompt], count=2, max_tokens=20, seed=0)[0]
    assert [first[0].tokens, second[0].tokens] == [sample.tokens for sample in both]


def test_sampled_log_probabilities_are_those_of_the_whole_forward_pass() -> None:
    speaker, prompts = model(), asked(12)
    for prompt, group in zip(prompts, speaker.sample(prompts, max_tokens=25, seed=1), strict=True):
        tokens = speaker.dialogue.prompt(prompt) + group[0].tokens
        logprobs = speaker.module.logits(speaker.module.hidden(torch.tensor([tokens])))[0].log_softmax(-1)
        start = len(tokens) - len(group[0].tokens)
        wanted = [float(logprobs[place - 1, tokens[place]]) for place in range(start, len(tokens))]
        assert group[0].logprobs == pytest.approx(wanted, abs=1e-4)


def test_samples_follow_the_distribution() -> None:
    speaker, prompt = model(scale=4.0), Conversation().human("w1 w2")
    tokens = [s.tokens[0] for s in speaker.sample([prompt], count=4000, max_tokens=1, seed=0)[0]]
    hidden = speaker.module.hidden(torch.tensor([speaker.dialogue.prompt(prompt)]))[0, -1:]
    p = speaker.module.logits(hidden).softmax(-1)[0]
    counts = torch.bincount(torch.tensor(tokens), minlength=len(p)).double()
    assert float(((counts - 4000 * p).square() / (4000 * p).clamp(min=1e-9))[p > 1e-3].sum()) < 2.0 * int(
        (p > 1e-3).sum()
    )


def test_temperature_zero_is_the_likeliest_and_a_small_nucleus_too() -> None:
    speaker, prompts = model(), asked(3)
    greedy = speaker.sample(prompts, max_tokens=8, temperature=0.0, seed=0)
    narrow = speaker.sample(prompts, max_tokens=8, top_p=1e-6, seed=5)
    assert [g[0].tokens for g in greedy] == [g[0].tokens for g in narrow]


@given(st.lists(st.floats(0.0, 5.0), min_size=2, max_size=700), st.floats(0, 0.999999))
@settings(max_examples=60)
def test_inversion_never_picks_what_has_no_weight(weights: list[float], uniform: float) -> None:
    row = torch.tensor([weights])
    if float(row.sum()) > 1e-3:
        found = int(inverse_cdf(row, torch.tensor([uniform])))
        assert float(row[0, found]) > 0
        cumulative = row[0].double().cumsum(0)
        assert float(cumulative[found]) >= uniform * float(cumulative[-1]) - 1e-3


def test_the_nucleus_is_the_smallest_set_that_reaches_the_mass() -> None:
    assert nucleus(torch.tensor([[0.5, 0.3, 0.2]]), 0.6).tolist() == [[0.5, pytest.approx(0.3), 0.0]]


def test_stops_say_why() -> None:
    speaker, prompts = model(), asked(20)
    kinds = {group[0].stop for group in speaker.sample(prompts, max_tokens=30, seed=0)}
    assert kinds <= {Stop.END, Stop.LENGTH}
    first = speaker.sample(prompts[:1], max_tokens=30, seed=0)[0][0]
    word = first.text.split()[1]
    cut = speaker.sample(prompts[:1], max_tokens=30, stop=[word], seed=0)[0][0]
    assert cut.stop is Stop.STRING
    assert word not in cut.text
    assert cut.tokens == first.tokens[: len(cut.tokens)]
    full = Conversation().human(" ".join(["w1"] * 58))
    assert speaker.sample([full], max_tokens=30, seed=0)[0][0].stop in (Stop.LENGTH, Stop.END)


def test_what_does_not_fit_is_refused_not_cut() -> None:
    speaker, long = model(), Conversation().human(" ".join(["w1"] * 70))
    assert not speaker.fits(long, max_tokens=1)
    with pytest.raises(InputError, match="context of 64"):
        speaker.sample([long], max_tokens=4, seed=0)
    with pytest.raises(InputError, match="context of 64"):
        speaker.score([long], ["w1"])
    with pytest.raises(InputError, match="empty reply"):
        speaker.score(asked(1), [""])
    with pytest.raises(InputError, match="not in this vocabulary"):
        speaker.score(asked(1), ["unknown"])


def test_scores_of_forked_padded_and_single_rows_agree() -> None:
    speaker, rng = model(), random.Random(1)
    groups = [
        (
            tuple(rng.randrange(45) for _ in range(rng.randint(1, 20))),
            [tuple(rng.randrange(45) for _ in range(rng.randint(1, 9))) for _ in range(rng.randint(1, 4))],
        )
        for _ in range(30)
    ]
    together = score_groups(speaker.module, groups)
    for group, found in zip(groups, together, strict=True):
        for reply, logprobs in zip(group[1], found, strict=True):
            alone = reply_logprobs(speaker.module, [(group[0], [reply])])[0]
            torch.testing.assert_close(logprobs, alone.detach(), atol=1e-4, rtol=0)


def naive(body: Backbone, prompt: tuple[int, ...], reply: tuple[int, ...]) -> torch.Tensor:
    """One sequence, one forward pass, the whole softmax."""
    tokens = torch.tensor([prompt + reply])
    with torch.no_grad():
        logprobs = body.logits(body.hidden(tokens)[0]).float().log_softmax(-1)
    return logprobs[len(prompt) - 1 : -1].gather(1, tokens[0, len(prompt) :, None])[:, 0]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1, 12, 40, 1000]))
def test_scores_in_a_trie_equal_naive_ones(seed: int, row_tokens: int) -> None:
    """Random tries of few letters: headers, truncations, equal first tokens, one request twice, a prompt
    inside a reply.
    """
    rng, body = random.Random(seed), model().module
    words = [tuple(rng.randrange(40, 43) for _ in range(rng.randint(1, 12))) for _ in range(6)]
    requests = []
    for _ in range(rng.randint(1, 25)):
        whole = tuple(token for _ in range(rng.randint(1, 4)) for token in rng.choice(words))
        cut = rng.randint(1, len(whole))
        requests.append((whole[:cut], whole[cut:]) if rng.random() < 0.8 else (whole, (rng.randrange(45),)))
    requests.append(requests[0])
    sizes = {
        "ROW_TOKENS": row_tokens,
        "SHARED_TOKENS": rng.choice([1, 5]),
        "PACKED_TOKENS": rng.choice([4, 30]),
    }
    with mock.patch.multiple("solon.models.scoring", **sizes):
        found = score(body, requests)
    for (prompt, reply), logprobs in zip(requests, found, strict=True):
        torch.testing.assert_close(logprobs, naive(body, prompt, reply), atol=1e-4, rtol=0)


def test_what_requests_share_is_computed_once() -> None:
    header, items = tuple(range(30)), [(n,) * 5 for n in range(8)]
    requests = [(header + item, (option,)) for item in items for option in (40, 41)]
    assert build_trie(requests).unique_tokens == 30 + 8 * (5 + 2)
    body, rows = model().module, []
    body.embed.register_forward_hook(lambda module, given, made: rows.append(given[0].numel()))  # type: ignore[operator, union-attr]
    with mock.patch.multiple("solon.models.scoring", ROW_TOKENS=16, SHARED_TOKENS=8):
        score(body, requests)
    assert sum(rows) == 30 + 8 * (5 + 2)
    with pytest.raises(InputError, match="at least one token"):
        score(body, [((), (1,))])
    assert score(body, []) == []


def test_gradients_of_a_fork_are_those_of_separate_rows() -> None:
    prompt, replies = (7, 8, 9), [(10, 11), (12,)]
    one, other = model(), model()
    torch.cat(reply_logprobs(one.module, [(prompt, replies)])).sum().backward()
    torch.cat(reply_logprobs(other.module, [(prompt, [reply]) for reply in replies])).sum().backward()
    for a, b in zip(one.module.parameters(), other.module.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None)
        if a.grad is not None and b.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, atol=1e-3, rtol=1e-3)


def test_choose_gives_belief_raw_and_mass() -> None:
    speaker, prompt = model(), Conversation().human("w1")
    found = choose(speaker, [Question(prompt, ("w2", "w3 w4"))])[0]
    assert sum(found.belief) == pytest.approx(1.0)
    assert found.tokens == (1, 2)
    every = choose(speaker, [Question(prompt, WORDS)])[0]
    hidden = speaker.module.hidden(torch.tensor([speaker.dialogue.prompt(prompt)]))[0, -1:]
    p = speaker.module.logits(hidden).softmax(-1)[0]
    assert every.mass == pytest.approx(float(p[5:].sum()), abs=1e-4)
    with pytest.raises(InputError, match="needs choices"):
        choose(speaker, [Question(prompt)])


def test_kl_is_zero_to_itself_and_equals_a_plain_computation() -> None:
    first, second = model(0, scale=4.0), model(1, scale=4.0)
    pair = ((7, 8, 9), (10, 11, 12))
    assert exact_kl(first.module, first.module, group_by_prompt([pair])) == [pytest.approx(0.0, abs=1e-5)]
    tokens = torch.tensor([pair[0] + pair[1]])
    p = first.module.logits(first.module.hidden(tokens))[0, 2:5].log_softmax(-1)
    q = second.module.logits(second.module.hidden(tokens))[0, 2:5].log_softmax(-1)
    assert exact_kl(first.module, second.module, group_by_prompt([pair]))[0] == pytest.approx(
        float((p.exp() * (p - q)).sum()), rel=1e-4
    )


def test_a_fresh_adapter_changes_nothing_and_copies_share_the_base() -> None:
    start = model()
    adapted = start.adapted(Lora(4), seed=0)
    prompts = asked(5)
    assert [g[0].tokens for g in adapted.sample(prompts, max_tokens=9, seed=0)] == [
        g[0].tokens for g in start.sample(prompts, max_tokens=9, seed=0)
    ]
    other = adapted.copy()
    frozen = {p.data_ptr() for p in adapted.module.parameters() if not p.requires_grad}
    assert frozen == {p.data_ptr() for p in other.module.parameters() if not p.requires_grad}
    before = other.fingerprint
    with torch.no_grad():
        for parameter in adapted.module.parameters():
            if parameter.requires_grad:
                parameter += 0.1
    assert other.fingerprint == before
    assert adapted.fingerprint != before


def test_merging_keeps_every_log_probability() -> None:
    adapted = model().adapted(Lora(4), seed=0)
    with torch.no_grad():
        for parameter in adapted.module.parameters():
            if parameter.requires_grad:
                parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    print_before = adapted.fingerprint
    merged, prompts = adapted.merged(), asked(6)
    for a, b in zip(adapted.score(prompts, ["w1 w2"] * 6), merged.score(prompts, ["w1 w2"] * 6), strict=True):
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-3)
    assert adapted.fingerprint == print_before
    with pytest.raises(InputError, match="adapters already"):
        adapted.adapted(Lora(4), seed=0)


def test_a_body_without_linear_layers_takes_no_adapters() -> None:
    speaker = model()
    speaker.module.blocks = nn.ModuleList([])
    with pytest.raises(InputError, match="no torch Linear"):
        speaker.adapted(Lora(4), seed=0)


def test_weights_survive_and_wrong_ones_are_refused(tmp_path: Path) -> None:
    one, other = model(0), model(1)
    one.save(tmp_path / "w.safetensors")
    other.load(tmp_path / "w.safetensors")
    assert one.fingerprint == other.fingerprint
    with pytest.raises(InputError, match="does not belong"):
        model(attention_only=True).load(tmp_path / "w.safetensors")
    (tmp_path / "pickle.pt").write_bytes(b"\x80\x04evil")
    with pytest.raises(InputError, match="never opened"):
        load_tensors(tmp_path / "pickle.pt")
    save_small(one, tmp_path / "folder")
    assert load_small(tmp_path / "folder").fingerprint == one.merged().fingerprint


def test_a_scalar_head_reads_the_end_of_each_reply() -> None:
    scalar = ScalarModel(model().module)
    nn.init.normal_(scalar.head.weight, generator=torch.Generator().manual_seed(0))
    rows = [((7, 8), [(9, 10), (11,)]), ((12,), [(13, 14, 15)])]
    found = scalar.reply_scores(rows).tolist()
    wanted = [
        float(scalar.scores_per_token(torch.tensor([prompt + reply]))[0, -1])
        for prompt, replies in rows
        for reply in replies
    ]
    assert found == pytest.approx(wanted, abs=1e-4)


def test_activations_are_read_at_named_sites_and_hooks_do_not_stay() -> None:
    speaker = model()
    sites = ("blocks.0.residual_after", "blocks.1.attention.mixed")
    found = activations(speaker.module, [(5, 6, 7)], sites)
    assert found["blocks.0.residual_after"].shape == (1, 3, 32)
    assert set(sites) <= set(speaker.sites)
    assert not any(module._forward_hooks for module in speaker.module.modules())
    with pytest.raises(InputError, match="no site 'nowhere'"), record_outputs(speaker.module, ["nowhere"]):
        pass


def test_a_shallow_body_is_the_first_layers() -> None:
    speaker = model()
    short = speaker.module.first_layers(1)
    found = activations(speaker.module, [(5, 6, 7)], ["blocks.0.residual_after"])["blocks.0.residual_after"]
    torch.testing.assert_close(
        activations(short, [(5, 6, 7)], ["blocks.0.residual_after"])["blocks.0.residual_after"], found
    )
    assert speaker.module.depth == 2


def test_a_fork_masks_what_a_reply_may_not_see() -> None:
    _, fork = pack_groups([((1, 2), [(3,), (4, 5)])], torch.device("cpu"))
    assert fork.mask()[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 0, 1, 0],
        [1, 1, 0, 1, 1],
    ]
    assert fork.mask(window=2)[0, 0].int().tolist()[4] == [0, 0, 0, 1, 1]


def test_a_recorded_step_is_recorded_anew_where_the_cache_has_moved() -> None:
    """Here a graph is a call made again into the same place, which is all that one of an accelerator is."""
    speaker, prompts = model(), asked(20)
    wanted = speaker.sample(prompts, count=2, max_tokens=40, seed=1)
    plain, records = speaker.module.stepper, 0

    def recorded_(
        call: Callable[[], torch.Tensor], reset: Callable[[], object]
    ) -> tuple[Callable[[], object], torch.Tensor]:
        nonlocal records
        records += 1
        call()
        reset()
        found = call().clone()
        reset()
        return lambda: found.copy_(call()), found

    speaker.module.stepper = lambda: ReplayedStep(plain(), recorded_)  # type: ignore[method-assign]
    assert speaker.sample(prompts, count=2, max_tokens=40, seed=1) == wanted
    assert 1 < records < 10  # once for each number of slots and each stretch of positions


@pytest.mark.parametrize("prefix", [0, 7])
@pytest.mark.parametrize("window", [None, 6])
def test_a_block_mask_shows_what_the_masks_of_the_trees_show(prefix: int, window: int | None) -> None:
    """What accelerators compute in one kernel (here by its definition) is what is computed tree by tree."""
    _, plain = pack_groups(
        [((5, 6, 7, 8), [(9, 10), (11,)]), ((5, 6), [(12, 13, 14)]), (tuple(range(3, 40)), [(41, 42)])],
        torch.device("cpu"),
    )
    fork = TreeLayout(plain.positions_BT + prefix, plain.ends_BT, prefix, plain.lengths)
    trees, tokens = fork.trees(window), plain.ends_BT.shape[1]
    assert trees is not None
    blocks = Trees(
        fork.lengths, prefix, [], tree_block_mask(fork.ends_BT[0], fork.positions_BT[0], prefix, window)
    )
    generator = torch.Generator().manual_seed(0)
    given = [
        torch.randn(1, heads, length, 16, generator=generator)
        for heads, length in ((4, tokens), (2, tokens + prefix), (2, tokens + prefix))
    ]
    torch.testing.assert_close(
        tree_attention(*given, blocks, 0.25), tree_attention(*given, trees, 0.25), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("most", [100, 30])
def test_scoring_halves_its_batch_where_memory_runs_out(most: int) -> None:
    speaker, prompts = model(), asked(200)
    replies = ["w1 w2 w3"] * len(prompts)
    wanted = speaker.score(prompts, replies)
    whole = speaker.module.hidden

    def tight(tokens: torch.Tensor, *more: object) -> torch.Tensor:
        if tokens.numel() > most and len(more[0].lengths) > 1:  # type: ignore[attr-defined]
            raise torch.OutOfMemoryError("out of memory")
        return whole(tokens, *more)  # type: ignore[arg-type]

    speaker.module.hidden = tight  # type: ignore[method-assign]
    with pytest.warns(RuntimeWarning, match="out of memory: going on"):
        found = speaker.score(prompts, replies)
    for mine, theirs in zip(wanted, found, strict=True):
        assert theirs.logprobs == pytest.approx(mine.logprobs, abs=1e-4)


def test_sampling_goes_on_in_fewer_slots_where_memory_runs_out() -> None:
    speaker, prompts = model(), asked(20)
    wanted = speaker.sample(prompts, count=2, max_tokens=12, seed=1)
    whole, steps = speaker.module.stepper, 0

    def tight() -> Callable[[torch.Tensor, SlotCache], torch.Tensor]:
        step = whole()

        def small(tokens: torch.Tensor, cache: SlotCache) -> torch.Tensor:
            nonlocal steps
            steps += 1
            if len(tokens) > 8 and steps > 3:  # after some rows have gone on for a while
                raise torch.OutOfMemoryError("out of memory")
            return step(tokens, cache)

        return small

    speaker.module.stepper = tight  # type: ignore[method-assign]
    with pytest.warns(RuntimeWarning, match="going on with 8 replies at a time"):
        assert speaker.sample(prompts, count=2, max_tokens=12, seed=1) == wanted
    speaker.module.stepper = lambda: (
        lambda tokens, cache: (_ for _ in ()).throw(torch.OutOfMemoryError("out of memory"))
    )  # type: ignore[method-assign, assignment, return-value]
    with pytest.raises(torch.OutOfMemoryError), pytest.warns(RuntimeWarning):
        speaker.sample(prompts, count=2, max_tokens=12, seed=1)
