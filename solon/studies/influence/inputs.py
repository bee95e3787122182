"""`solon run influence`: what influence functions stand for, on digits and on a small language model. `solon
explain` applies them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from solon.studies.influence.study import Settings, full, quick, study
from solon.study.legacy import StudyOptions, parse, preset_of, run_study


@dataclass(frozen=True)
class Options(StudyOptions):
    """Hold influence functions against the proximal response and against training again; offline."""

    settings: Settings = field(default_factory=quick)


def main(argv: Sequence[str]) -> int:
    preset = preset_of(argv)
    options = parse(
        Options,
        argv,
        command="run influence",
        default=Options(preset=preset, settings=full() if preset == "full" else quick()),
    )
    return run_study(
        options, "influence", asdict(options.settings), {}, "digits", lambda run: study(run, options.settings)
    )
