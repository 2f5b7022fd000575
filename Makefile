# make demo · make test · make test-fast · make lint · make bench · make bench-all
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test test-fast lint bench bench-all

demo: $(READY)
	$(BIN)/meddiffusers demo --output demo

test: $(READY)
	$(BIN)/pytest --numprocesses auto --dist worksteal

# Without the tests that are marked as slow.
test-fast: $(READY)
	$(BIN)/pytest --numprocesses auto --dist worksteal -m "not slow"

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# All benchmarks; fails and lists the missed bars if there are any. bench-all also trains the AR-VAE of digits again.
bench: $(READY)
	$(BIN)/python benchmarks/run_all.py

bench-all: $(READY)
	$(BIN)/python benchmarks/run_all.py --train

$(READY): constraints.txt pyproject.toml setup.py
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@
