# Two commands: `make demo` and `make test`. Each installs what it needs, builds and runs.
#
# RocksDB's C++ takes about ten minutes to compile on two cores, so everything uses one profile
# (release) and one target folder outside the checkout: a fresh clone does not compile it again.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/firebreak
export CARGO_TARGET_DIR ?= $(CACHE)/target
CARGO := cargo --locked
FIREBREAK := $(CARGO_TARGET_DIR)/release/firebreak

.PHONY: help
help: ## Lists the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.PHONY: demo
demo: build ## Nine nodes, real chat, one data center burns: proves that nothing is lost
	$(FIREBREAK) demo $(ARGS)

.PHONY: test
test: setup lint build ## Everything that CI checks
	@$(MAKE) --no-print-directory sim-without-rocksdb
	$(FIREBREAK) --version
	$(CARGO) test --release --workspace --doc
	@if cargo nextest --version >/dev/null 2>&1; then \
	  $(CARGO) nextest run --release --workspace --no-fail-fast; \
	else \
	  $(CARGO) test --release --workspace --lib --bins --tests --no-fail-fast; \
	fi

.PHONY: lint
lint: setup ## Format and lints
	@cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 \
	  || rustup component add rustfmt clippy
	cargo fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets -- -D warnings

.PHONY: sim-without-rocksdb
sim-without-rocksdb:
	@if $(CARGO) tree -p firebreak-sim -e normal 2>/dev/null | grep -q librocksdb-sys; then \
	  echo "the simulator must build without RocksDB" >&2; exit 1; fi
	@echo "the simulator builds without RocksDB"

.PHONY: bench
bench: build ## Throughput, latency and CPU of three durable replicas on this machine
	$(FIREBREAK) bench $(ARGS)

.PHONY: build
build: setup ## The firebreak command, into CARGO_TARGET_DIR/release
	$(CARGO) build --release --workspace --bin firebreak

# RocksDB needs a C++ compiler, and its bindings need libclang.
.PHONY: setup
setup:
	@missing=""; \
	command -v c++ >/dev/null || missing="$$missing g++"; \
	{ ls /usr/lib/llvm-*/lib/libclang*.so* /usr/lib/*/libclang*.so* >/dev/null 2>&1 || [ -n "$${LIBCLANG_PATH:-}" ]; } \
	  || missing="$$missing libclang-dev"; \
	[ -n "$$missing" ] || exit 0; \
	if [ "$$(id -u)" = 0 ]; then as=""; elif sudo -n true 2>/dev/null; then as="sudo"; else \
	  echo "Missing:$$missing. Install with: sudo apt-get install -y$$missing" >&2; exit 1; fi; \
	echo "installing$$missing"; \
	$$as apt-get update -qq && $$as env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $$missing >/dev/null
