"""`solon score MODEL PROMPT --reply ... | --choices ...`: how likely replies are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

import tyro

from solon.commands.common import answer, parse, say
from solon.conversation import Conversation
from solon.errors import InputError
from solon.models.choice import choose
from solon.models.load import load_open
from solon.question import Question
from solon.records.codecs import from_sample


@dataclass(frozen=True)
class Options:
    """Log-probabilities, in nats, of a given reply's tokens; or the belief over choices."""

    model: Annotated[str, tyro.conf.Positional]
    prompt: Annotated[str, tyro.conf.Positional]
    """what the human says"""
    opening: str = ""
    """how the assistant's turn has begun; replies and choices go on from it"""
    reply: tuple[str, ...] = ()
    """one or more replies to score"""
    choices: tuple[str, ...] = ()
    """two or more choices to believe in"""
    precision: str = "auto"
    json: bool = False


def main(argv: Sequence[str]) -> int:
    options = parse(Options, argv, command="score")
    if bool(options.reply) == bool(options.choices):
        raise InputError("give --reply or --choices (one of the two)")
    prompt = Conversation().human(options.prompt)
    if options.opening:
        prompt = prompt.assistant(options.opening)
    model = load_open(options.model, precision=options.precision, say=say)
    if options.choices:
        found = choose(model, [Question(prompt, options.choices)])[0]
        rows = zip(options.choices, found.belief, found.logprobs, found.tokens, strict=True)
        lines = [f"{belief:8.4f}  {logprob:9.3f} nats  {tokens:2d} tokens  {choice}" for choice, belief, logprob, tokens in rows]
        lines.append(f"mass on the choices together: {found.mass:.4f}")
        return answer({"model": model.name, "choices": options.choices, **asdict(found)}, "\n".join(lines), as_json=options.json)
    samples = model.score([prompt] * len(options.reply), options.reply)
    lines = [f"{s.logprob:9.3f} nats  {len(s.tokens):3d} tokens  {s.logprob / len(s.tokens):7.3f} a token  {s.text}" for s in samples]
    return answer({"model": model.name, "replies": [from_sample(s) for s in samples]}, "\n".join(lines), as_json=options.json)
