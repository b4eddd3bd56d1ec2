# make demo | test | test-slow | lint | format | venv | clean.   PYTHON=python3.11 chooses the interpreter of .venv,
# DATA=DIR hands real data to the demo and the tests, TASK=detection shows the other demo.
PYTHON ?= python3
DATA ?=
TASK ?=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# With a space instead of `=` pytest would take the folder for one of tests.
WITH_DATA = $(if $(DATA),--data="$(abspath $(DATA))")
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 $(WITH_DATA)

.PHONY: demo test test-slow lint format venv clean

demo: $(STAMP)
	$(BIN)/monai-ssl demo $(if $(TASK),--task=$(TASK)) $(WITH_DATA)

test: $(STAMP)
	$(PYTEST) -m "not slow" --session-timeout=900

test-slow: $(STAMP)
	$(PYTEST) -m slow

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy monai_ssl $(if $(wildcard benchmarks/*.py),benchmarks)

format: $(STAMP)
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

venv: $(STAMP)

# torch comes first and pinned: the version that pip picks by itself can bring gigabytes of CUDA libraries.
$(STAMP): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("monai-ssl needs Python 3.10 or newer, and $(PYTHON) is " + sys.version.split()[0] + ". Name another one: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -c constraints.txt torch
	$(BIN)/python -m pip install -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build dist demo *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
