"""What the study works on: nothing is read; sums are drawn and small transformers are trained here."""

from __future__ import annotations

from dataclasses import dataclass, field

from solon.studies.surprise.settings import Settings, quick
from solon.study.options import StudyOptions


@dataclass(frozen=True)
class Options(StudyOptions):
    """Train small transformers on k-digit addition, and measure the same checkpoints smoothly and
    abruptly.
    """

    settings: Settings = field(default_factory=quick)
