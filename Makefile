# Mooring: `make demo` shows it, `make test` tests it. Both do their own set-up and are safe to run twice.

SHELL := /bin/bash
export PATH := $(HOME)/.cargo/bin:$(PATH)
NEXTEST := $(shell command -v cargo-nextest 2>/dev/null)
TESTS := $(if $(NEXTEST),cargo nextest run,cargo test) --workspace --locked --no-fail-fast
# All at once: one after the other they would take the same crates with different features, and build those anew.
MEASURED := cargo build --release --locked -p float -p bench -p mooring-testkit --bins
# `TOUR=1` has the demo move its job by itself; empty and 0 are no.
TOURING := $(filter-out 0,$(TOUR))
MOVES ?= 20
MINUTES ?= 10
FUZZ_SECONDS ?= 60
# Another one each day; a seed that was printed gives the same deeds again.
SEED ?= $(shell date +%Y%m%d)

.PHONY: help build demo test lint advisories bench fuzz soak chaos fmt clean

help: ## What can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## Build the release binary, target/release/float
	scripts/setup build
	cargo build --release --locked -p float

demo: ## Run a JupyterLab that moves while its client stays connected (TOUR=1: by itself, with a table)
	@[ "$$(id -u)" = 0 ] || { echo 'make demo needs root: it makes network namespaces and runs containers' >&2; exit 1; }
	$(MAKE) --no-print-directory build
	$(if $(TOURING),cargo build --release --locked -p bench)
	scripts/setup run demo
	TOUR='$(TOURING)' scripts/demo

test: ## Format, lints and the whole test suite (needs root: the tests make network namespaces)
	@[ "$$(id -u)" = 0 ] || { echo 'make test needs root: the tests make network namespaces and run containers' >&2; exit 1; }
	scripts/setup build test
	$(MAKE) --no-print-directory lint
	$(TESTS)

lint: ## Formatting, clippy, prose and dependencies, warnings as errors
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	scripts/check-prose --report >/dev/null
	scripts/setup lint
	scripts/check-dependencies

advisories: ## Look the dependencies up in the database of known vulnerabilities (needs github.com)
	scripts/setup lint
	scripts/check-dependencies advisories

bench: ## Measure MOVES=20 moves, a drain and lost hosts: what they took and what a client saw, against the goals
	@[ "$$(id -u)" = 0 ] || { echo 'make bench needs root: it makes network namespaces and runs containers' >&2; exit 1; }
	scripts/setup build run demo
	$(MEASURED)
	target/release/bench move --moves $(MOVES)
	target/release/bench drain
	target/release/bench recovery

soak: ## Have a gateway carry 2,000 WebSockets and 200 requests a second for MINUTES=10 while the job moves
	@[ "$$(id -u)" = 0 ] || { echo 'make soak needs root: it makes network namespaces and runs containers' >&2; exit 1; }
	scripts/setup build run
	$(MEASURED)
	target/release/bench soak --minutes $(MINUTES)

chaos: ## Do everything at random to ten jobs on three hosts for MINUTES=10, drawn from SEED (today's date): nothing may be lost
	@[ "$$(id -u)" = 0 ] || { echo 'make chaos needs root: it makes network namespaces and runs containers' >&2; exit 1; }
	scripts/setup build run
	cargo build --locked -p float -p mooring-testkit --bins
	MOORING_CHAOS_SEED=$(SEED) MOORING_CHAOS_MINUTES=$(MINUTES) cargo test --locked -p float --test chaos nothing_is_lost -- --nocapture

fuzz: ## Send strange bytes to what reads a stranger's: FUZZ_SECONDS=60 for each target
	command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz
	@for target in $$(cd fuzz && cargo fuzz list); do \
	  RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none $$target -- -max_total_time=$(FUZZ_SECONDS) || exit 1; done

fmt: ## Format the code
	cargo fmt --all

clean: ## Remove what was built
	cargo clean
