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

# CPU builds of torch, where that index can be reached; PyPI's for Linux bring several GB of CUDA (docs/install.md)
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	if $(BIN)/python -c 'import urllib.request as u; u.urlopen("$(TORCH_INDEX)/torch/", timeout=5)' 2>/dev/null; \
	then more='--extra-index-url $(TORCH_INDEX)'; else more=''; echo '$(TORCH_INDEX) is not reached: torch from the usual index'; fi; \
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt $$more -e '.[dev]'
	touch $@
