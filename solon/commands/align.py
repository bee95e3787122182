"""`solon align [MODEL]`: the main job, which is the study `constitutional_ai` under its own name."""

from __future__ import annotations

from collections.abc import Sequence

from solon.study import conduct


def main(argv: Sequence[str]) -> int:
    return conduct.main(conduct.study_of("constitutional_ai"), argv, command="align")
