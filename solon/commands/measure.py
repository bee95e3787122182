"""`solon measure FILE ... --model M [--against N]`: what a model knows and how it behaves."""

from __future__ import annotations

from collections.abc import Sequence

from solon.errors import InputError
from solon.study.conduct import show
from solon.study.options import parse
from solon.tools.inspect_files import measure_logs
from solon.tools.measure import Options, measure


def main(argv: Sequence[str]) -> int:
    options = parse(Options, argv, command="measure")
    words = ["solon", "measure", *argv]
    if options.paths and all(path.suffix == ".eval" for path in options.paths):
        return show("logs", measure_logs(options, argv=words), options, as_json=options.json)
    if not options.paths or not options.model:
        raise InputError(
            "solon measure needs files or folders, and --model; `solon measure --help` lists the options"
        )
    names = [options.model, options.against] if options.against else [options.model]
    finished = measure(options, options, names, options.paths, argv=words)
    return show("compare" if options.against else "measure", finished, options, as_json=options.json)
