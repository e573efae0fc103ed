# Everything a person or CI runs; `make help` lists it. Needs Python 3.11 or later, and `lint` npm.
PYTHON ?=
BIN := .venv/bin
SOURCES := $(wildcard pool_service clients/python/pool_service_client clients/python/conformance \
	clients/python/examples demo bench soak tests tools)

.DEFAULT_GOAL := help
.PHONY: help setup demo serve test test-fast test-process test-conformance test-whole faults lint \
	types check proto docs conformance bench soak lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Make .venv with the pinned packages, the runtime and both packages of this repository
	@python=$$(PYTHON='$(PYTHON)' sh tools/find_python.sh) && "$$python" tools/setup.py

demo: setup ## Start the service, make a small real model ready, ask it, evict it, stop
	@$(BIN)/python -m demo.run

serve: setup ## Run the service in the foreground (ARGS='--config FILE' and the like)
	@exec $(BIN)/pool-service serve $(ARGS)

test: test-fast test-process test-conformance test-whole ## Run all tests, the fast ones first

test-fast: setup ## Core, driver and gRPC: no processes, no waiting
	$(BIN)/python -m pytest -m "not process and not whole and not conformance" $(ARGS)

test-process: setup ## Real processes, with a small fake server
	$(BIN)/python -m pytest -m process $(ARGS)

test-conformance: setup ## Every client against the service (Go, Rust, TypeScript where installed)
	$(BIN)/python -m pytest tests/conformance -m conformance $(ARGS)

conformance: setup ## The same, and its matrix into docs/clients.md
	$(BIN)/python -m pytest tests/conformance --conformance-matrix docs/clients.md $(ARGS)

test-whole: setup ## The service with the real runtime and a real model
	$(BIN)/python -m pytest -m whole $(ARGS)

faults: setup ## Every fault that is to be survived, and how long each recovery took
	$(BIN)/python -m pytest tests/faults $(ARGS)

lint: setup ## Style, layers, proto, stubs and Dockerfile (needs npm for buf)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/python tools/generate_stubs.py --check
	sh tools/lint_proto.sh
	sh tools/lint_docker.sh

types: setup ## mypy, strict
	$(BIN)/mypy $(SOURCES)

check: lint types ## What CI runs before the tests

proto: setup ## Generate the stubs of the service and of the client from proto/
	$(BIN)/python tools/generate_stubs.py

docs: setup ## Write the configuration's keys into docs/ and the README, from their descriptions
	$(BIN)/python tools/document_configuration.py

bench: setup ## Measure warm and cold Ensure against their floors
	@$(BIN)/python -m bench $(ARGS)

soak: setup ## Random use and harm for MINUTES (10), every promise checked (ARGS='--seed N')
	@$(BIN)/python -m soak --minutes $(or $(MINUTES),10) $(ARGS)

lock: setup ## Resolve the pinned lists anew (ARGS=--upgrade for newer versions)
	sh tools/lock.sh $(ARGS)

clean: ## Remove what was built and prepared here: .venv, caches, models
	rm -rf .venv .cache build dist clients/python/dist proto/node_modules
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
