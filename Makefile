PYTHON ?= python3
BIN := .venv/bin
MYPY := skills/fastapi-project-setup/assets/pyproject.toml
TOPICS := $(notdir $(wildcard exercises/*))
UV := $(shell command -v uv)
venv = $(if $(UV),uv venv --quiet --clear --python $(PYTHON),$(PYTHON) -m venv --clear) $(1)
install = $(if $(UV),uv pip install --quiet --python $(1)/bin/python,$(1)/bin/pip install --quiet --disable-pip-version-check)

.PHONY: help learn prove prove-agents test kill lint site bench weaken repeat walk

help:
	@echo "make learn   set up, make the workspace, grade it, say what is next"
	@echo "make prove   set up, prove every rule on SQLite, and on real servers"
	@echo "make prove-agents  install the skills in real clients, list them there, scan them"
	@echo "make test    test the machinery"
	@echo "make kill    kill proven watch and proven check 100 times while files are saved"
	@echo "make lint    ruff, mypy and the site, all strict"
	@echo "make site    read the site in a browser, built by MkDocs and by Zensical"
	@echo "make bench   how long grading and the proof take, as ratios to a floor"
	@echo "make walk    solve the whole course through proven watch, hunk by hunk"
	@echo "make repeat  check each solution 50 times in random order"
	@echo "make weaken  drop each assert of the checks in turn: the proof must notice"

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed; this is " + sys.version.split()[0] + ". Name another one: make PYTHON=python3.12")'
	@$(call venv,.venv)
	@$(call install,.venv) -c constraints.txt -e .
	@touch $@

.venv/dev: .venv/ready
	@$(call install,.venv) -c constraints.txt -e '.[dev]'
	@touch $@

.venv-agents/ready: tests/agents/requirements.txt tests/agents/package.json
	@$(call venv,.venv-agents)
	@$(call install,.venv-agents) -r tests/agents/requirements.txt
	@cp tests/agents/package.json .venv-agents/
	@cd .venv-agents && export PATH="$$PWD/bin:$$PATH" && \
	    npm install --silent --ignore-scripts --no-package-lock --no-audit --no-fund && \
	    npm rebuild --silent opencode-ai @anthropic-ai/claude-code  # links what it has just unpacked
	@touch $@

learn: .venv/ready
	@$(BIN)/proven start
	@$(BIN)/proven check || [ $$? -eq 1 ]

prove: .venv/dev
	@$(BIN)/pytest checks/ --prove
	@$(BIN)/pytest checks/ --prove --database=postgresql --redis=valkey

# Real clients from npm and a scanner: 2.3 GB the first time, so not a part of prove.
prove-agents: .venv/dev .venv-agents/ready
	@$(BIN)/pytest tests/agents -q

test: .venv/dev
	@$(BIN)/pytest tests/ --ignore=tests/agents --ignore=tests/site -q

kill: .venv/dev
	@KILLS=100 $(BIN)/pytest tests/test_state.py -q -s -k kills

lint: .venv/dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy --config-file $(MYPY) src
	@for topic in $(TOPICS); do for kind in solutions exercises; do \
	    copy=.mypy_cache/$$kind/$$(echo $$topic | tr - _); rm -rf $$copy; mkdir -p .mypy_cache/$$kind; \
	    cp -R $$kind/$$topic $$copy && { [ -d $$copy/app ] || touch $$copy/__init__.py; } && \
	    (cd .mypy_cache/$$kind && ../../$(BIN)/mypy --config-file ../../$(MYPY) --cache-dir .cache $$(basename $$copy)) || exit 1; \
	done; done
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

.venv/site: .venv/dev
	@$(call install,.venv) -c constraints.txt -e '.[site]'
	@touch $@

site: .venv/dev
	@command -v chromium >/dev/null || { echo "make site reads the site in a browser and finds no chromium: apt-get install chromium"; exit 1; }
	@$(MAKE) --no-print-directory .venv/site
	@$(BIN)/pytest tests/site -q

bench: .venv/dev
	@$(BIN)/python tests/bench.py
	@$(BIN)/python tests/bench_loop.py

walk: .venv/dev
	@$(BIN)/python tests/walk.py $(TOPIC)

weaken: .venv/dev
	@$(BIN)/python tests/weaken.py $(TOPIC)

repeat: .venv/dev
	@$(BIN)/python tests/repeat.py
