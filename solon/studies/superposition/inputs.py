"""What the study works on: nothing is read; toy models are trained here."""

from __future__ import annotations

from dataclasses import dataclass, field

from solon.studies.superposition.settings import Settings, quick
from solon.study.options import StudyOptions


@dataclass(frozen=True)
class Options(StudyOptions):
    """Train toy models of superposition and hold them against theory."""

    settings: Settings = field(default_factory=quick)
