"""Metrics of training steps to a tracker that somebody else keeps: TensorBoard, Trackio or Weights & Biases.

One sink at most, asked for by `--log`; each is an extra. What a run needs is in its folder without any.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from solon.errors import InputError

Sink = Callable[[str, int, Mapping[str, float]], None]  # (stage, step, metrics)


def nowhere(stage: str, step: int, metrics: Mapping[str, float]) -> None:
    """Keep nothing."""


@contextmanager
def open_sink(name: str, folder: Path, config: Mapping[str, Any]) -> Iterator[Sink]:
    """The tracker of that name ("" for none) for the run of a folder; closed at the end.

    Raises InputError where it is not installed.
    """
    if not name:
        yield nowhere
        return
    if importlib.util.find_spec(name) is None:
        raise InputError(f"--log {name} needs {name}: pip install {name}")
    if name == "tensorboard":
        with importlib.import_module("torch.utils.tensorboard").SummaryWriter(str(folder / name)) as writer:

            def write(stage: str, step: int, metrics: Mapping[str, float]) -> None:
                for key, value in metrics.items():
                    writer.add_scalar(f"{stage}/{key}", value, step)

            yield write
        return
    tracker = importlib.import_module(name)
    tracker.init(project="solon", name=f"{folder.parent.name}-{folder.name}", config=dict(config))
    try:
        yield lambda stage, step, metrics: tracker.log(
            {f"{stage}/{key}": value for key, value in metrics.items()}
        )
    finally:
        tracker.finish()
