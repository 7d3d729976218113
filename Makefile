# make demo and make test set up all they need in .venv, the first time only.
# PYTHON: the interpreter to start from (3.10 or later). PIP_ARGS: more options for pip.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SOURCES := pyproject.toml setup.py $(wildcard csrc/*.h* csrc/*/* eval_lib/*.pyx)

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow lint bench bench-eval bench-losses bench-train clean

help:
	@echo "make demo       train two networks on generated images with wrong labels, and measure them"
	@echo "make test       run the tests (make test-slow: the long ones as well)"
	@echo "make lint       check format, style and types"
	@echo "make bench      run the benchmarks in tools/bench (make bench-eval: those of the evaluation alone,"
	@echo "                make bench-losses: those of the losses, make bench-train: what the training loop costs)"
	@echo "make clean      remove what was built; not .venv, not runs"

setup: $(STAMP)

# torch first, and the package without build isolation, which would fetch torch a second time to build against.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "reid-core needs Python 3.10 or later; $(PYTHON) is `$(PYTHON) --version 2>&1`. Try: make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "venv is missing: on Debian, apt install python3-venv"; exit 2; }
	$(BIN)/python -m pip install $(PIP_ARGS) --quiet --upgrade pip

$(STAMP): $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install $(PIP_ARGS) --quiet torch torchvision
	$(BIN)/python -m pip install $(PIP_ARGS) --quiet "setuptools>=77" "Cython>=3.1"
	$(BIN)/python -m pip install $(PIP_ARGS) --quiet --no-build-isolation --editable ".[dev]"
	@touch $@

demo: $(STAMP)
	$(BIN)/train_core --dataset synthetic

test: $(STAMP)
	$(BIN)/python -m pytest

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m "slow or not slow"

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)
	@found=; for script in tools/bench/[a-z]*.py; do [ -e "$$script" ] || continue; found=1; \
	  echo "== $$script"; $(BIN)/python "$$script" || exit 1; done; \
	  [ -n "$$found" ] || echo "there are no benchmarks yet"

bench-eval: $(STAMP)
	@for name in rank_matrix rank_embeddings rerank; do echo "== $$name"; $(BIN)/python tools/bench/$$name.py || exit 1; done

bench-losses: $(STAMP)
	$(BIN)/python tools/bench/losses.py

bench-train: $(STAMP)
	$(BIN)/python tools/bench/training_loop.py

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -f eval_lib/_rank.cpp eval_lib/*.so eval_lib/_build.json reid_core/ops/*.so
	rm -f $(STAMP)
	find reid_core eval_lib tests tools -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
