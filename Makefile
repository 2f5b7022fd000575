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

# Benchmarks that take minutes; bench-all also trains the shipped checkpoints anew.
bench: $(READY)
	$(BIN)/python benchmarks/import_time.py
	$(BIN)/python benchmarks/engine_overhead.py
	$(BIN)/python benchmarks/digit_measurement.py
	$(BIN)/python benchmarks/attributes.py
	$(BIN)/python benchmarks/scans.py
	$(BIN)/python benchmarks/segmentation.py
	$(BIN)/python benchmarks/anomaly.py
	$(BIN)/python benchmarks/cardiac.py
	$(BIN)/python benchmarks/text_to_mr.py
	$(BIN)/python benchmarks/ldm.py

bench-all: bench
	$(BIN)/python benchmarks/attribute_training.py

$(READY): constraints.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@
