"""Context distillation: the 51-way KL is what its definition says, and a planted gap closes."""

import random

import pytest
import torch

from solon.alignment.distillation import (
    DistillationText,
    binned_kl,
    context_kl,
    distillation_loss,
    distillation_text,
    teacher_targets,
    top_log_probabilities,
)
from solon.models.dialogue import WordDialogue
from solon.training.fit import fit, shuffled_batch
from solon.training.optimiser import Plan
from solon.words.conversation import Conversation
from tests.models.test_models import WORDS, model

CONTEXT = (5, 6, 7, 8, 9, 10)


def texts(count: int, seed: int) -> list[DistillationText]:
    rng = random.Random(seed)
    return [
        DistillationText((*CONTEXT, 2), (2,), tuple(rng.choices(range(4, 44), k=rng.randint(4, 12))))
        for _ in range(count)
    ]


def test_nothing_is_to_be_learned_where_the_context_is_read() -> None:
    body = model().module
    for lesson in teacher_targets(
        body,
        [DistillationText(text.teacher_prefix, text.teacher_prefix, text.tokens) for text in texts(5, 0)],
        top=10,
    ):
        assert distillation_loss(body)([lesson]).loss.item() == pytest.approx(0.0, abs=1e-4)
    assert context_kl(body, body, texts(5, 0), with_context=True) == pytest.approx([0.0] * 5, abs=1e-5)


def test_what_is_left_does_not_depend_on_the_texts_beside() -> None:
    """Texts share their context where they have the same one; each alone says the same."""
    teacher, student = model(0).module, model(1).module
    some = [*texts(6, 0), DistillationText((9, 8, 2), (2,), (11, 12, 13)), *texts(3, 1)]
    assert context_kl(teacher, student, some) == pytest.approx(
        [context_kl(teacher, student, [text])[0] for text in some], abs=1e-4
    )
    assert min(context_kl(teacher, student, some)) > 0.0


def test_the_bin_of_the_rest_makes_it_a_distribution() -> None:
    """By hand, from the probabilities; all tokens but one kept, it is the KL over the vocabulary."""
    teacher, student = model(0).module, model(1).module
    hidden = torch.randn(7, 32, generator=torch.Generator().manual_seed(0))
    p, q = (body.logits(hidden).float().softmax(-1) for body in (teacher, student))
    for top in (3, 10, p.shape[1] - 1):
        ids, kept, rest = top_log_probabilities(teacher.logits(hidden), top)
        found = binned_kl(student, hidden, ids.long(), kept, rest)
        for row in range(7):
            order = p[row].argsort(descending=True)[:top]
            pairs = [(p[row, i], q[row, i]) for i in order] + [
                (1 - p[row, order].sum(), 1 - q[row, order].sum())
            ]
            assert found[row].item() == pytest.approx(
                sum(float(a * (a / b).log()) for a, b in pairs if a > 1e-6), abs=2e-3
            )
        assert bool((found <= (p * (p / q).log()).sum(-1) + 1e-3).all())


def test_a_planted_gap_closes() -> None:
    """Whatever the context does to a small model's next tokens, nine tenths of it end up in the weights, on
    texts never seen.
    """
    teacher, student = model(scale=3.0), model(scale=3.0)
    held = texts(100, 1)
    before = sum(context_kl(teacher.module, teacher.module, held))
    learned = teacher_targets(teacher.module, texts(1500, 0), top=40)
    steps = fit(
        student.module,
        lambda number: [shuffled_batch(learned, size=64, seed=0, number=number)],
        distillation_loss(student.module),
        plan=Plan(300, 3e-3, warmup=10, schedule="linear"),
    )
    losses = [step.metrics["loss"] for step in steps]
    after = sum(context_kl(teacher.module, student.module, held))
    assert losses[-1] < losses[0]
    assert after < 0.1 * before


def test_the_text_is_what_runs_the_same() -> None:
    form = WordDialogue(WORDS)
    context = Conversation().human("w1 w2").assistant("w3")
    found = distillation_text(form, context, Conversation().human("w4"), "w5 w6")
    whole, alone = (
        form.prompt(talk) + form.reply(talk, "w5 w6") + form.end
        for talk in (
            Conversation((*context.turns, *Conversation().human("w4").turns)),
            Conversation().human("w4"),
        )
    )
    assert found.teacher_prefix + found.tokens == whole
    assert found.student_prefix + found.tokens == alone
    assert found.tokens[-len(form.end) - 2 :] == form.reply(context, "w5 w6") + form.end
