PYTHON ?= python3
BIN := .venv/bin
MYPY := skills/fastapi-project-setup/assets/pyproject.toml
TOPICS := $(notdir $(wildcard exercises/*))

.PHONY: help learn prove test lint site bench weaken repeat

help:
	@echo "make learn   set up, copy the exercises to work/, grade them, say what is next"
	@echo "make prove   set up, prove every rule on SQLite, and on real servers"
	@echo "make test    test the machinery"
	@echo "make lint    ruff, mypy and the site, all strict"
	@echo "make site    read the site in a browser, built by MkDocs and by Zensical"
	@echo "make bench   how long grading and the proof take, as ratios to a floor"
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
	@mkdir -p work
	@for topic in $(TOPICS); do [ -e work/$$topic ] || cp -R exercises/$$topic work/; done
	@$(BIN)/pytest checks/ -q --tb=no || [ $$? -eq 1 ]
	@echo "Open that file, mend what the TODO asks about, and run its check again."

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

.venv/site: .venv/ready
	@if command -v uv >/dev/null; then \
	    uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[site]'; \
	else \
	    $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[site]'; \
	fi
	@touch $@

site: .venv/ready
	@command -v chromium >/dev/null || { echo "make site reads the site in a browser and finds no chromium: apt-get install chromium"; exit 1; }
	@$(MAKE) --no-print-directory .venv/site
	@$(BIN)/pytest tests/site -q

bench: .venv/ready
	@$(BIN)/python tests/bench.py

weaken: .venv/ready
	@$(BIN)/python tests/weaken.py $(TOPIC)

repeat: .venv/ready
	@$(BIN)/python tests/repeat.py
