"""Several processes train as one does; a checkpoint of two goes on on one and on four."""

import multiprocessing
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from solon.models.weights import load_tensors
from tests import job
from tests.parallel_job import TASKS, process, train_all
from tests.paths import ROOT

pytestmark = pytest.mark.xdist_group("parallel")
# forked children have their imports done; CUDA does not survive a fork
CONTEXT = multiprocessing.get_context("spawn" if torch.cuda.is_available() else "fork")


def train_by(processes: int, folder: Path, *, resume: bool) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    world = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    started = [
        CONTEXT.Process(target=process, args=(rank, world, folder, resume)) for rank in range(processes)
    ]
    for one in started:
        one.start()
    for one in started:
        one.join(200)
        if one.exitcode != 0:
            for other in started:
                other.kill()
        assert one.exitcode == 0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parallel")
    train_all(folder, resume=False)
    train_by(2, folder, resume=False)
    train_all(folder, resume=True)
    train_by(4, folder, resume=True)
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
    are to bf16's rounding. Two processes are started by torchrun, as people start them.
    """
    job.main(tmp_path / "1")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, "-m", "tests.job", str(tmp_path / "2")], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr[-4000:]
    one, two = (next((tmp_path / name / "job").iterdir()) for name in ("1", "2"))
    names = [{path.name for path in folder.iterdir()} for folder in (one, two)]
    assert names[0] == names[1]
    assert (one / "drafts.jsonl").read_bytes() == (two / "drafts.jsonl").read_bytes()
    mine, theirs = (load_tensors(folder / "supervised.safetensors") for folder in (one, two))
    for name, tensor in mine.items():
        torch.testing.assert_close(theirs[name], tensor, atol=2e-3, rtol=0)
    assert len((two / "policy.steps.jsonl").read_text().splitlines()) == 10
