# CacheFlow. `make help` says what there is.
#
# Every target sets the machine up first (scripts/setup: at once when nothing is missing).
SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
export PATH := $(CURDIR)/.tools/node/bin:$(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)

ENGINE   ?= system
# Servers that test-all has at once.
JOBS     ?= 3
TOPOLOGY ?= single
ENGINES  := redis-7.0 redis-7.2 redis-7.4 redis-8 redis-8.6 valkey-8 valkey-9
NEWEST   := redis-8.6 valkey-9
TOPOLOGIES := single aof replica cluster
# Of `cacheflow bench`; ARGS alone are for `hot`, which then runs alone.
BENCH    ?= $(if $(ARGS),hot,hot invalidate native reload stampede refresh cluster ttl)
PYTEST   := .venv/bin/python -m pytest -q
TARGET   := $(or $(CARGO_TARGET_DIR),target)
PYTHON   := tests scripts/dashboards

# $(call phase,NAME,COMMAND): run it, and say what it was and how long it took.
phase = start=$$(date +%s); printf '\n== %s\n' "$(1)"; $(2); printf '== %s: %d s\n' "$(1)" $$(( $$(date +%s) - start ))

.PHONY: help setup build run test test-rust test-all python node e2e check bench docs clean

help: ## this list
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' Makefile

setup: ## install what building and testing need (Debian, Ubuntu)
	@$(call phase,setup,scripts/setup)

build: setup ## the module and the program, in target/release
	@$(call phase,build,cargo build --release -p cacheflow && cargo build --profile program -p cacheflow-cli && \
	  ln -f $(TARGET)/program/cacheflow $(TARGET)/release/cacheflow)

run: build ## a server with CacheFlow, shown at work for 20 s (DEMO=0: only serve); Ctrl-C stops it
	@DEMO="$(DEMO)" exec scripts/run

test-rust: setup
	@$(call phase,cargo test,cargo test --profile program --workspace --quiet)

test: build test-rust ## all that must pass: Rust, the default engine in each topology, the newest servers, the clients
	@$(call phase,$(ENGINE) single aof replica; clients,$(MAKE) -s -j3 -Otarget on-single on-aof on-replica python node)
	@$(foreach e,$(NEWEST),$(call phase,$(e) smoke,$(PYTEST) --engine $(e) tests/test_smoke.py); )

# What is quick, on one topology; two at a time, for most of their time is waiting.
on-%:
	@$(PYTEST) -m "not long" --engine $(ENGINE) --topology $*

python: ## the Python client's tests, and what the clients' tests stand on
	@$(call phase,conformance,clients/python/.venv/bin/python -m pytest -q clients/conformance/tests)
	@$(call phase,Python client,cd clients/python && .venv/bin/python -m pytest -q)

node: ## the Node client's tests
	@$(call phase,Node client,cd clients/node && npm run --silent test && npm run --silent test:conformance && npm run --silent test:pack)

test-all: build test-rust ## the whole suite on every server and topology, under sentinels on the system's
	@scripts/engines get $(ENGINES)
	@$(MAKE) -s -k -j$(JOBS) -Otarget python node $(foreach e,$(ENGINES),$(TOPOLOGIES:%=all/$e/%)) all/system/sentinel

all/%:
	@$(call phase,$*,$(PYTEST) --engine $(firstword $(subst /, ,$*)) --topology $(lastword $(subst /, ,$*)))

e2e: build ## the suite on one server: make e2e ENGINE=valkey-9 TOPOLOGY=replica ARGS="-k watch"
	@$(call phase,$(ENGINE) $(TOPOLOGY),$(PYTEST) --engine $(ENGINE) --topology $(TOPOLOGY) $(ARGS))

check: setup ## format and lints, of Rust and Python
	@$(call phase,cargo fmt,cargo fmt --all --check)
	@$(call phase,clippy,cargo clippy --workspace --all-targets --quiet -- -D warnings)
	@$(call phase,Python client,cd clients/python && .venv/bin/mypy && .venv/bin/ruff check . && .venv/bin/ruff format --check .)
	@$(call phase,Node client,cd clients/node && npm run --silent check)
	@$(call phase,ruff,.venv/bin/ruff check $(PYTHON) && .venv/bin/ruff format --check $(PYTHON))

bench: build ## the figures: CacheFlow against native commands, alternating in one run
	@$(foreach b,$(BENCH),$(call phase,bench $(b),target/release/cacheflow bench $(b) $(ARGS)); )

docs: build ## what is made of what module and program say of themselves: docs/commands.md, docs/metrics.md, dashboards
	@$(call phase,docs,scripts/gen-docs && scripts/gen-dashboards)

clean: ## what was built and what tests left behind; .venv, .engines and .tools stay
	@cargo clean --quiet; rm -rf .pytest_cache .ruff_cache tests/.ruff_cache .run; find tests -name __pycache__ -prune -exec rm -rf {} +
