"""What the study works on: no file; digits that scikit-learn brings, and sequences drawn here."""

from __future__ import annotations

from dataclasses import dataclass, field

from solon.studies.influence.settings import Settings, quick
from solon.study.options import StudyOptions


@dataclass(frozen=True)
class Options(StudyOptions):
    """Hold influence functions against the proximal response and against training again; offline."""

    settings: Settings = field(default_factory=quick)
