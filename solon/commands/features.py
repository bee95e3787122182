"""`solon features RUN --dictionary FOLDER`: which features moved between the model that a run of `solon
align` began with and the one it ended on.
"""

from __future__ import annotations

from collections.abc import Sequence

from solon.study.conduct import show
from solon.study.options import parse
from solon.tools.features.inputs import Options, compare_features


def main(argv: Sequence[str]) -> int:
    options = parse(Options, argv, command="features")
    finished = compare_features(options, argv=["solon", "features", *argv])
    return show("features", finished, options, as_json=options.json)
