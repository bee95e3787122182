"""The crash law as one helper: a run that is stopped again and again ends on the report and the rows of one
that is not.
"""

import random
from collections.abc import Callable
from pathlib import Path

from solon.records.report import Report, markdown
from solon.records.run import Run


def survived(root: Path, work: Callable[[Run], Report], *, patience: tuple[int, int]) -> str:
    """The whole report as Markdown, after a second run of the same work was stopped until it was done, each
    time after so many (drawn, from fewest to most) of the places where a run may be stopped; asserts that
    both reports are the same.
    """

    def attempt(folder: Path, left: float) -> tuple[str, dict[str, bytes]]:
        asked = iter(range(10**9))
        with Run.open(folder, "killed", {}, {}, seed=0, stop=lambda: next(asked) >= left) as run:
            told = markdown(work(run))
            return told, {
                str(path.relative_to(run.folder)): path.read_bytes() for path in run.folder.rglob("*.jsonl")
            }

    whole, rng, stops = attempt(root / "whole", float("inf")), random.Random(0), 0
    while stops < 500:
        try:
            # the first time at the first place
            assert attempt(root / "broken", rng.randint(*patience) if stops else 0) == whole
            break
        except KeyboardInterrupt:
            stops += 1
    assert 0 < stops < 500, f"stopped {stops} times"
    return whole[0]
