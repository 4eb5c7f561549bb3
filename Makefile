PYTHON ?= python3
BIN := .venv/bin
MYPY := skills/fastapi-project-setup/assets/pyproject.toml
TOPICS := $(notdir $(wildcard exercises/*))

.PHONY: help learn prove test lint bench weaken repeat walk

help:
	@echo "make learn   set up, make the workspace, grade it, say what is next"
	@echo "make prove   set up, prove every rule on SQLite, and on real servers"
	@echo "make test    test the machinery"
	@echo "make lint    ruff, mypy and the site, all strict"
	@echo "make bench   how long grading and the proof take, as ratios to a floor"
	@echo "make walk    solve the whole course through proven watch, hunk by hunk"
	@echo "make repeat  check each solution 50 times in random order"
	@echo "make weaken  drop each assert of the checks in turn: the proof must notice"

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed; this is " + sys.version.split()[0] + ". Name another one: make PYTHON=python3.12")'
	@if command -v uv >/dev/null; then \
	    uv venv --quiet --clear --python $(PYTHON) .venv && \
	    uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[dev]'; \
	else \
	    $(PYTHON) -m venv --clear .venv && \
	    $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'; \
	fi
	@touch $@

learn: .venv/ready
	@$(BIN)/proven start
	@$(BIN)/proven check || [ $$? -eq 1 ]

prove: .venv/ready
	@$(BIN)/pytest checks/ --prove
	@$(BIN)/pytest checks/ --prove --database=postgresql --redis=valkey

test: .venv/ready
	@$(BIN)/pytest tests/ -q

lint: .venv/ready
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy --config-file $(MYPY) src
	@for topic in $(TOPICS); do for kind in solutions exercises; do \
	    copy=.mypy_cache/$$kind/$$(echo $$topic | tr - _); rm -rf $$copy; mkdir -p .mypy_cache/$$kind; \
	    cp -R $$kind/$$topic $$copy && { [ -d $$copy/app ] || touch $$copy/__init__.py; } && \
	    (cd .mypy_cache/$$kind && ../../$(BIN)/mypy --config-file ../../$(MYPY) --cache-dir .cache $$(basename $$copy)) || exit 1; \
	done; done
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: .venv/ready
	@$(BIN)/python tests/bench.py
	@$(BIN)/python tests/bench_loop.py

walk: .venv/ready
	@$(BIN)/python tests/walk.py $(TOPIC)

weaken: .venv/ready
	@$(BIN)/python tests/weaken.py $(TOPIC)

repeat: .venv/ready
	@$(BIN)/python tests/repeat.py
