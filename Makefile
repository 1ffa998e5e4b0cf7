# The only commands a user or CI needs. `make run` and `make test` set everything up by themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test fuzz check bench clean

run: $(VENV)/.run              ## train, compare and pack on the source of Python's standard library
	$(BIN)/tokenmill run examples/quickstart.yaml

test: $(VENV)/.test            ## everything: unit, parity, fault and end-to-end tests
	$(BIN)/python -m pytest -n 2 --dist loadgroup

fuzz: $(VENV)/.test            ## random regexes and texts beside `tokenizers`, for ten minutes or SECONDS=…, from SEED=…
	$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),600) --seed $(or $(SEED),1)

check: $(VENV)/.test           ## lint, format, strict types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.bench          ## everything beside its peers, on ../shared/corpora or CORPUS=…; takes an hour or two
	CORPUS="$(CORPUS)" $(BIN)/python -m benchmarks

clean:                         ## the environment and the quickstart's output
	rm -rf $(VENV) out

$(BIN)/python:
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), f"Python 3.11 or newer is needed, this is {sys.version}"'
	$(PYTHON) -m venv $(VENV)

# constraints.txt pins every package, so that each install is the same. Compiling the kernels belongs to the install.
$(VENV)/.run: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	$(BIN)/python -m pipeline.jobs.warm
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	$(BIN)/python -m pipeline.jobs.warm
	@touch $@ $(VENV)/.run

$(VENV)/.bench: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python -m pipeline.jobs.warm
	@touch $@ $(VENV)/.run
