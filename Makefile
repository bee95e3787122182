# `make demo` aligns a small model to a constitution; `make test` runs the suite. Both set up .venv first.

PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV ?= .venv
BIN = $(VENV)/bin

EXTRAS = .venv-extras

.PHONY: setup demo test test-extras check test-slow test-gpu docs clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Solon needs Python 3.11 or later; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: setup
	$(BIN)/solon align smollm2 --preset quick

test: check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow and not gpu and not extra" -n 2 --dist loadgroup

# All that skips in .venv for want of a library; here a test that skips fails.
test-extras: $(EXTRAS)/.ready
	OMP_NUM_THREADS=1 $(EXTRAS)/bin/python -m pytest -m extra --no-skips

$(EXTRAS)/.ready: pyproject.toml
	$(PYTHON) -m venv $(EXTRAS)
	$(EXTRAS)/bin/python -m pip install --quiet --upgrade pip
	$(EXTRAS)/bin/python -m pip install --quiet $(TORCH)
	echo '$(TORCH)' > $(EXTRAS)/constraint.txt
	$(EXTRAS)/bin/python -m pip install --quiet --constraint $(EXTRAS)/constraint.txt --editable '.[dev,extras]'
	touch $@

check: setup
	$(BIN)/ruff check solon tests benchmarks
	$(BIN)/ruff format --check solon tests benchmarks
	$(BIN)/mypy

test-slow: setup
	$(BIN)/python -m pytest -m slow --timeout 1800

# Needs an accelerator. Without a .venv it runs under PYTHON as it is.
test-gpu:
	$(or $(wildcard $(BIN)/python),$(PYTHON)) -m benchmarks.gpu --tests

docs: .venv-docs/.ready
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/python -m mkdocs build --strict

.venv-docs/.ready: pyproject.toml
	$(PYTHON) -m venv .venv-docs
	$(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"], sep="\n")' > .venv-docs/requirements.txt
	.venv-docs/bin/python -m pip install --quiet --requirement .venv-docs/requirements.txt
	touch $@

clean:
	rm -rf $(VENV) $(EXTRAS) .venv-docs site
