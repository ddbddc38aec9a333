# Two commands do all the set-up on a fresh machine:  make demo  (the main job)  and  make test.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# test-hard: the suite beside busy loops, three times, then with 1, 2 and 8 visible cores (about two hours on 2 cores)
.PHONY: demo test test-hard check docs
demo: $(VENV)/installed
	$(BIN)/edgead demo

test: $(VENV)/installed
	$(BIN)/python -m tests.parts

test-hard: $(VENV)/installed
	$(BIN)/python -m tests.hard

check: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@
