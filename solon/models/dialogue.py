"""How a conversation becomes tokens: a chat template, the plain Human/Assistant form, or a small
vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from jinja2 import TemplateError

from solon.data.rows import to_messages
from solon.errors import InputError
from solon.models.base import Tokens
from solon.words.conversation import Conversation, write_transcript


class Dialogue(Protocol):
    """Tokens of prompts and replies, such that prompt + reply + end is exactly what a model is trained on."""

    @property
    def ends(self) -> frozenset[int]:
        """The tokens that end a turn, any of them."""
        ...

    @property
    def end(self) -> Tokens:
        """What is written after a finished reply."""
        ...

    @property
    def context_end(self) -> Tokens:
        """What follows the last word of a reply where a preference model reads its score, at the last of
        these tokens.
        """
        ...

    @property
    def stops(self) -> tuple[str, ...]:
        """Text that ends a turn where no token does."""
        ...

    def prompt(self, conversation: Conversation) -> Tokens: ...

    def reply(self, conversation: Conversation, text: str) -> Tokens: ...

    def text(self, conversation: Conversation, tokens: Tokens) -> str: ...


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """The tokenizer's own chat template. A conversation that ends on the assistant's side is left open there.

    Text that spells one of the tokenizer's special tokens is refused: it would be read as structure.
    """

    tokenizer: Any
    ends: frozenset[int]
    end: Tokens
    context_end: Tokens
    stops: tuple[str, ...] = ()

    def prompt(self, conversation: Conversation) -> Tokens:
        for turn in conversation.turns:
            self._check(turn.text, f"a {turn.role} turn")
        try:
            text = self.tokenizer.apply_chat_template(
                to_messages(conversation),
                tokenize=False,
                add_generation_prompt=conversation.awaits_reply,
                continue_final_message=not conversation.awaits_reply,
            )
        except TemplateError as error:
            roles = ", ".join(turn.role for turn in conversation.turns)
            raise InputError(f"the model's chat template refuses the turns {roles}: {error}") from error
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))

    def reply(self, conversation: Conversation, text: str) -> Tokens:
        self._check(text, "a reply")
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))

    def _check(self, text: str, where: str) -> None:
        found = next((token for token in self.tokenizer.all_special_tokens if token in text), None)
        if found:
            raise InputError(f"{where} contains the special token {found!r}; remove it from the text")

    def text(self, conversation: Conversation, tokens: Tokens) -> str:
        kept = [token for token in tokens if token not in self.ends]
        return str(self.tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False))


@dataclass(frozen=True, slots=True)
class Transcript:
    r"""The published plain form, `\n\nHuman: ...\n\nAssistant:`, for models without a chat template.

    A fresh reply starts with a space; a continued one is taken as it stands.
    """

    tokenizer: Any
    ends: frozenset[int]
    end: Tokens
    context_end: Tokens
    start: Tokens = ()
    stops: tuple[str, ...] = ("\n\nHuman:", "\n\nAssistant:")

    def prompt(self, conversation: Conversation) -> Tokens:
        return self.start + tuple(
            self.tokenizer.encode(write_transcript(conversation), add_special_tokens=False)
        )

    def reply(self, conversation: Conversation, text: str) -> Tokens:
        return tuple(
            self.tokenizer.encode(f" {text}" if conversation.awaits_reply else text, add_special_tokens=False)
        )

    def text(self, conversation: Conversation, tokens: Tokens) -> str:
        kept = [token for token in tokens if token not in self.ends]
        text = str(self.tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False))
        return text.removeprefix(" ") if conversation.awaits_reply else text


@dataclass(frozen=True, slots=True)
class PlainText:
    r"""Turns as plain text, for base models and few-shot prompts: a line for what is asked and one for what
    is replied, a blank line after each pair. An opening of the assistant's is gone on from as it stands.
    """

    tokenizer: Any
    ends: frozenset[int]
    end: Tokens
    context_end: Tokens
    start: Tokens = ()
    stops: tuple[str, ...] = ("\n\n",)

    def prompt(self, conversation: Conversation) -> Tokens:
        after = {"human": "\n", "assistant": "\n\n", "system": "\n\n"}
        text = "".join(turn.text + after[turn.role] for turn in conversation.turns)
        return self.start + tuple(
            self.tokenizer.encode(text if conversation.awaits_reply else text[:-2], add_special_tokens=False)
        )

    def reply(self, conversation: Conversation, text: str) -> Tokens:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))

    def text(self, conversation: Conversation, tokens: Tokens) -> str:
        kept = [token for token in tokens if token not in self.ends]
        return str(self.tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def plain_text(dialogue: Dialogue) -> Dialogue:
    """The same tokenizer's plain form; a small vocabulary has no other than its own."""
    if not isinstance(dialogue, (ChatTemplate, Transcript)):
        return dialogue
    start = tuple(
        token
        for token in dialogue.tokenizer.encode("", add_special_tokens=True)
        if token not in dialogue.ends
    )
    return PlainText(dialogue.tokenizer, dialogue.ends, dialogue.end, dialogue.context_end, start)


@dataclass(frozen=True, slots=True)
class WordDialogue:
    """A whole-word vocabulary for small worlds. Words are split at spaces; an unknown word is refused, not
    replaced.

    >>> talk = WordDialogue(("a", "b"))
    >>> talk.prompt(Conversation().human("a b"))
    (1, 5, 6, 2)
    >>> talk.text(Conversation().human("a"), (6, 5, 3))
    'b a'
    """

    words: tuple[str, ...]
    stops: tuple[str, ...] = ()
    special: tuple[str, ...] = ("<system>", "<human>", "<assistant>", "<end>", "<context-end>")

    @property
    def size(self) -> int:
        return len(self.special) + len(self.words)

    @property
    def ends(self) -> frozenset[int]:
        return frozenset(self.end)

    @property
    def end(self) -> Tokens:
        return (3,)

    @property
    def context_end(self) -> Tokens:
        return (*self.end, 4)

    def encode(self, text: str) -> Tokens:
        known = {word: number for number, word in enumerate((*self.special, *self.words))}
        unknown = [word for word in text.split() if word not in known]
        if unknown:
            raise InputError(f"the word {unknown[0]!r} is not in this vocabulary of {len(self.words)} words")
        return tuple(known[word] for word in text.split())

    def prompt(self, conversation: Conversation) -> Tokens:
        tokens: Tokens = ()
        roles = {"system": 0, "human": 1, "assistant": 2}
        for turn in conversation.turns:
            closing = self.end if turn.role == "assistant" else ()
            tokens += (roles[turn.role], *self.encode(turn.text), *closing)
        if conversation.awaits_reply:
            return (*tokens, roles["assistant"])
        return (
            tokens[: len(tokens) - len(self.end)]
            if conversation.turns and conversation.turns[-1].role == "assistant"
            else tokens
        )

    def reply(self, conversation: Conversation, text: str) -> Tokens:
        return self.encode(text)

    def text(self, conversation: Conversation, tokens: Tokens) -> str:
        first = len(self.special)
        return " ".join(
            self.words[token - first] if token >= first else self.special[token]
            for token in tokens
            if token not in self.ends
        )
