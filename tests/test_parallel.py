"""Several processes train as one does; a checkpoint of two goes on on one and on four."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from solon.models.weights import load_tensors
from tests.parallel_job import TASKS


def launched(processes: int, *words: str) -> None:
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(processes),
        "-m",
        *words,
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parallel")
    for kind, processes in (("whole", 1), ("whole", 2), ("resume", 1), ("resume", 4)):
        launched(processes, "tests.parallel_job", str(folder), kind)
    return folder


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("other", ["whole2", "resume1", "resume4"])
def test_twenty_steps_end_on_the_same_weights(made: Path, task: str, other: str) -> None:
    alone, found = (load_tensors(made / f"{task}.{kind}.safetensors") for kind in ("whole1", other))
    assert alone.keys() == found.keys()
    for name, tensor in alone.items():
        if task == "preference" and name.endswith("head.bias"):
            continue  # only differences of scores are learned: its gradient is nothing but rounding
        torch.testing.assert_close(
            found[name], tensor, atol=1e-5, rtol=1e-5, msg=lambda words, name=name: f"{task} {name}: {words}"
        )


def test_the_whole_job_runs_in_two_processes(tmp_path: Path) -> None:
    """The first writes every row, both train; up to the first training stage all is byte-equal, its weights
    are to bf16's rounding.
    """
    for processes in (1, 2):
        launched(processes, "tests.job", str(tmp_path / str(processes)))
    one, two = (next((tmp_path / name / "job").iterdir()) for name in ("1", "2"))
    names = [{path.name for path in folder.iterdir()} for folder in (one, two)]
    assert names[0] == names[1]
    assert (one / "drafts.jsonl").read_bytes() == (two / "drafts.jsonl").read_bytes()
    mine, theirs = (load_tensors(folder / "supervised.safetensors") for folder in (one, two))
    for name, tensor in mine.items():
        torch.testing.assert_close(theirs[name], tensor, atol=2e-3, rtol=0)
    assert len((two / "policy.steps.jsonl").read_text().splitlines()) == 10
