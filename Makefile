# `make demo` and `make test` each do all set-up themselves: they create .venv, install what they need, and run.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-all lint format bench mutants docs docs-executed docs-links clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    train a network on real digits, attack it, write runs/demo/report.html"
	@echo "make test    the tests"
	@echo "make test-all  the same, and what takes two hours: long tests, every fault of a sweep, every precision"
	@echo "make lint    ruff (format and lint) and pyright"
	@echo "make bench   what a step of the attack costs over the bare model gradient"
	@echo "make docs    the site, docs/_build/html/docs/index.html: a minute; a warning or a broken link inside is an error"
	@echo "make docs-executed  the same with the notebooks run: allow a quarter of an hour the first time"
	@echo "make docs-links     whether the links to other sites work"
	@echo "make mutants whether the tests notice small faults of the core: COUNT=60 of them, drawn with SEED=0"

# One stamp an extra: installed anew only when pyproject.toml changes.
$(VENV)/installed-%: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[$*]"
	@touch $@

demo: $(VENV)/installed-demo
	$(BIN)/cwjax demo

test: export PYTHONDONTWRITEBYTECODE =  # its processes share what they compile of the sources
test: $(VENV)/installed-test
	$(BIN)/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder --max-worker-restart 0

test-all: export CWJAX_FAULTS = 1
test-all: export CWJAX_LONG = 1
test-all: test

lint: $(VENV)/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

format: $(VENV)/installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/installed-bench
	$(BIN)/python -m benchmarks.step_cost

COUNT := 60
SEED := 0
mutants: $(VENV)/installed-test
	$(BIN)/python -m tests.mutants --count $(COUNT) --seed $(SEED)

SPHINX = $(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet --conf-dir docs
docs: $(VENV)/installed-docs
	$(SPHINX) --builder html . docs/_build/html

docs-executed: export CWJAX_DOCS_EXECUTE = 1
docs-executed: docs

docs-links: $(VENV)/installed-docs
	$(SPHINX) --builder linkcheck . docs/_build/links

clean:
	rm -rf $(VENV) runs docs/_build docs/generated
