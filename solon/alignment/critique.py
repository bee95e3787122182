"""Critique and revision: the supervised stage of Constitutional AI (arXiv:2212.08073, section 3)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from solon.models.base import Sample, Speaker, Stop, derive
from solon.words.constitution import Constitution, Principle
from solon.words.conversation import Conversation


@dataclass(frozen=True, slots=True)
class CritiqueExample:
    """A worked critique and revision of a reply, shown to the model before its own."""

    request: str
    reply: str
    principle: Principle
    critique: str
    revision: str


@dataclass(frozen=True, slots=True)
class RevisionRound:
    """One critique and revision under the principle of that name. `critique` is "" where none was requested;
    `finished` is False where the token limit ended the revision.
    """

    principle: str
    critique: str
    revision: str
    finished: bool = True


@dataclass(frozen=True, slots=True)
class RevisedReply:
    """The first reply to a prompt, and its revisions."""

    prompt: Conversation
    first: str
    rounds: tuple[RevisionRound, ...]

    @property
    def revisions(self) -> tuple[str, ...]:
        """The revision of each round."""
        return tuple(turn.revision for turn in self.rounds)


def revise(
    model: Speaker,
    prompts: Sequence[Conversation],
    constitution: Constitution,
    *,
    rounds: int,
    critique: bool = True,
    examples: Sequence[CritiqueExample] = (),
    max_tokens: int = 128,
    temperature: float = 1.0,
    seed: int,
) -> list[RevisedReply]:
    """A reply to each prompt, then `rounds` critiques and revisions of the latest draft, all at one
    temperature (1 in the paper).

    A principle is drawn for every prompt and round by (seed, prompt, round). After each round the revision
    replaces the reply in the conversation, so that a round never sees an earlier critique. Without `critique`
    the revision is requested directly (section 3.5). `examples` precede every critique and revision request.
    """

    def ask(requests: Sequence[Conversation], *stage: object) -> list[Sample]:
        groups = model.sample(
            requests, max_tokens=max_tokens, temperature=temperature, seed=derive(seed, *stage)
        )
        return [group[0] for group in groups]

    drafts = [
        RevisedReply(prompt, reply.text, ())
        for prompt, reply in zip(prompts, ask(prompts, "reply"), strict=True)
    ]
    for number in range(1, rounds + 1):
        principles = [_draw(constitution, prompt, number, seed) for prompt in prompts]
        latest = [draft.rounds[-1].revision if draft.rounds else draft.first for draft in drafts]
        conversations = [prompt.assistant(text) for prompt, text in zip(prompts, latest, strict=True)]
        critiques = [""] * len(prompts)
        if critique:
            requests = [
                with_examples(examples, conversation.human(principle.critique), "critique")
                for conversation, principle in zip(conversations, principles, strict=True)
            ]
            critiques = [sample.text.strip() for sample in ask(requests, "critique", number)]
            conversations = [
                conversation.human(principle.critique).assistant(text)
                for conversation, principle, text in zip(conversations, principles, critiques, strict=True)
            ]
        kind = "revision" if critique else "direct"
        requests = [
            with_examples(examples, conversation.human(principle.revision), kind)
            for conversation, principle in zip(conversations, principles, strict=True)
        ]
        revisions = ask(requests, "revision", number)
        drafts = [
            replace(draft, rounds=(*draft.rounds, _round(principle, text, revision)))
            for draft, principle, text, revision in zip(drafts, principles, critiques, revisions, strict=True)
        ]
    return drafts


def _round(principle: Principle, critique: str, revision: Sample) -> RevisionRound:
    return RevisionRound(principle.name, critique, revision.text.strip(), revision.stop is not Stop.LENGTH)


def with_examples(examples: Sequence[CritiqueExample], request: Conversation, kind: str) -> Conversation:
    """The request after worked examples. For a `kind` "critique" an example ends at its critique, for
    "revision" at its revision, and for "direct" it has a revision without a critique.
    """
    before = Conversation()
    for example in examples:
        before = before.human(example.request).assistant(example.reply)
        if kind != "direct":
            before = before.human(example.principle.critique).assistant(example.critique)
        if kind != "critique":
            before = before.human(example.principle.revision).assistant(example.revision)
    return Conversation((*before.turns, *request.turns))


def _draw(constitution: Constitution, prompt: Conversation, number: int, seed: int) -> Principle:
    return constitution.draw_revision_principle(random.Random(derive(seed, "principle", prompt.key, number)))
