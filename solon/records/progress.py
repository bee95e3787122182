"""How far a stage has come and how long it will still take, on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import TextIO

Meter = Callable[..., None]  # (done, metrics = {}) -> None
Progress = Callable[[str, int, int], Meter]  # (stage, total, done already) -> Meter


def silent(stage: str, total: int, done: int) -> Meter:
    """No progress at all: for libraries and tests."""
    return lambda done, metrics=None: None


def spoken(to: TextIO | None = None, *, every: float = 10.0) -> Progress:
    """One line a stage, on standard error: rewritten in place on a terminal, written every `every` seconds
    elsewhere.
    """
    stream = to or sys.stderr
    live = stream.isatty()

    def progress(stage: str, total: int, already: int) -> Meter:
        began, shown = time.monotonic(), 0.0

        def meter(done: int, metrics: Mapping[str, float] | None = None) -> None:
            nonlocal shown
            now = time.monotonic()
            if done < total and now - shown < (0.2 if live else every):
                return
            shown = now
            rest = (now - began) / max(done - already, 1) * (total - done)
            ending = f"about {clock(rest)} left" if done < total else f"done in {clock(now - began)}"
            numbers = "".join(f"  {name} {value:.3g}" for name, value in list((metrics or {}).items())[:3])
            line = f"{stage:<22} {done:>5}/{total}  {ending}{numbers}"
            stream.write(f"\r\x1b[K{line}" + ("\n" if done >= total else "") if live else line + "\n")
            stream.flush()

        if total and already >= total:
            stream.write(f"{stage:<22} {total:>5}/{total}  read back\n")
            stream.flush()
        elif already:
            stream.write(f"{stage:<22} {already:>5}/{total}  going on from an earlier attempt\n")
        return meter

    return progress


def clock(seconds: float) -> str:
    """
    >>> clock(75)
    '1:15'
    """
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
