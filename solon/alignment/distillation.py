"""Context distillation: training a model to behave without a context as it does with it.

The objective is KL(p_0(X | C) || p(X)) over texts X after a context C (Askell et al. 2021, arXiv:2112.00861,
section 2.2), by the recipe of HH-RLHF (arXiv:2204.05862, appendix A.1): the teacher's 50 largest
log-probabilities at every token of X are stored, the others as one bin, and the student learns the 51-way
distribution.

Shapes: N tokens of texts, K kept tokens, C width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from solon.errors import InputError
from solon.models.backbones.backbone import Backbone
from solon.models.base import Tokens
from solon.models.dialogue import Dialogue
from solon.models.scoring import BATCH_TOKENS, HEAD_PART, batch_by_tokens, reply_hidden
from solon.training.losses import LossTotal
from solon.words.conversation import Conversation

TOP = 50


@dataclass(frozen=True, slots=True)
class DistillationText:
    """A text's tokens, with the tokens before them for the teacher (the context included) and the student."""

    teacher_prefix: Tokens
    student_prefix: Tokens
    tokens: Tokens


@dataclass(frozen=True, slots=True)
class TeacherTargets:
    """The teacher's predictions at every token of a text: its likeliest tokens, their log-probabilities
    (nats), and the log-probability of all others together.
    """

    text: DistillationText
    top_tokens_NK: Tensor  # int32
    logprobs_NK: Tensor
    rest_N: Tensor


def distillation_text(
    dialogue: Dialogue, context: Conversation, prompt: Conversation, reply: str
) -> DistillationText:
    """A prompt and its reply, with `context` before them for the teacher. The text is the longest common
    suffix of both token sequences, so the human's tokens count too, as in the papers. Raises InputError where
    they have no token in common.
    """
    reply_tokens = dialogue.reply(prompt, reply) + dialogue.end
    teacher = dialogue.prompt(Conversation((*context.turns, *prompt.turns))) + reply_tokens
    student = dialogue.prompt(prompt) + reply_tokens
    common = next(
        (
            back
            for back, (a, b) in enumerate(zip(reversed(teacher), reversed(student), strict=False))
            if a != b
        ),
        min(len(teacher), len(student)),
    )
    common = min(common, len(student) - 1)  # the first token needs one before it
    if common < 1:
        raise InputError(
            "the text with the context and without it have no token in common; the prompt ends on "
            f"{prompt.last[-60:]!r}"
        )
    return DistillationText(teacher[:-common], student[:-common], student[-common:])


@torch.inference_mode()
def teacher_targets(
    teacher: Backbone, texts: Sequence[DistillationText], *, top: int = TOP
) -> list[TeacherTargets]:
    """The teacher's predictions of each text, on the CPU; texts after one context share its computation.
    Raises InputError where a context and a text exceed the teacher's context length.
    """
    check_context_length(teacher, texts)
    targets: dict[int, TeacherTargets] = {}
    for before, batch in batches_by_context(texts):
        hidden_NC, _, lengths = reply_hidden(teacher, [(before, [texts[index].tokens for index in batch])])
        parts = [top_log_probabilities(teacher.logits(part), top) for part in hidden_NC.split(HEAD_PART)]
        columns = (torch.cat(column).split(lengths) for column in zip(*parts, strict=True))
        targets |= {
            index: TeacherTargets(texts[index], *target)
            for index, *target in zip(batch, *columns, strict=True)
        }
    return [targets[index] for index in range(len(texts))]


def batches_by_context(texts: Sequence[DistillationText]) -> Iterator[tuple[Tokens, list[int]]]:
    """(context, indices of texts after it), as many texts at a time as fit a batch beside the context."""
    groups: dict[Tokens, list[int]] = {}
    for index, text in enumerate(texts):
        groups.setdefault(text.teacher_prefix, []).append(index)
    for before, indices in groups.items():
        for batch in batch_by_tokens(
            [len(texts[index].tokens) for index in indices], tokens=max(BATCH_TOKENS - len(before), 1)
        ):
            yield before, [indices[member] for member in batch]


def check_context_length(teacher: Backbone, texts: Sequence[DistillationText]) -> None:
    """Raises InputError where a context and a text together exceed the teacher's context length."""
    longest = max((len(text.teacher_prefix) + len(text.tokens) for text in texts), default=0)
    if longest > teacher.context:
        raise InputError(
            f"a context and its text have {longest} tokens, over the teacher's {teacher.context}; shorten "
            "the context, or leave long texts out"
        )


def top_log_probabilities(logits_NV: Tensor, top: int) -> tuple[Tensor, Tensor, Tensor]:
    """The `top` likeliest tokens, their log-probabilities, and the log-probability of all others together, on
    the CPU.
    """
    logprobs_NV = logits_NV.float().log_softmax(-1)
    top_NK = logprobs_NV.topk(min(top, logprobs_NV.shape[1] - 1), dim=-1)
    rest_N = logprobs_NV.scatter(1, top_NK.indices, float("-inf")).logsumexp(-1)
    return top_NK.indices.int().cpu(), top_NK.values.cpu(), rest_N.cpu()


def binned_kl(
    student: Backbone, hidden_NC: Tensor, top_tokens_NK: Tensor, logprobs_NK: Tensor, rest_N: Tensor
) -> Tensor:
    """KL(teacher || student) over the stored tokens and one bin of the rest, nats, (N,). It is at most the KL
    over the vocabulary.
    """
    logits_NV = student.logits(hidden_NC).float()
    total_N1 = logits_NV.logsumexp(-1, keepdim=True)
    kept_NK = logits_NV.gather(1, top_tokens_NK) - total_N1
    others_N = logits_NV.scatter(1, top_tokens_NK, float("-inf")).logsumexp(-1) - total_N1[:, 0]
    return (logprobs_NK.exp() * (logprobs_NK - kept_NK)).sum(-1) + rest_N.exp() * (rest_N - others_N)


def distillation_loss(student: Backbone) -> Callable[[Sequence[TeacherTargets]], LossTotal]:
    """The loss for `fit`: `binned_kl`, nats a token. Logits are recomputed in the backward pass."""

    def loss(rows: Sequence[TeacherTargets]) -> LossTotal:
        hidden_NC, _, _ = reply_hidden(
            student, [(row.text.student_prefix, [row.text.tokens]) for row in rows]
        )
        device = hidden_NC.device
        targets = [
            torch.cat(column).to(device).split(HEAD_PART)
            for column in zip(
                *((row.top_tokens_NK.long(), row.logprobs_NK, row.rest_N) for row in rows), strict=True
            )
        ]
        parts = [
            checkpoint(partial(binned_kl, student), *part, use_reentrant=False)
            for part in zip(hidden_NC.split(HEAD_PART), *targets, strict=True)
        ]
        return LossTotal(torch.cat(parts).sum(), float(len(hidden_NC)))

    return loss


@torch.inference_mode()
def context_kl(
    teacher: Backbone, student: Backbone, texts: Sequence[DistillationText], *, with_context: bool = False
) -> list[float]:
    """KL(teacher with the context || student without it) over the vocabulary, nats a token, for each text.
    With the teacher as the student it is the gap before distillation. With `with_context` the student reads
    the context too.
    """
    check_context_length(teacher, texts)
    kl: dict[int, float] = {}
    for before, batch in batches_by_context(texts):
        replies = [texts[index].tokens for index in batch]
        teacher_NC, _, lengths = reply_hidden(teacher, [(before, replies)])
        without_context = [(texts[index].student_prefix, [texts[index].tokens]) for index in batch]
        student_NC, _, _ = reply_hidden(student, [(before, replies)] if with_context else without_context)
        parts = []
        for teacher_part, student_part in zip(
            teacher_NC.split(HEAD_PART), student_NC.split(HEAD_PART), strict=True
        ):
            p_NV = teacher.logits(teacher_part).float().log_softmax(-1)
            q_NV = student.logits(student_part).float().log_softmax(-1)
            parts.append((p_NV.exp() * (p_NV - q_NV)).sum(-1))
        kl |= {
            index: float(kl_N.mean())
            for index, kl_N in zip(batch, torch.cat(parts).split(lengths), strict=True)
        }
    return [kl[index] for index in range(len(texts))]
