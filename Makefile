# make demo | test | test-slow | lint | format | docs | venv | clean, and for MONAI Label label-env | test-label.
# PYTHON=python3.11 chooses the interpreter of .venv and .venv-label,
# DATA=DIR hands real data to the demo and the tests, TASK=detection shows the other demo.
PYTHON ?= python3
DATA ?=
TASK ?=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DOCS_STAMP := $(VENV)/.docs-installed
LABEL_VENV := .venv-label
LABEL_BIN := $(LABEL_VENV)/bin
LABEL_STAMP := $(LABEL_VENV)/.installed
# With a space instead of `=` pytest would take the folder for one of tests.
WITH_DATA = $(if $(DATA),--data="$(abspath $(DATA))")
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 $(WITH_DATA)

.PHONY: demo test test-slow test-label lint format docs venv label-env clean

demo: $(STAMP)
	$(BIN)/monai-ssl demo $(if $(TASK),--task=$(TASK)) $(WITH_DATA)

test: $(STAMP)
	$(PYTEST) -m "not slow and not label" --session-timeout=1800

test-slow: $(STAMP)
	$(PYTEST) -m "slow and not label"

# A file in one process, and no further after a failure: the tests of a file share a server and build on each other.
test-label: $(LABEL_STAMP)
	OMP_NUM_THREADS=1 $(LABEL_BIN)/python -m pytest -x -n 2 --dist loadfile -m label --session-timeout=900 tests/label

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy monai_ssl $(if $(wildcard benchmarks/*.py),benchmarks)

format: $(STAMP)
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

# -E: what a page says comes from configs and docstrings, too, whose changes an older build would not see.
docs: $(DOCS_STAMP)
	$(BIN)/python -m sphinx -q -E -W --keep-going -n docs docs/_build/html
	@echo "docs/_build/html/index.html"

$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install -c constraints.txt -e ".[docs]"
	touch $@

venv: $(STAMP)

# torch comes first and pinned: the version that pip picks by itself can bring gigabytes of CUDA libraries.
$(STAMP): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("monai-ssl needs Python 3.10 or newer, and $(PYTHON) is " + sys.version.split()[0] + ". Name another one: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -c constraints.txt torch
	$(BIN)/python -m pip install -c constraints.txt -e ".[dev]"
	touch $@

label-env: $(LABEL_STAMP)

# Why in three steps: constraints-label.txt.
LABEL_PIP := $(LABEL_BIN)/python -m pip install -c constraints.txt -c constraints-label.txt
$(LABEL_STAMP): setup.cfg pyproject.toml constraints.txt constraints-label.txt
	@$(PYTHON) -c 'import sys; (3, 10) <= sys.version_info < (3, 12) or sys.exit("MONAI Label needs Python 3.10 or 3.11, and $(PYTHON) is " + sys.version.split()[0] + ". Name another one: make label-env PYTHON=python3.11")'
	$(PYTHON) -m venv $(LABEL_VENV)
	$(LABEL_PIP) torch
	$(LABEL_PIP) -e ".[label,dev]"
	$(LABEL_PIP) --no-deps monailabel pydicom-seg torchvision
	touch $@

clean:
	rm -rf $(VENV) $(LABEL_VENV) build dist demo docs/_build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
