# Two commands set up everything, in a virtual environment of this clone's own:
#   make run     the seed's story on every modelled kernel, then on the kernel of this machine
#   make test    style, types, and all tests

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: run test lint bench docs clean

run: $(VENV)/.installed
	@echo '$$ cowcatcher check rdma_fork_wait'
	@$(BIN)/cowcatcher check rdma_fork_wait
	@echo; echo '$$ cowcatcher check seed'
	@$(BIN)/cowcatcher check seed
	@echo; echo '$$ cowcatcher run seed'
	@# 3: this machine lacks what the tests need (a compiler, io_uring); it has said so.
	@$(BIN)/cowcatcher run seed || test $$? -eq 3
	@echo; echo 'Next: $(BIN)/cowcatcher explain rdma_fork_wait --kernel v5.9-rc4'

test: lint
	$(BIN)/python -m pytest

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks

# Pages that are written by the program itself; a test says when they are out of date.
docs: $(VENV)/.dev
	$(BIN)/python -m tests.catalogue.table
	$(BIN)/python -m tests.cli.page
	$(BIN)/python -m tests.audit.page

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "cowcatcher needs Python 3.11 or newer; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip --disable-pip-version-check install --quiet --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip --disable-pip-version-check install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
