# Every target sets up what it needs. `make` alone lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: .python help venv requirements test lint generate check-generated demo demo-kind image up down bench docs clean

# The newest Python that is supported by the pins, or what the caller names: make PYTHON=/path/to/python3 test
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3; do \
	  "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && command -v "$$python" && break; \
	done)
VENV := .venv/bin/python

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)$$/  \1\t\2/' | expand -t 20

.python:
	@if [ -z "$(PYTHON)" ]; then \
	  echo "Python 3.11 or newer is needed and none was found as python3.13, python3.12, python3.11 or python3." >&2; \
	  echo "Remedy: install one (Debian 12, Ubuntu 24.04: apt-get install python3 python3-venv), or: make PYTHON=/path/to/python3 ..." >&2; \
	  exit 1; \
	fi

venv: .python  ## the Python environment .venv, from hashed requirements; does nothing when it is current
	@"$(PYTHON)" -m hack.venv

test: .python  ## every check and test, as in CI; ARGS="tests/unit -k revision" runs only these tests
	@"$(PYTHON)" -m hack.check $(if $(ARGS),--pytest="$$ARGS")

lint: .python  ## only the checks that read the source: ruff, mypy, import rules, generated files
	@"$(PYTHON)" -m hack.check --lint

generate: venv  ## CRDs and reference, written anew from the models
	@.venv/bin/aigateway crds

check-generated: venv  ## fail if a generated file differs from what the models say
	@.venv/bin/aigateway crds --check

requirements: venv  ## pinned, hashed requirements from pyproject.toml; ARGS=--upgrade takes the newest versions
	@$(VENV) -m hack.requirements $(ARGS)

demo: venv  ## see it work on a real API server; KEEP=1 leaves it running and says how to reach it
	@$(VENV) -m hack.demo $(if $(KEEP),--keep)

image: .python  ## both container images, built and looked into; ARGS="--local-base", "--engine none", …
	@"$(PYTHON)" -m hack image $(ARGS)

demo-kind: .python  ## the same in real pods, on a cluster of kind (needs Docker); ARGS="--kubernetes=1.35 --keep"
	@"$(PYTHON)" -m hack.kind $(ARGS)

up: venv  ## a control plane, Redis and MongoDB for a developer, in the background
	@$(VENV) -m hack up

down: venv  ## stop what `make up` started and leave nothing behind
	@$(VENV) -m hack down

docs: .python  ## the documentation as a site, in build/site; a broken link or anchor fails
	@"$(PYTHON)" -m hack.site $(ARGS)

bench: venv  ## every promise measured, about 15 minutes; ARGS=--quick, ARGS=--full, ARGS="edits bursts"
	@$(VENV) -m benchmarks $(ARGS)

clean:  ## remove what targets leave in this folder; servers in your cache folder stay
	@rm -rf .venv .check .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage .coverage.* build dist
	@find operator hack tests -name __pycache__ -type d -prune -exec rm -rf {} +
