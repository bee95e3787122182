"""Critique and revision: the supervised stage of Constitutional AI (arXiv:2212.08073, section 3)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from solon.models.base import Sample, Speaker, Stop, derive
from solon.words.constitution import Constitution, Principle
from solon.words.conversation import Conversation


@dataclass(frozen=True, slots=True)
class CritiqueExample:
    """One worked conversation that shows the model what a critique is and what a revision is."""

    request: str
    reply: str
    principle: Principle
    critique: str
    revision: str


@dataclass(frozen=True, slots=True)
class RevisionRound:
    """One critique and one revision, and the principle that both were drawn under. `critique` is "" where
    left out; `finished` says whether the model ended the revision itself, or the token limit did.
    """

    principle: str
    critique: str
    revision: str
    finished: bool = True


@dataclass(frozen=True, slots=True)
class RevisedReply:
    """What became of one prompt: the first reply and every round."""

    prompt: Conversation
    first: str
    rounds: tuple[RevisionRound, ...]

    @property
    def revisions(self) -> tuple[str, ...]:
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
    """A reply to each prompt, then `rounds` times a critique and a revision of the latest draft, all at one
    temperature (the paper's is 1).

    A principle is drawn for every prompt and round by (seed, prompt, round), independently. After each round
    the revision takes the reply's place in the conversation, so a round never sees an earlier critique.
    Without `critique` the revision is asked for directly (section 3.5). `examples` are put before every
    critique and revision.
    """

    def ask(requests: Sequence[Conversation], *words: object) -> list[Sample]:
        return [
            group[0]
            for group in model.sample(
                requests, max_tokens=max_tokens, temperature=temperature, seed=derive(seed, *words)
            )
        ]

    drafts = [
        RevisedReply(prompt, reply.text, ())
        for prompt, reply in zip(prompts, ask(prompts, "reply"), strict=True)
    ]
    for number in range(1, rounds + 1):
        principles = [_draw(constitution, prompt, number, seed) for prompt in prompts]
        latest = [draft.rounds[-1].revision if draft.rounds else draft.first for draft in drafts]
        asked = [prompt.assistant(text) for prompt, text in zip(prompts, latest, strict=True)]
        critiques = [""] * len(prompts)
        if critique:
            requests = [
                with_examples(examples, talk.human(rule.critique), "critique")
                for talk, rule in zip(asked, principles, strict=True)
            ]
            critiques = [sample.text.strip() for sample in ask(requests, "critique", number)]
            asked = [
                talk.human(rule.critique).assistant(found)
                for talk, rule, found in zip(asked, principles, critiques, strict=True)
            ]
        requests = [
            with_examples(examples, talk.human(rule.revision), "revision" if critique else "direct")
            for talk, rule in zip(asked, principles, strict=True)
        ]
        turns = [
            RevisionRound(rule.name, found, sample.text.strip(), sample.stop is not Stop.LENGTH)
            for rule, found, sample in zip(
                principles, critiques, ask(requests, "revision", number), strict=True
            )
        ]
        drafts = [
            RevisedReply(draft.prompt, draft.first, (*draft.rounds, turn))
            for draft, turn in zip(drafts, turns, strict=True)
        ]
    return drafts


def with_examples(examples: Sequence[CritiqueExample], request: Conversation, kind: str) -> Conversation:
    """The request behind the worked examples: up to the critique, up to the revision, or without critiques
    ("direct").
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
