"""`solon run surprise`: smooth loss and abrupt ability of small transformers trained here on addition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from solon.studies.surprise.study import Settings, full, quick, study
from solon.study.legacy import StudyOptions, parse, preset_of, run_study


@dataclass(frozen=True)
class Options(StudyOptions):
    """Train small transformers on k-digit addition, and measure the same checkpoints smoothly and
    abruptly.
    """

    settings: Settings = field(default_factory=quick)


def main(argv: Sequence[str]) -> int:
    preset = Options(preset="full", settings=full()) if preset_of(argv) == "full" else Options()
    options = parse(Options, argv, command="run surprise", default=preset)
    settings = options.settings
    return run_study(
        options, "surprise", asdict(settings), {}, "small transformers", lambda run: study(run, settings)
    )
