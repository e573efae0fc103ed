# Everything a person or CI runs; `make help` lists it. Needs Python 3.11 or later, and `lint` npm.
PYTHON ?=
BIN := .venv/bin
SOURCES := $(wildcard pool_service clients/python/pool_service_client clients/python/conformance \
	clients/python/examples tests tools hatch_build.py)

.DEFAULT_GOAL := help
.PHONY: help setup demo serve test test-all test-fast test-process test-clients test-conformance \
	test-operations test-toolchains test-installs test-as-on-a-mac test-whole go-tools faults fuzz lint types check check-clients proto promise docs \
	conformance coverage site pictures bench soak lock dist clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Make .venv with the pinned packages, the runtime and both packages of this repository
	@python=$$(PYTHON='$(PYTHON)' sh tools/find_python.sh) && exec "$$python" tools/setup.py

demo: setup ## See it work: a small real model, a standby, a hold, a kill -9, in a minute
	@$(BIN)/python -m tools.demo.run

serve: setup ## Run the service in the foreground (ARGS='--config FILE' and the like)
	@exec $(BIN)/pool-service serve $(ARGS)

test: setup ## The tests that a person runs: each promise, in minutes (ARGS='-k idle': for pytest)
	@$(BIN)/python -m tests.run short -- $(ARGS)

test-all: setup ## All tests: every point, every language, thousands of rounds (PARTS=long: the rest)
	@$(BIN)/python -m tests.run $(or $(PARTS),short long) -- $(ARGS)

test-fast: setup ## Core, driver, gRPC and command line: no processes, no waiting
	@$(BIN)/python -m tests.run core -- $(ARGS)

test-process: setup ## Real processes with a small fake runtime, faults, and the clients
	@$(BIN)/python -m tests.run edges edges-long -- $(ARGS)

test-clients: setup ## Unit tests of the clients in Go, Rust and TypeScript whose toolchain is here
	@$(BIN)/python -m tests.run client-go client-rust client-typescript

test-whole: setup ## The service with the real runtime and a real model
	@$(BIN)/python -m tests.run runtime runtime-long -- $(ARGS)

test-toolchains: setup ## Smallest programs in Java and C++, built and run (needs Maven; cmake, gRPC for C++)
	@$(BIN)/python -m tests.run toolchains -- $(ARGS)

test-as-on-a-mac: setup ## Services in their branches for macOS, with fork, gRPC's poll engine, and long paths
	@$(BIN)/python -m tests.run as-on-a-mac -- $(ARGS)

test-conformance: setup ## Every client against the service (Go, Rust, TypeScript where installed)
	$(BIN)/python -m pytest tests/conformance -m conformance $(ARGS)

conformance: setup ## The same, and its matrix into docs/reference/clients.md
	$(BIN)/python -m pytest tests/conformance --conformance-matrix docs/reference/clients.md $(ARGS)

test-installs: setup ## Install what `make dist` builds, and this clone, by pip, pipx and uv (needs the network)
	@$(BIN)/python -m tests.run installs -- $(ARGS)

test-operations: setup ## docs/how-to/operations.md, command by command, against a live service (needs Go)
	$(BIN)/python -m pytest tests/operations $(ARGS)

go-tools: ## Build grpcurl, grpc-health-probe and ghz into .cache/tools/bin (needs Go)
	sh tools/go_tools.sh

coverage: setup ## Measure what the fast and the process tests run of the Python code, and hold it to the floor
	@rm -rf .cache/coverage && mkdir -p .cache/coverage
	$(BIN)/python -m coverage run -m pytest -n auto \
		-m "not (whole or conformance or toolchains or installs or long)" $(ARGS)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage html --quiet --directory .cache/coverage/html --fail-under 0
	$(BIN)/python -m coverage report

fuzz: setup ## Fuzz each reader of foreign bytes for SECONDS (60); what breaks one is left as crash-*
	@for target in $$($(BIN)/python -c 'from tests.fuzz.targets import TARGETS; print(*TARGETS)'); do \
		mkdir -p .cache/fuzz/$$target; \
		$(BIN)/python -m tests.fuzz $$target $(or $(SECONDS),60) .cache/fuzz/$$target || exit 1; done

faults: setup ## Every fault that is to be survived, and how long each recovery took
	$(BIN)/python -m pytest tests/faults $(ARGS)

lint: setup ## Style, layers, proto, stubs, Dockerfile, workflows (needs npm, and Go for the last)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/python tools/generate_stubs.py --check
	sh tools/lint_proto.sh
	sh tools/lint_docker.sh
	sh tools/lint_workflows.sh

types: setup ## mypy, strict, for Linux and for macOS
	$(BIN)/mypy $(SOURCES)
	$(BIN)/mypy --platform darwin --no-warn-unreachable $(SOURCES)

check-clients: ## Style and stubs of the clients in Go, Rust and TypeScript whose toolchain is there
	@sh tools/for_clients.sh lint check-generated

check: lint types check-clients ## What CI runs before the tests

proto: setup ## Generate the stubs of the service and of all clients from proto/
	$(BIN)/python tools/generate_stubs.py
	@sh tools/for_clients.sh generate

promise: ## Promise to clients what proto/ says now (docs/reference/compatibility.md says when)
	sh tools/lint_proto.sh --promise

docs: setup ## Write the configuration's keys into docs/, and the manual pages, from what the code says
	$(BIN)/python tools/document_configuration.py
	$(BIN)/python tools/manual_pages.py packaging/man
	$(BIN)/python -m tools.draw_states

site: ## Build the documentation's site into build/site; warnings and broken links are errors
	@sh tools/site.sh

pictures: setup ## Record the README's picture of a terminal, from a real run (needs tmux)
	$(BIN)/python -m tools.pictures

bench: setup ## Every published figure, against a baseline of the same run (ARGS="cold crash": parts)
	@$(BIN)/python -m tools.bench $(ARGS)

soak: setup ## Random use and harm for MINUTES (10), every promise checked (ARGS='--seed N')
	@$(BIN)/python -m tools.soak --minutes $(or $(MINUTES),10) $(ARGS)

lock: setup ## Resolve the pinned lists anew (ARGS=--upgrade for newer versions)
	sh tools/lock.sh $(ARGS)

dist: setup ## Build the sdists and wheels of the service and of its Python client into dist/python
	rm -rf dist/python
	sh tools/dist.sh dist/python

clean: ## Remove what was built and prepared here: .venv, caches, models
	@sh tools/for_clients.sh clean
	rm -rf .venv .cache build dist clients/python/dist proto/node_modules
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
