"""One thread for all tests: small matrices are slower on two, and results then never depend on the machine's
cores. Toy models are trained once for all workers, and again where source or processor changed.
"""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
import torch

from tests.paths import KEPT, models_of

torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="fail where a test skips")


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if session.config.getoption("--no-skips") and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_configure(config: pytest.Config) -> None:
    if KEPT in os.environ:  # a worker
        return
    cached = config.pluginmanager.hasplugin("cacheprovider")
    cache = config.cache.mkdir("toy-models") if cached and config.cache else Path(tempfile.mkdtemp())
    folder = models_of(cache)
    for stale in set(cache.iterdir()) - {folder}:
        shutil.rmtree(stale)
    folder.mkdir(exist_ok=True)
    os.environ[KEPT] = str(folder)
