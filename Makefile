# Every target is one sentence in `make help`; CI calls the same ones as people do.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
PROTOS := $(shell find proto -name '*.proto' 2>/dev/null | sort)
LOCKS := gateway session cache llm devstack dev

.PHONY: help run test test-chaos lint format proto proto-check proto-baseline lock bench web web-check clean venv

help: ## Shows every target with what it does.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: ## Makes .venv with the pinned packages; every other target calls it.
	@$(PYTHON) devstack/bootstrap.py

run: ## Starts the whole system on this machine and prints its URL; Ctrl-C stops it.
	@$(PYTHON) devstack/bootstrap.py run $(ARGS)

test: venv ## Runs the unit, contract, integration and end-to-end tests.
	@$(BIN)/python -m tests $(ARGS)

test-chaos: venv ## Runs the long tests that break things, whole.
	@$(BIN)/python -m tests --chaos $(ARGS)

lint: venv ## Checks style, types and which package may import which.
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: venv ## Formats the Python code and sorts its imports.
	@$(BIN)/ruff check --fix-only -q .
	@$(BIN)/ruff format -q .

define generate
	mkdir -p $(1) && $(BIN)/python -m grpc_tools.protoc -Iproto --plugin=$(BIN)/protoc-gen-mypy --plugin=$(BIN)/protoc-gen-mypy_grpc \
	  --python_out=$(1) --grpc_python_out=$(1) --mypy_out=$(1) --mypy_grpc_out=$(1) $(PROTOS)
endef

proto: venv ## Generates the stubs under gen/ from proto/.
	@rm -rf gen/focus
	@$(call generate,gen)
	@touch gen/focus/py.typed

proto-check: venv ## Lints proto/, checks it against the released baseline and compares gen/ with it.
	@$(BIN)/buf lint proto
	@$(BIN)/buf format --diff --exit-code proto > /dev/null || { echo "proto/ is not formatted: run '.venv/bin/buf format -w proto'"; exit 1; }
	@$(BIN)/buf breaking proto --against proto/baseline.binpb
	@rm -rf build/proto-check && $(call generate,build/proto-check)
	@diff -r -x __pycache__ -x py.typed build/proto-check gen || { echo "gen/ differs from proto/: run 'make proto' and commit"; exit 1; }

proto-baseline: venv ## Declares the present protocol released: later changes must not break it.
	@$(BIN)/buf build proto -o proto/baseline.binpb

lock: venv ## Resolves the hash-pinned lock file of every extra anew.
	@$(BIN)/uv pip compile -q --system-certs --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --custom-compile-command "make lock" requirements/bootstrap.in -o requirements/bootstrap.txt
	@for extra in $(LOCKS); do \
	  echo "requirements/$$extra.txt"; \
	  $(BIN)/uv pip compile -q --system-certs --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --custom-compile-command "make lock" --override requirements/overrides.txt --extra $$extra pyproject.toml -o requirements/$$extra.txt; \
	done

bench: venv ## Measures requests per second, latency and CPU per request, side by side with bare parts.
	@$(BIN)/python -m bench $(ARGS)

web: ## Builds the pages in web/ into the gateway's assets (needs Node.js).
	@cd web && npm ci --no-audit --no-fund && npm run build

web-check: ## Tests web/ and compares the gateway's assets with what it builds.
	@cd web && npm ci --no-audit --no-fund --silent && npm test --silent && npm run --silent build
	@git diff --exit-code --stat -- services/gateway/assets || { echo "services/gateway/assets differs from web/: run 'make web' and commit"; exit 1; }
	@test -z "$$(git status --porcelain -- services/gateway/assets)" || { echo "services/gateway/assets has files that are not committed"; exit 1; }

clean: ## Removes the virtual environment, caches and the data of `make run`.
	@if [ -L .focus/postgres ]; then rm -rf "$$(readlink -f .focus/postgres)"; fi # elsewhere if root's folder is closed
	@rm -rf .venv .focus build .mypy_cache .ruff_cache .pytest_cache .hypothesis web/node_modules
	@find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
