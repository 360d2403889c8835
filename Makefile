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
SIM := $(CARGO_TARGET_DIR)/release/firebreak-sim
# Where reports of simulated runs go.
SIM_OUT := $(CARGO_TARGET_DIR)/sim

.PHONY: help
help: ## Lists the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.PHONY: demo
demo: build ## Nine nodes, real chat, one data center burns: proves that nothing is lost
	$(FIREBREAK) demo $(ARGS)

.PHONY: test
test: setup lint build promtool ## Everything that CI checks
	@$(MAKE) --no-print-directory sim-without-rocksdb
	@$(MAKE) --no-print-directory sim-check
	$(FIREBREAK) --version
	$(CARGO) test --release --workspace --doc
	@if cargo nextest --version >/dev/null 2>&1; then \
	  $(CARGO) nextest run --release --workspace --no-fail-fast; \
	else \
	  $(CARGO) test --release --workspace --lib --bins --tests --no-fail-fast; \
	fi
	@$(MAKE) --no-print-directory clients

.PHONY: lint
lint: setup console-check ## Format, lints, rustdoc, and what may be depended on
	@cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 \
	  || rustup component add rustfmt clippy
	cargo fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --release --workspace --no-deps --quiet
	@if cargo deny --version >/dev/null 2>&1; then \
	  cargo deny --locked check licenses bans sources; \
	else \
	  echo "cargo-deny is not installed: licences, bans and sources are not looked at"; \
	fi

# What an edit-and-try round needs. Left out is all that starts processes or whole clusters, and what
# only links long: `make test` has it.
CHECKED := --lib --bins --test golden --test wire --test shard --test placement --test catalogue \
  --test readme
QUICK := not (binary(readme) and test(sample))
.PHONY: check
check: setup ## After each edit: format, lints, and the tests that start no processes
	cargo fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets -- -D warnings
	@if cargo nextest --version >/dev/null 2>&1; then \
	  $(CARGO) nextest run --release --workspace $(CHECKED) -E '$(QUICK)'; \
	else \
	  $(CARGO) test --release --workspace $(CHECKED) -- --skip sample; \
	fi

.PHONY: sim-without-rocksdb
sim-without-rocksdb:
	@if $(CARGO) tree -p firebreak-sim -e normal 2>/dev/null | grep -q librocksdb-sys; then \
	  echo "the simulator must build without RocksDB" >&2; exit 1; fi
	@echo "the simulator builds without RocksDB"

# Built by itself, the simulator has no RocksDB in it; nothing of this compiles RocksDB again.
.PHONY: sim
sim: sim-mutants ## The simulator, and the build of it that has known bugs to switch on
	$(CARGO) build --release -p firebreak-sim --bin firebreak-sim

.PHONY: sim-mutants
sim-mutants:
	$(CARGO) build --release -p firebreak-sim --features mutants --bin firebreak-sim-mutants

# Every scenario on a few seeds, the proof on a few, and the mutants, in this order: what the others
# say counts only where runs repeat themselves. Each bounds its time; the first seeds come first.
SWEEP_SEEDS ?= 1..=2
PROVE_SEEDS ?= 1..=2
PROVED := calm dc-silent dc-crash all-power-cut flap-3s swarm
# Those that the first few seeds catch; `make mutants` hunts all of them.
MUTANTS ?= ack-before-fsync fsync-error-ignored vote-not-synced \
  hard-state-and-log-in-the-wrong-order boot-counter-ignored mark-ignored \
  head-not-rebuilt-after-restart dedup-outside-the-apply-batch seq-allocated-before-commit \
  retry-gets-a-new-seq answers-swapped read-index-without-quorum linearizable-read-at-any-replica \
  page-boundary-skips-one tail-resumes-off-by-one client-retry-with-a-new-id \
  stream-resend-out-of-order
.PHONY: sim-check
sim-check: sim-mutants ## Simulated disasters: proof, sweep and mutants with small budgets; reports in CARGO_TARGET_DIR/sim
	@# Of the whole workspace, as the tests have it: nothing is compiled for this alone.
	$(CARGO) build --release --workspace --bin firebreak-sim
	$(SIM) prove $(PROVED) --seeds $(PROVE_SEEDS) --minutes 3 --json $(SIM_OUT)/prove.json
	$(SIM) sweep --seeds $(SWEEP_SEEDS) --minutes 5 --out $(SIM_OUT) --html $(SIM_OUT)/html \
	  --json $(SIM_OUT)/sweep.json --junit $(SIM_OUT)/sweep.xml
	$(SIM)-mutants mutants $(MUTANTS) --seeds-max 60 --json $(SIM_OUT)/mutants.json

.PHONY: mutants
mutants: sim ## Every known bug must be caught within 200 seeds; takes long
	$(SIM)-mutants mutants --seeds-max 200 --json $(SIM_OUT)/mutants.json

# New seeds each time, unless FROM says where to begin; for ever, unless MINUTES says how long.
FROM ?= $(shell date +%s)
.PHONY: soak
soak: sim ## Sweeps every scenario over new seeds until Ctrl-C, or for MINUTES=
	$(SIM) sweep --seeds $(FROM).. $(if $(MINUTES),--minutes $(MINUTES)) --out $(SIM_OUT)/soak \
	  --html $(SIM_OUT)/soak/html --json $(SIM_OUT)/soak/sweep.json

# Needs cargo-fuzz, which it installs, and builds what it fuzzes once more, with its own flags.
FUZZED ?= $(notdir $(basename $(wildcard tests/fuzz/fuzz_targets/*.rs)))
.PHONY: fuzz
fuzz: setup ## Gives every decoder what libFuzzer finds, MINUTES= in all; FUZZED="frames entry" for some
	@cargo fuzz --version >/dev/null 2>&1 || cargo install --locked cargo-fuzz
	@set -- $(FUZZED); seconds=$$(( $(or $(MINUTES),16) * 60 / $$# )); \
	for target in "$$@"; do \
	  echo "$$target, $$seconds s"; \
	  mkdir -p $(CACHE)/fuzz/corpus/$$target $(CACHE)/fuzz/found; \
	  (cd tests/fuzz && RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$(CACHE)/fuzz/target \
	    cargo fuzz run --fuzz-dir . --sanitizer none $$target $(CACHE)/fuzz/corpus/$$target corpus/$$target \
	    -- -max_total_time=$$seconds -timeout=10 -rss_limit_mb=2048 \
	    -artifact_prefix=$(CACHE)/fuzz/found/$$target-); \
	done

.PHONY: bench
bench: build ## Throughput, latency and CPU of three durable replicas on this machine
	$(FIREBREAK) bench $(ARGS)

.PHONY: drill
drill: build ## Nine real processes burn, drill by drill, under load in Rust, Python and Node; ARGS="--scenario dc-crash --runs 5"
	$(CARGO) build --release -p firebreak-sim --bin firebreak-sim
	$(FIREBREAK) drill all --dir target/drill $(ARGS)

# Needs python3 and node, and their registries, as a bare machine has not: what cannot be had is skipped.
.PHONY: clients
clients: build ## The Python and Node clients against real nodes that are lost under them; ONLY=python|node
	@if command -v python3 >/dev/null; then \
	  python3 client/test-clients $(FIREBREAK) $(ONLY); \
	else \
	  echo "python3 is not installed: the Python and Node clients are SKIPPED"; \
	fi

CONSOLE := ops/console
# Where the pictures go.
OUT ?= $(CARGO_TARGET_DIR)/screenshots
.PHONY: console
console: console-setup build $(CONSOLE)/node_modules/.package-lock.json ## Pictures of every page of the console of nine real nodes, healthy and burning; OUT=, ARGS="--states drain"
	node $(CONSOLE)/dev/shots.mjs $(FIREBREAK) $(OUT) $(ARGS)

# Only these pictures and the console's own build need them; nodes embed what is committed.
CHROMIUM ?= /usr/bin/chromium
export CHROMIUM
.PHONY: console-setup
console-setup:
	@missing=""; \
	command -v npm >/dev/null || missing="$$missing npm"; \
	node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' 2>/dev/null || missing="$$missing nodejs"; \
	[ -x "$(CHROMIUM)" ] || missing="$$missing chromium"; \
	[ -z "$$missing" ] || { echo "Missing:$$missing. Install with: sudo apt-get install -y$$missing" \
	  "(Node 20 or later; CHROMIUM= names another browser)" >&2; exit 1; }

$(CONSOLE)/node_modules/.package-lock.json: $(CONSOLE)/package-lock.json
	npm ci --prefix $(CONSOLE) --no-audit --no-fund
	@touch $@

# Needs npm and its registry, as a bare machine has not.
.PHONY: console-check
console-check: ## Whether the console that nodes embed is what its sources build
	@if ! command -v npm >/dev/null; then \
	  echo "npm is not installed: $(CONSOLE)/dist is not compared with its sources"; \
	elif $(MAKE) --no-print-directory -s $(CONSOLE)/node_modules/.package-lock.json; then \
	  npm run --silent --prefix $(CONSOLE) check && echo "$(CONSOLE)/dist is what its sources build"; \
	elif npm ping >/dev/null 2>&1; then \
	  exit 1; \
	else \
	  echo "npm's registry does not answer: $(CONSOLE)/dist is not compared with its sources"; \
	fi

.PHONY: build
build: setup ## The firebreak command, into CARGO_TARGET_DIR/release
	$(CARGO) build --release --workspace --bin firebreak

# What the alerts and metrics are compared with, where it is there; nothing needs it.
.PHONY: promtool
promtool:
	@command -v promtool >/dev/null || echo "promtool is not installed: alerts, dashboards and metrics" \
	  "are not checked by it (apt-get install --no-install-recommends prometheus)"

# RocksDB needs a C++ compiler, and its bindings need libclang.
.PHONY: setup
setup:
	@missing=""; \
	command -v c++ >/dev/null || missing="$$missing g++"; \
	[ -n "$${LIBCLANG_PATH:-}$$(find /usr/lib/llvm-*/lib /usr/lib/*-linux-gnu -maxdepth 1 \
	  -name 'libclang[-.]*so*' ! -name 'libclang-cpp*' -print -quit 2>/dev/null || true)" ] \
	  || missing="$$missing libclang-dev"; \
	[ -n "$$missing" ] || exit 0; \
	if [ "$$(id -u)" = 0 ]; then as=""; elif sudo -n true 2>/dev/null; then as="sudo"; else \
	  echo "Missing:$$missing. Install with: sudo apt-get install -y$$missing" >&2; exit 1; fi; \
	echo "installing$$missing"; \
	$$as apt-get update -qq && $$as env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $$missing >/dev/null
