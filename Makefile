# Everything that you or CI run; `make help` lists it. Needs Python 3.11 to 3.14, and `lint` npm.
PYTHON ?=
BIN := .venv/bin
SOURCES := $(wildcard pool_service clients/python/pool_service_client clients/python/conformance \
	clients/python/examples tests tools hatch_build.py)

.DEFAULT_GOAL := help
.PHONY: help setup demo serve test test-all test-fast test-process test-clients test-conformance \
	test-operations test-toolchains test-installs test-as-on-a-mac test-whole go-tools faults fuzz lint types check check-clients proto promise docs \
	conformance coverage site pictures bench soak lock audit sbom dist clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Make .venv with the pinned packages, the runtime and both packages of this repository
	@python=$$(PYTHON='$(PYTHON)' sh tools/find_python.sh) && exec "$$python" tools/setup.py

demo: setup ## Show the service at work: a small real model, a standby, a hold, a kill -9, in a minute
	@$(BIN)/python -m tools.demo.run

serve: setup ## Run the service in the foreground (with ARGS='--config FILE' and the like)
	@exec $(BIN)/pool-service serve $(ARGS)

test: setup ## Test each promise, in minutes (ARGS='-k idle': for pytest)
	@$(BIN)/python -m tests.run short -- $(ARGS)

test-all: setup ## Run all tests: every point, every language, thousands of rounds (PARTS=long: without `test`)
	@$(BIN)/python -m tests.run $(or $(PARTS),short long) -- $(ARGS)

test-fast: setup ## Test core, driver, gRPC and command line, without processes and waiting
	@$(BIN)/python -m tests.run core -- $(ARGS)

test-process: setup ## Test real processes with a small fake runtime, faults, and the clients
	@$(BIN)/python -m tests.run edges edges-long -- $(ARGS)

test-clients: setup ## Run the unit tests of the Go, Rust and TypeScript clients (whose toolchain is here)
	@$(BIN)/python -m tests.run client-go client-rust client-typescript

test-whole: setup ## Test the service with the real runtime and a real model
	@$(BIN)/python -m tests.run runtime runtime-long -- $(ARGS)

test-toolchains: setup ## Test the examples in Java and C++, audits and bills (needs each toolchain)
	@$(BIN)/python -m tests.run toolchains -- $(ARGS)

test-as-on-a-mac: setup ## Test the branches for macOS, with fork, gRPC's poll engine, and long paths
	@$(BIN)/python -m tests.run as-on-a-mac -- $(ARGS)

test-conformance: setup ## Test every client against the service (Go, Rust, TypeScript if installed)
	$(BIN)/python -m pytest tests/conformance -m conformance $(ARGS)

conformance: setup ## Do the same, and write the matrix into docs/reference/clients.md
	$(BIN)/python -m pytest tests/conformance --conformance-matrix docs/reference/clients.md $(ARGS)

test-installs: setup ## Install what `make dist` builds, and this clone, by pip, pipx and uv (needs the network)
	@$(BIN)/python -m tests.run installs -- $(ARGS)

test-operations: setup ## Test each command in docs/how-to/operations.md on a live service (needs Go)
	$(BIN)/python -m pytest tests/operations $(ARGS)

go-tools: ## Build grpcurl, grpc-health-probe and ghz into .cache/tools/bin (needs Go)
	sh tools/go_tools.sh

coverage: setup ## Measure the coverage of the fast and the process tests; fail below the floor
	@rm -rf .cache/coverage && mkdir -p .cache/coverage
	$(BIN)/python -m coverage run -m pytest -n auto \
		-m "not (whole or conformance or toolchains or installs or long)" $(ARGS)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage html --quiet --directory .cache/coverage/html --fail-under 0
	$(BIN)/python -m coverage report

fuzz: setup ## Fuzz each reader of foreign bytes for SECONDS (60); keep what breaks one as crash-*
	@for target in $$($(BIN)/python -c 'from tests.fuzz.targets import TARGETS; print(*TARGETS)'); do \
		mkdir -p .cache/fuzz/$$target; \
		$(BIN)/python -m tests.fuzz $$target $(or $(SECONDS),60) .cache/fuzz/$$target || exit 1; done

faults: setup ## Test every fault that the service survives, and measure each recovery
	$(BIN)/python -m pytest tests/faults $(ARGS)

lint: setup ## Check style, layers, proto, stubs, Dockerfile, workflows (needs npm, and Go for the last)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/python tools/generate_stubs.py --check
	sh tools/lint_proto.sh
	sh tools/lint_docker.sh
	sh tools/lint_workflows.sh

types: setup ## Check types with mypy, strict, for Linux and for macOS
	$(BIN)/mypy $(SOURCES)
	$(BIN)/mypy --platform darwin --no-warn-unreachable $(SOURCES)

check-clients: ## Check style and stubs of the Go, Rust and TypeScript clients (whose toolchain is here)
	@sh tools/for_clients.sh lint check-generated

check: lint types check-clients ## Check everything that CI checks before the tests

proto: setup ## Generate the stubs of the service and of all clients from proto/
	$(BIN)/python tools/generate_stubs.py
	@sh tools/for_clients.sh generate

promise: ## Promise the present proto/ to clients (docs/reference/compatibility.md says when)
	sh tools/lint_proto.sh --promise

docs: setup ## Generate the keys and metrics in docs/, the manual pages and the pictures of states
	$(BIN)/python tools/document_configuration.py
	$(BIN)/python tools/document_metrics.py
	$(BIN)/python tools/manual_pages.py packaging/man
	$(BIN)/python -m tools.draw_states

site: ## Build the documentation's site into build/site; warnings and broken links are errors
	@sh tools/site.sh

pictures: setup ## Record terminal and page in real runs (needs tmux, Chromium; ARGS=top: one of a terminal)
	$(BIN)/python -m tools.pictures $(ARGS)
	$(BIN)/python -m tools.page_pictures

bench: setup ## Measure every published figure against a baseline of the same run (ARGS="cold crash": parts)
	@$(BIN)/python -m tools.bench $(ARGS)

soak: setup ## Use and harm the service at random for MINUTES (10); check every promise (ARGS='--seed N')
	@$(BIN)/python -m tools.soak --minutes $(or $(MINUTES),10) $(ARGS)

lock: setup ## Resolve the pinned lists again (ARGS=--upgrade for newer versions)
	sh tools/lock.sh $(ARGS)

audit: setup ## Look for known vulnerabilities in what is pinned (ARGS="python rust go npm": languages)
	@$(BIN)/python -m tools.audit $(ARGS)

sbom: setup ## Write bills of materials of what is shipped into dist/sbom (needs Go, cargo, npm 10.3)
	@rm -rf dist/sbom
	@$(BIN)/python -m tools.sbom dist/sbom

dist: setup ## Build the sdists and wheels of the service and of its Python client into dist/python
	rm -rf dist/python
	sh tools/dist.sh dist/python

clean: ## Remove everything that was built or downloaded here: .venv, caches, models
	@sh tools/for_clients.sh clean
	rm -rf .venv .cache build dist clients/python/dist proto/node_modules
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
