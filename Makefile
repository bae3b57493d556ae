# FileStore's recipes; CI runs the same ones. `make demo` and `make test` need nothing but Python 3.11 or later
# (and, for the tests, PostgreSQL 15's programs, which they install where they may).

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# What the tests call by name: psql and libpq, pgbench and the server that is asked for the right answer, libnuma.
DEBIAN := postgresql-client-15 postgresql-15 libnuma1
PATHS  := filestore tests bench
# A worker for each core; files stay whole for their fixtures. The kernels are compiled before, so that no worker waits for
# what another one compiles too.
PYTEST := $(BIN)/python -m pytest -q -n logical --maxprocesses 4 --dist loadfile
# BLAS and the like must not start threads beside the scan pool.
export OPENBLAS_NUM_THREADS := 1

.PHONY: help demo test test-slow bench lint fmt protoc soak system clean

help:
	@echo "make demo       real flights, six questions, a kill -9, and nothing lost (under 4 minutes)"
	@echo "make test       lint, types and the tests (under 15 minutes)"
	@echo "make test-slow  the tests that take longer"
	@echo "make bench      figures beside PostgreSQL, DuckDB and SQLite, into docs/performance.md"
	@echo "make lint fmt   ruff and mypy; ruff's formatter on the files given as FILES="
	@echo "make protoc     the gRPC modules, from rows.proto"
	@echo "make soak       load and kill -9 for MINUTES (default 10)"

$(STAMP): pyproject.toml
	@bash tools/venv.sh "$(PYTHON)" "$(VENV)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[demo,test]'
	@touch $@

demo: $(STAMP)
	@$(BIN)/python -m filestore.demo

lint: $(STAMP)
	$(BIN)/ruff check $(PATHS)
	$(BIN)/mypy

fmt: $(STAMP)
	$(BIN)/ruff check --fix $(or $(FILES),$(PATHS))
	$(BIN)/ruff format $(or $(FILES),$(PATHS))

protoc: $(STAMP)
	@bash tools/protoc.sh $(BIN)/python

test: $(STAMP) system lint
	@$(BIN)/filestore warm
	$(PYTEST) -m "not slow" $(ARGS)

test-slow: $(STAMP) system
	@$(BIN)/filestore warm
	$(PYTEST) -m slow $(ARGS)

bench: $(STAMP) system
	@$(BIN)/python -m bench $(ARGS)

soak: $(STAMP)
	@$(BIN)/python -m tests.crash.sigkill --minutes $(or $(MINUTES),10)

system:
	@bash tools/system.sh $(DEBIAN)

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache
	find filestore -name __pycache__ -prune -exec rm -rf {} +
