"""`solon run superposition`: toy models that hold more features than they have dimensions, all sections,
offline.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from solon.studies.superposition.study import Settings, full, quick, study
from solon.study.legacy import StudyOptions, parse, preset_of, run_study


@dataclass(frozen=True)
class Options(StudyOptions):
    """Train toy models of superposition and hold them against theory."""

    settings: Settings = field(default_factory=quick)


def main(argv: Sequence[str]) -> int:
    preset = Options(preset="full", settings=full()) if preset_of(argv) == "full" else Options()
    options = parse(Options, argv, command="run superposition", default=preset)
    settings = options.settings
    wanted = {name: value for name, value in asdict(settings).items() if name != "workers"}
    return run_study(options, "superposition", wanted, {}, "toy models", lambda run: study(run, settings))
