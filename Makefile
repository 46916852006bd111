# `make demo` and `make test` do all the set-up they need, in a virtual environment of their own.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
FAST := not slow and not hardware and not browser

.PHONY: demo test lint types contracts fast slow bench clean

demo: $(VENV)/.base  ## trains hand-written digits on the simulated Daffodil chip
	$(BIN)/hil run config/runs/digits_node.yaml

test: lint types contracts fast  ## everything that must be clean before a commit

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/basedpyright --pythonpath $(BIN)/python

contracts: $(VENV)/.dev
	$(BIN)/lint-imports

fast: $(VENV)/.dev
	$(BIN)/pytest -n 2 -m "$(FAST)"

slow: $(VENV)/.dev
	$(BIN)/pytest -n 2 -m "slow and not hardware and not browser" --timeout 600

bench: $(VENV)/.base
	$(BIN)/python benchmarks/contract.py

$(VENV)/.base: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.dev: $(VENV)/.base
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .hypothesis
