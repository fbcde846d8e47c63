# Every target does its own set-up; repeated calls skip what is done. `make help` lists them.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.SUFFIXES:

VENV ?= .venv
BIN := $(VENV)/bin
WORKSTATION ?= .venv-workstation
ARGS ?=

# onnxruntime's telemetry client must never start, whichever version somebody installs.
export ORT_DISABLE_TELEMETRY := 1

.PHONY: help run test test-pythons test-long workstation test-workstation brokers check format docs bench lock picture clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "Arguments go through ARGS, for example: make run ARGS='--recording pump.csv'"
	@echo "The commands are in $(BIN): $(BIN)/edge-agent --help, edge-fleet and edge-quantize likewise"

run: $(VENV)/.project  ## See the main job: a pump, a signed model, a warning, MQTT (about a minute)
	@$(BIN)/edge-agent demo $(ARGS)

test: $(VENV)/.project programs  ## Run the tests
	$(BIN)/pytest --numprocesses auto $(ARGS)

test-pythons:  ## Run the tests on every other Python from 3.11 to 3.13 that is installed
	@own=$$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null); \
	scripts/python --all | while read -r version python; do \
	    test "$$version" = "$$own" || $(MAKE) test VENV=.venv-$$version PYTHON="$$python" </dev/null || exit 1; \
	done

test-long: $(VENV)/.project programs  ## Run the tests that take minutes: kill loops, soaks
	$(BIN)/pytest -m long $(ARGS)

workstation: $(WORKSTATION)/.project  ## Make the environment of edge-quantize: torch, optimum (some GB)

test-workstation: $(WORKSTATION)/.project  ## Run the tests that need torch, optimum or transformers
	$(WORKSTATION)/bin/pytest -m "workstation and not long" tests/models tests/tools/quantize $(ARGS)

brokers:  ## Install the other brokers that tests talk to, NATS and RabbitMQ; they skip without
	@scripts/system-packages nats-server rabbitmq-server

check: $(VENV)/.project  ## Lint, format, types and import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.project  ## Format, and mend what the linter can mend
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(VENV)/.project  ## Write docs/configuration.md and docs/metrics.md from the code
	$(BIN)/python scripts/document_settings.py
	$(BIN)/python scripts/document_metrics.py

bench: $(VENV)/.project programs  ## Measure every performance figure, each beside its limit
	$(BIN)/python -m bench $(ARGS)

lock: $(VENV)-lock/bin/uv  ## Resolve the dependencies again into requirements/dev.lock
	$< pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	    --no-annotate --extra all --group dev --constraints requirements/constraints.txt \
	    --output-file requirements/dev.lock pyproject.toml $(ARGS)

picture: $(VENV)/.project  ## Draw docs/demo.svg, the README's picture, from a real run of the demo
	$(BIN)/edge-agent demo --picture docs/demo.svg $(ARGS)

clean:  ## Remove what the other targets made
	rm -rf $(VENV) $(VENV)-lock $(VENV)-3.1[123] $(WORKSTATION) dist build .mypy_cache .ruff_cache .pytest_cache \
	    .import_linter_cache .hypothesis
	find agent models tools tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment, in three steps, each repeated only when its input changes.

$(BIN)/python:
	@python=$$(scripts/python) && echo "Making $(VENV) with $$python" && "$$python" -m venv --clear $(VENV)

$(VENV)/.dependencies: requirements/dev.lock | $(BIN)/python
	@echo "Installing the locked dependencies into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	@touch $@

$(VENV)/.project: pyproject.toml $(VENV)/.dependencies
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# torch has other builds for other processors, so that it is constrained by version and not by hash.
$(WORKSTATION)/.project: pyproject.toml requirements/workstation.txt
	@test -x $(WORKSTATION)/bin/python || { python=$$(scripts/python) && \
	    echo "Making $(WORKSTATION) with $$python" && "$$python" -m venv $(WORKSTATION); }
	@echo "Installing the workstation's libraries into $(WORKSTATION)"
	@$(WORKSTATION)/bin/python -m pip install --quiet --disable-pip-version-check \
	    --constraint requirements/workstation.txt --editable '.[workstation]' \
	    hypothesis pytest pytest-asyncio pytest-timeout pytest-xdist
	@touch $@

$(VENV)-lock/bin/uv:
	@python=$$(scripts/python) && "$$python" -m venv $(VENV)-lock
	@$(VENV)-lock/bin/pip install --quiet --disable-pip-version-check uv==0.13.9

.PHONY: programs
programs:
	@scripts/system-packages mosquitto mosquitto_pub:mosquitto-clients softhsm2-util:softhsm2
