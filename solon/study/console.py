"""Between a command and the person or the machine that reads it: lines, one JSON object, Ctrl-C."""

from __future__ import annotations

import json
import math
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


def say(text: str) -> None:
    """A line for the person, on standard error, out of the way of what a machine reads."""
    print(text, file=sys.stderr, flush=True)


def silent(text: str) -> None:
    """Say nothing: what a process that does not write is given in place of `say`."""


def answer(result: dict[str, Any], human: str, *, as_json: bool) -> int:
    """Print for a person, or as the last line one JSON object (infinite numbers become null). Returns 0."""
    if not as_json:
        print(printable(human))
        return 0
    say(printable(human))
    print(json.dumps(finite(result), ensure_ascii=False), flush=True)
    return 0


def finite(value: Any) -> Any:
    """The same with NaN and infinity as None, which JSON can hold.

    >>> finite({"low": float("-inf"), "n": 1})
    {'low': None, 'n': 1}
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, (list, tuple)) else value


def printable(text: str) -> str:
    """Text that cannot steer a terminal: control characters but newline and tab are shown, not obeyed.

    >>> printable("a\\x1b[2J")
    'a\\\\x1b[2J'
    """
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else repr(letter)[1:-1] for letter in text
    )


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Yields a function that turns true after the first Ctrl-C (or TERM): the work ends at the next row or
    step, and is kept. A second Ctrl-C ends it at once; rows and checkpoints on disk stay.
    """
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        say("\nstopping at the next row or step; once more to stop at once")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
