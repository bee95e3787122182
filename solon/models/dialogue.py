"""How a conversation becomes tokens: a chat template, the Human/Assistant form, plain text, or a small
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

    @property
    def end(self) -> Tokens:
        """The tokens after a finished reply."""

    @property
    def context_end(self) -> Tokens:
        """The tokens after a reply at whose last a preference model reads its score."""

    @property
    def stops(self) -> tuple[str, ...]:
        """Strings that end a turn where no token does."""

    def prompt(self, conversation: Conversation) -> Tokens:
        """The tokens before the next reply; a conversation that ends with an assistant turn is left open
        there.
        """

    def reply(self, conversation: Conversation, text: str) -> Tokens:
        """The tokens of `text` as the next reply in `conversation`, without its end."""

    def text(self, conversation: Conversation, tokens: Tokens) -> str:
        """The text of a reply's tokens, without those that end it."""


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """The tokenizer's chat template.

    Text that contains one of the tokenizer's special tokens raises InputError: it would be read as structure.
    """

    tokenizer: Any
    ends: frozenset[int]
    end: Tokens
    context_end: Tokens
    stops: tuple[str, ...] = ()

    def prompt(self, conversation: Conversation) -> Tokens:
        """See `Dialogue.prompt`. Raises InputError where the template refuses the conversation."""
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
        """See `Dialogue.reply`. Raises InputError on a special token in the text."""
        self._check(text, "a reply")
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))

    def _check(self, text: str, where: str) -> None:
        special = next((token for token in self.tokenizer.all_special_tokens if token in text), None)
        if special:
            raise InputError(f"{where} contains the special token {special!r}; remove it from the text")

    def text(self, conversation: Conversation, tokens: Tokens) -> str:
        """See `Dialogue.text`."""
        shown = [token for token in tokens if token not in self.ends]
        return str(self.tokenizer.decode(shown, skip_special_tokens=True, clean_up_tokenization_spaces=False))


@dataclass(frozen=True, slots=True)
class Transcript:
    r"""The published Human/Assistant form, `\n\nHuman: ...\n\nAssistant:`, for models without chat template.

    A new reply starts with a space; a continued one does not.
    """

    tokenizer: Any
    ends: frozenset[int]
    end: Tokens
    context_end: Tokens
    start: Tokens = ()
    stops: tuple[str, ...] = ("\n\nHuman:", "\n\nAssistant:")

    def prompt(self, conversation: Conversation) -> Tokens:
        """See `Dialogue.prompt`."""
        return self.start + tuple(
            self.tokenizer.encode(write_transcript(conversation), add_special_tokens=False)
        )

    def reply(self, conversation: Conversation, text: str) -> Tokens:
        """See `Dialogue.reply`."""
        return tuple(
            self.tokenizer.encode(f" {text}" if conversation.awaits_reply else text, add_special_tokens=False)
        )

    def text(self, conversation: Conversation, tokens: Tokens) -> str:
        """See `Dialogue.text`."""
        shown = [token for token in tokens if token not in self.ends]
        text = str(self.tokenizer.decode(shown, skip_special_tokens=True, clean_up_tokenization_spaces=False))
        return text.removeprefix(" ") if conversation.awaits_reply else text


@dataclass(frozen=True, slots=True)
class PlainText:
    """Turns as plain text, for base models and few-shot prompts: a line for the human turn and one for the
    assistant's, and a blank line after each pair. An open assistant turn is continued as it is.
    """

    tokenizer: Any
    ends: frozenset[int]
    end: Tokens
    context_end: Tokens
    start: Tokens = ()
    stops: tuple[str, ...] = ("\n\n",)

    def prompt(self, conversation: Conversation) -> Tokens:
        """See `Dialogue.prompt`."""
        after = {"human": "\n", "assistant": "\n\n", "system": "\n\n"}
        text = "".join(turn.text + after[turn.role] for turn in conversation.turns)
        return self.start + tuple(
            self.tokenizer.encode(text if conversation.awaits_reply else text[:-2], add_special_tokens=False)
        )

    def reply(self, conversation: Conversation, text: str) -> Tokens:
        """See `Dialogue.reply`."""
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))

    def text(self, conversation: Conversation, tokens: Tokens) -> str:
        """See `Dialogue.text`."""
        shown = [token for token in tokens if token not in self.ends]
        return str(self.tokenizer.decode(shown, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def plain_text(dialogue: Dialogue) -> Dialogue:
    """The plain-text form with the same tokenizer; a small vocabulary is returned unchanged."""
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
    """A whole-word vocabulary for toy models. Words are split at spaces; an unknown word raises InputError.

    >>> dialogue = WordDialogue(("a", "b"))
    >>> dialogue.prompt(Conversation().human("a b"))
    (1, 5, 6, 2)
    >>> dialogue.text(Conversation().human("a"), (6, 5, 3))
    'b a'
    """

    words: tuple[str, ...]
    stops: tuple[str, ...] = ()
    special: tuple[str, ...] = ("<system>", "<human>", "<assistant>", "<end>", "<context-end>")

    @property
    def size(self) -> int:
        """The number of tokens: special ones and words."""
        return len(self.special) + len(self.words)

    @property
    def ends(self) -> frozenset[int]:
        """See `Dialogue.ends`."""
        return frozenset(self.end)

    @property
    def end(self) -> Tokens:
        """See `Dialogue.end`."""
        return (3,)

    @property
    def context_end(self) -> Tokens:
        """See `Dialogue.context_end`."""
        return (*self.end, 4)

    def encode(self, text: str) -> Tokens:
        """The tokens of words separated by spaces. Raises InputError on an unknown word."""
        numbers = {word: number for number, word in enumerate((*self.special, *self.words))}
        unknown = [word for word in text.split() if word not in numbers]
        if unknown:
            raise InputError(f"the word {unknown[0]!r} is not in this vocabulary of {len(self.words)} words")
        return tuple(numbers[word] for word in text.split())

    def prompt(self, conversation: Conversation) -> Tokens:
        """See `Dialogue.prompt`."""
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
        """See `Dialogue.reply`."""
        return self.encode(text)

    def text(self, conversation: Conversation, tokens: Tokens) -> str:
        """See `Dialogue.text`."""
        first = len(self.special)
        return " ".join(
            self.words[token - first] if token >= first else self.special[token]
            for token in tokens
            if token not in self.ends
        )
