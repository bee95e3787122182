"""Context distillation: teach a model to speak as if it had read a context, without the context in front of
it.

The objective is KL(p_0(X | C) || p(X)) over texts X behind a context C (Askell et al. 2021, arXiv:2112.00861,
section 2.2), by the recipe of HH-RLHF (appendix A.1): the teacher's 50 likeliest log-probabilities at every
token of X are kept once, all the others as one bin, and the student learns the 51-way distribution.

Shapes: N tokens of texts, K kept tokens, C width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

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
    """The same tokens behind what the teacher has read and behind what the student has."""

    teacher_prefix: Tokens
    student_prefix: Tokens
    tokens: Tokens


@dataclass(frozen=True, slots=True)
class TeacherTargets:
    """What the teacher expected at every token of a text: its likeliest tokens, their log-probabilities and
    that of all others.
    """

    text: DistillationText
    top_tokens_NK: Tensor  # int32
    logprobs_NK: Tensor
    rest_N: Tensor


def distillation_text(
    dialogue: Dialogue, context: Conversation, prompt: Conversation, reply: str
) -> DistillationText:
    """A prompt and its reply behind `context` and without it. The text is everything from where both run the
    same to the end: the human's words count too, as in the papers. Raises InputError where nothing is left in
    common.
    """
    said = dialogue.reply(prompt, reply) + dialogue.end
    teacher = dialogue.prompt(Conversation((*context.turns, *prompt.turns))) + said
    student = dialogue.prompt(prompt) + said
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
            "the text behind the context and without it have no token in common; the prompt ends on "
            f"{prompt.last[-60:]!r}"
        )
    return DistillationText(teacher[:-common], student[:-common], student[-common:])


@torch.inference_mode()
def teacher_targets(
    teacher: Backbone, texts: Sequence[DistillationText], *, top: int = TOP
) -> list[TeacherTargets]:
    """The teacher's expectations, computed once and kept on the CPU; texts behind the same context share it.

    Raises InputError where a context and a text are longer than the teacher can read.
    """
    check_context_length(teacher, texts)
    found: dict[int, TeacherTargets] = {}
    for before, some in batches_by_context(texts):
        hidden_NC, _, lengths = reply_hidden(teacher, [(before, [texts[place].tokens for place in some])])
        kept = [top_log_probabilities(teacher.logits(part), top) for part in hidden_NC.split(HEAD_PART)]
        columns = (torch.cat(column).split(lengths) for column in zip(*kept, strict=True))
        found |= {
            place: TeacherTargets(texts[place], *own) for place, *own in zip(some, *columns, strict=True)
        }
    return [found[place] for place in range(len(texts))]


def batches_by_context(texts: Sequence[DistillationText]) -> Iterator[tuple[Tokens, list[int]]]:
    """Places of texts behind the same context, as many at a time as a batch holds beside it, with that
    context.
    """
    groups: dict[Tokens, list[int]] = {}
    for place, text in enumerate(texts):
        groups.setdefault(text.teacher_prefix, []).append(place)
    for before, places in groups.items():
        for batch in batch_by_tokens(
            [len(texts[place].tokens) for place in places], tokens=max(BATCH_TOKENS - len(before), 1)
        ):
            yield before, [places[own] for own in batch]


def check_context_length(teacher: Backbone, texts: Sequence[DistillationText]) -> None:
    """Raises InputError where a context and a text together are longer than the teacher can read."""
    longest = max((len(text.teacher_prefix) + len(text.tokens) for text in texts), default=0)
    if longest > teacher.context:
        raise InputError(
            f"a context and its text have {longest} tokens, over the teacher's {teacher.context}; shorten "
            "the context, or leave long texts out"
        )


def top_log_probabilities(logits_NV: Tensor, top: int) -> tuple[Tensor, Tensor, Tensor]:
    """The likeliest tokens, their log-probabilities, and the log-probability of all others together; on the
    CPU.
    """
    logprobs_NV = logits_NV.float().log_softmax(-1)
    kept = logprobs_NV.topk(min(top, logprobs_NV.shape[1] - 1), dim=-1)
    rest_N = logprobs_NV.scatter(1, kept.indices, float("-inf")).logsumexp(-1)
    return kept.indices.int().cpu(), kept.values.cpu(), rest_N.cpu()


def binned_kl(
    student: Backbone, hidden_NC: Tensor, likeliest_NK: Tensor, logprobs_NK: Tensor, rest_N: Tensor
) -> Tensor:
    """KL(teacher || student) over the kept tokens and one bin of the rest, nats, (N,). At most the KL over
    the vocabulary.
    """
    own_NV = student.logits(hidden_NC).float()
    total_N1 = own_NV.logsumexp(-1, keepdim=True)
    kept_NK = own_NV.gather(1, likeliest_NK) - total_N1
    others_N = own_NV.scatter(1, likeliest_NK, float("-inf")).logsumexp(-1) - total_N1[:, 0]
    return (logprobs_NK.exp() * (logprobs_NK - kept_NK)).sum(-1) + rest_N.exp() * (rest_N - others_N)


def distillation_loss(student: Backbone) -> Callable[[Sequence[TeacherTargets]], LossTotal]:
    """The loss for `fit`: 51-way KL in nats a token of the texts. Logits are computed again in the backward
    pass, not kept.
    """

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
            checkpoint(
                lambda hidden, *own: binned_kl(student, hidden, *own), hidden, *own, use_reentrant=False
            )
            for hidden, *own in zip(hidden_NC.split(HEAD_PART), *targets, strict=True)
        ]
        return LossTotal(torch.cat(parts).sum(), float(len(hidden_NC)))

    return loss


@torch.inference_mode()
def context_kl(
    teacher: Backbone, student: Backbone, texts: Sequence[DistillationText], *, with_context: bool = False
) -> list[float]:
    """KL(teacher behind the context || student without it) over the whole vocabulary, nats a token, for every
    text: what distilling has left, or with the teacher as the student, what there was. `with_context` lets
    the student read the context too.
    """
    check_context_length(teacher, texts)
    found: dict[int, float] = {}
    for before, some in batches_by_context(texts):
        said = [texts[place].tokens for place in some]
        read_NC, _, lengths = reply_hidden(teacher, [(before, said)])
        alone = [(texts[place].student_prefix, [texts[place].tokens]) for place in some]
        own_NC, _, _ = reply_hidden(student, [(before, said)] if with_context else alone)
        parts = []
        for mine, theirs in zip(read_NC.split(HEAD_PART), own_NC.split(HEAD_PART), strict=True):
            p_NV, q_NV = (
                teacher.logits(mine).float().log_softmax(-1),
                student.logits(theirs).float().log_softmax(-1),
            )
            parts.append((p_NV.exp() * (p_NV - q_NV)).sum(-1))
        found |= {
            place: float(own.mean()) for place, own in zip(some, torch.cat(parts).split(lengths), strict=True)
        }
    return [found[place] for place in range(len(texts))]
