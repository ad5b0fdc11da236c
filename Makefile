# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export OMP_NUM_THREADS = 1
export OPENBLAS_NUM_THREADS = 1
export MKL_NUM_THREADS = 1

.PHONY: env demo test test-all lint bench clean

env: $(STAMP)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("algoprogress needs Python 3.11 or newer; this is " + sys.version.split()[0] + ": make env PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $(STAMP)

demo: env
	@$(BIN)/algoprogress submit demo
	@$(BIN)/algoprogress report demo --out reports/demo

test: env
	$(BIN)/python -m pytest -m 'not slow and not gpu and not alone' -n 2 --dist loadfile
	$(BIN)/python -m pytest -m 'not slow and not gpu and alone'

test-all: env
	ALGOPROGRESS_FUZZ=10 $(BIN)/python -m pytest

# mypy does not follow setuptools' import hooks: it gets a folder of links that looks like the installed package
lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@mkdir -p build/types/algoprogress && ln -sfn ../../../ablations ../../../analysis ../../../pipeline ../../../results build/types/algoprogress/
	MYPYPATH=build/types $(BIN)/mypy

bench: env
	$(BIN)/algoprogress bench all

clean:
	rm -rf $(VENV) build reports *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
