"""`solon explain RUN --prompt ... --reply ...`: which of a run's training rows made a reply likelier."""

from __future__ import annotations

from collections.abc import Sequence

from solon.study.conduct import show
from solon.study.options import parse
from solon.tools.explain.inputs import Options, explain


def main(argv: Sequence[str]) -> int:
    options = parse(Options, argv, command="explain")
    return show("explain", explain(options, argv=["solon", "explain", *argv]), options, as_json=options.json)
