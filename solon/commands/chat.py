"""`solon chat MODEL`: talk to a model in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from solon.errors import InputError
from solon.models.base import derive
from solon.models.load import load_speaker
from solon.study.console import printable, say
from solon.study.options import Model, Precision, parse
from solon.words.conversation import Conversation


@dataclass(frozen=True)
class Options:
    """Talk to a model. An empty line or Ctrl-D ends it; /again starts a new conversation."""

    model: Model = "smollm2"
    system: str = ""
    max_tokens: int = 256
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    precision: Precision = "auto"


def main(argv: Sequence[str]) -> int:
    options = parse(Options, argv, command="chat")
    model = load_speaker(options.model, precision=options.precision, say=say)
    opening = Conversation().system(options.system) if options.system else Conversation()
    talk, turn = opening, 0
    say(f"talking to {model.name}; an empty line ends")
    while True:
        print("you> ", end="", flush=True)
        line = sys.stdin.readline()
        words = line.strip()
        if not words:
            return 0
        if words == "/again":
            talk = opening
            continue
        turn += 1
        try:
            reply = model.sample(
                [talk.human(words)],
                max_tokens=options.max_tokens,
                temperature=options.temperature,
                top_p=options.top_p,
                seed=derive(options.seed, turn),
            )[0][0]
        except InputError as error:
            say(f"{error}. /again starts a new conversation")
            continue
        talk = talk.human(words).assistant(reply.text)
        print(f"{model.name}> {printable(reply.text)}", flush=True)
