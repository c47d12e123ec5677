# `make demo` shows Mooring, `make test` tests it. Both install what is missing (scripts/setup) and
# are safe to run twice.

SHELL := /bin/bash
TOOLS := $(or $(MOORING_PREFIX),/opt/mooring)/tools/bin
export PATH := $(HOME)/.cargo/bin:$(PATH):$(TOOLS)
# The release of rust-toolchain.toml under another name, where a machine has it so.
ifndef RUSTUP_TOOLCHAIN
TOOLCHAIN := $(shell scripts/toolchain)
ifneq ($(TOOLCHAIN),)
export RUSTUP_TOOLCHAIN := $(TOOLCHAIN)
endif
endif

# Half as many tests again as processors: most of them wait.
export NEXTEST_TEST_THREADS ?= $(shell echo $$(( $$(nproc) * 3 / 2 )))

# Evaluated where it is used: cargo-nextest is installed by then. PATH is that of the recipes.
NEXTEST = $(shell PATH='$(PATH)' command -v cargo-nextest)
# The programs of the tests as `make test-list` finds them. With these, running them takes no
# lock of cargo's, which `make lint` may hold meanwhile.
PROGRAMS := target/test-programs.json
PACKAGES := target/test-packages.json
# One command: several would build the crates that they share with different features, each anew.
MEASURED := cargo build --release --locked --no-default-features -p float -p bench -p mooring-testkit --bins
NEEDS_ROOT = @[ "$$(id -u)" = 0 ] || { echo 'make $@ needs root: it makes network namespaces and runs containers' >&2; exit 1; }

# `TOUR=1` has the demo migrate its job; empty and 0 are no.
TOURING := $(filter-out 0,$(TOUR))
MOVES ?= 20
MINUTES ?= 10
RUNS ?= 10
FUZZ_SECONDS ?= 60
# Another seed each day. A seed that was printed gives the same sequence again.
SEED ?= $(shell date +%Y%m%d)

.PHONY: help build demo test test-programs test-list run-tests attack lint advisories flaky bench apps soak chaos fuzz fmt clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## Build the release binary, target/release/float, with its debug information beside it
	scripts/setup build
	cargo build --release --locked -p float
	scripts/split-debug target/release/float

demo: ## Run a JupyterLab that migrates while its client stays connected (TOUR=1: migrate it four times and print a table)
	$(NEEDS_ROOT)
	scripts/setup build
	scripts/beside 'scripts/setup run demo' cargo build --profile demo --locked -p float -p bench
	TOUR='$(TOURING)' scripts/demo

# Tests wait much, for clocks and for the kernel: the lints run beside them.
test: ## Check the format, run the lints and every test (needs root)
	$(NEEDS_ROOT)
	scripts/setup build lint
	cargo fmt --all --check
	scripts/beside 'scripts/setup test' $(MAKE) --no-print-directory test-programs
	$(MAKE) --no-print-directory test-list
	scripts/beside 'nice -n 19 $(MAKE) --no-print-directory lint >target/lint.log 2>&1 || { cat target/lint.log; false; }' \
	  $(MAKE) --no-print-directory run-tests

test-programs:
	cargo test --workspace --locked --no-run

test-list:
ifneq ($(NEXTEST),)
	cargo nextest list --workspace --locked --list-type binaries-only --message-format json >$(PROGRAMS)
	cargo metadata --format-version 1 --locked >$(PACKAGES)
endif

run-tests:
ifeq ($(NEXTEST),)
	cargo test --workspace --locked --no-fail-fast
else
	cargo nextest run --binaries-metadata $(PROGRAMS) --cargo-metadata $(PACKAGES) --no-fail-fast
endif

attack: ## Carry out every attack of crates/float/tests/attack_*.rs on a running system (needs root)
	$(NEEDS_ROOT)
	scripts/setup build run test
	cargo nextest run --workspace --locked --no-fail-fast -E 'binary(/^attack/)'

lint: ## Check format, code, documentation, prose, dependencies and scripts; warnings are errors
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' cargo doc --workspace --no-deps --document-private-items --locked
	scripts/check-prose
	scripts/setup lint
	scripts/check-dependencies
	cd web && node_modules/.bin/biome ci --error-on-warnings .

advisories: ## Look the dependencies up in the database of known vulnerabilities (needs github.com)
	scripts/setup lint
	scripts/check-dependencies advisories

flaky: ## Run the tests RUNS=10 times on a busy machine and list those that failed (TESTS_LIKE=filter: only these)
	$(NEEDS_ROOT)
	scripts/setup build test
	scripts/flaky --runs $(RUNS) --load $(if $(TESTS_LIKE),--filter '$(TESTS_LIKE)')

bench: ## Measure MOVES=20 migrations, a drain and lost hosts against the goals
	$(NEEDS_ROOT)
	scripts/setup build run demo
	$(MEASURED)
	target/release/bench move --moves $(MOVES)
	target/release/bench drain
	target/release/bench recovery

apps: ## Run every application of apps/rows as a job with a real client (APPS=name,name: these), and write docs/applications.md
	$(NEEDS_ROOT)
	scripts/setup build apps
	$(MEASURED)
	target/release/bench apps $(if $(APPS),--only '$(APPS)'); ended=$$?; \
	  target/release/bench apps --report docs/applications.md >/dev/null; exit $$ended

soak: ## Have a gateway carry 2,000 WebSockets and 200 requests a second for MINUTES=10 while the job migrates
	$(NEEDS_ROOT)
	scripts/setup build run
	$(MEASURED)
	target/release/bench soak --minutes $(MINUTES)

chaos: ## Do everything at random to ten jobs on three hosts for MINUTES=10, drawn from SEED (default: the date)
	$(NEEDS_ROOT)
	scripts/setup build run
	cargo build --locked -p float -p mooring-testkit --bins
	MOORING_CHAOS_SEED=$(SEED) MOORING_CHAOS_MINUTES=$(MINUTES) cargo test --locked -p float --test chaos nothing_is_lost -- --nocapture

fuzz: ## Feed random bytes to the parsers of untrusted input, FUZZ_SECONDS=60 for each
	command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz
	@for target in $$(cd fuzz && cargo fuzz list); do \
	  RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none $$target -- -max_total_time=$(FUZZ_SECONDS) || exit 1; done

fmt: ## Format the code
	cargo fmt --all
	[ ! -x web/node_modules/.bin/biome ] || (cd web && node_modules/.bin/biome check --write .)

clean: ## Remove everything that was built
	cargo clean
