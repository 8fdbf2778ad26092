# Everything runs in .venv, which `setup` builds and the others enter.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup test test-lerobot test-s3 check fix demo lock clean

IN_ENV := source scripts/env.sh &&
ARGS ?=
# Pytest processes that share the tests; WORKERS= for one alone. Beyond four they would mostly wait for the longest file.
WORKERS ?= -n 2

help: ## What there is
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup: ## Build the environment and all packages; nothing to do when nothing changed
	@scripts/setup.sh

test: setup ## All tests, two at a time (WORKERS= one at a time); with ARGS only these, e.g. ARGS="src/aloe_core -k arbiter"
ifeq ($(ARGS),)
	@$(IN_ENV) python -m pytest $(WORKERS) -m "not alone"
	@$(IN_ENV) python -m pytest -m alone $$(grep -rl --include='test_*.py' mark.alone src test)
else
	@$(IN_ENV) python -m pytest $(ARGS)
endif

test-lerobot: setup ## Tests of LeRobot's policies behind a server; installs LeRobot first (5.3 GB)
	@scripts/lerobot.sh
	@$(IN_ENV) python -m pytest test/lerobot -o faulthandler_timeout=1800 $(ARGS)

test-s3: setup ## Checkpoints over S3, against a moto server on this machine
	@$(IN_ENV) python -m pip install --quiet --upgrade --target .venv/.aloe/s3 -r requirements/s3.txt && \
	  PYTHONPATH=$(CURDIR)/.venv/.aloe/s3:$$PYTHONPATH python -m pytest test/test_s3.py $(ARGS)

check: setup ## ruff (lint and format) and mypy --strict on aloe_core
	@$(IN_ENV) ruff check . && ruff format --check . && mypy

fix: setup ## Let ruff repair what it can
	@$(IN_ENV) ruff check --fix . ; $(IN_ENV) ruff format .

demo: ## The whole loop on the simulator (ALOE_DEMO=smoke: every step in under 2 minutes)
	@./aloe demo $(ARGS)

lock: ## Resolve requirements/*.in again (needs python3.10, 3.11 and 3.12)
	@python3 scripts/lock.py $(ARGS)

clean: ## Remove what the build made; .venv stays
	rm -rf build install .venv/.aloe/build
