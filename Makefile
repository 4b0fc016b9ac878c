# `make` lists what can be made. Every target does what it needs first.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

target := $(or $(CARGO_TARGET_DIR),target)
server := $(target)/release/remora-server
bench := $(target)/release/remora-bench
# redis-py lives in target/venv after `make setup`.
python = $(firstword $(wildcard target/venv/bin/python3) python3)
PORT ?= 6379
# The unikernel's machine; empty is the default of unikernel-target/run.sh.
MACHINE ?=
LOCAL ?=
FAR ?=
PREFETCH ?=
ACCEL ?=
NET ?=
# Give RESULTS=... to go on with a sweep of another day.
RESULTS ?= redis-bench/results/$(shell date +%F)-$(shell git rev-parse --short HEAD)
SECONDS_EACH ?= 60
SEED ?= $(shell date +%s)
ROUNDS ?= 10

.PHONY: help
help: ## Lists the targets
	@grep -hE '^[a-z0-9_-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-13s %s\n", $$1, $$2 }'

.PHONY: setup
setup: ## Installs what is missing (apt: redis-server as the reference, tcl, python3; pip: redis-py), starts nothing
	@.ci/setup

.PHONY: build
build: ## Builds everything in release mode
	cargo build --release --workspace

.PHONY: run
run: setup ## Builds and starts remora-server: 256 MB local, 4 GB far memory, port 6379 or the next free one
	cargo build --release -p server
	@port=$(PORT); while (exec 3<>/dev/tcp/127.0.0.1/$$port) 2>/dev/null; do echo "port $$port is taken"; port=$$((port + 1)); done; \
	echo "talk to it:  redis-cli -p $$port    (Ctrl-C stops it)"; \
	exec $(server) --port $$port --local-memory 256mb --far-memory mem:4gb

.PHONY: test
test: setup ## Runs all tests: unit, property, simulation, golden counts, no_std proof, conformance with redis-server and redis-py
	cargo build --release -p server
	REMORA_SERVER=$(abspath $(server)) cargo test --workspace

.PHONY: test-rdma
test-rdma: setup ## Node, server and a load with checked values over a software RDMA device, in a QEMU guest (part of make test)
	cargo build -p memnode -p server -p farmem-vhost -p tests --bin remora-memnode --bin remora-server --bin remora-vhost --bin rdma_guest
	tests/rdma/run.sh $(target)/debug/remora-memnode $(target)/debug/remora-server $(target)/debug/remora-vhost $(target)/debug/rdma_guest

.PHONY: check-ibverbs-sys
check-ibverbs-sys: ## Builds the RDMA link over the crate ibverbs-sys: struct layouts compared with rdma-core's headers, its tests run (2 minutes)
	@.ci/setup ibverbs-sys
	cargo test -p farmem-link --features ibverbs-sys --lib rdma

.PHONY: miri
miri: ## Runs all unsafe code of the RDMA link under Miri, over a library that is none (needs a nightly toolchain with miri)
	MIRIFLAGS=-Zmiri-disable-isolation cargo +nightly miri test -p farmem-link --lib rdma::verbs

.PHONY: conformance
conformance: setup ## Fetches Redis' own Tcl suite (apt source, 7.0.15) and prints its ok counts for Redis and for Remora
	cargo build --release -p server
	$(python) tests/conformance/tcl.py --binary $(server)

.PHONY: unikernel
unikernel: ## Builds the unikernel's image: unikernel-target/target/release/remora-unikernel
	cargo build --release --manifest-path unikernel-target/Cargo.toml --target-dir unikernel-target/target

.PHONY: run-unikernel
run-unikernel: setup unikernel ## Boots it in QEMU: MACHINE=q35|pc|microvm PORT= LOCAL=64mb FAR=mem:512mb PREFETCH=ahead ACCEL=tcg NET=user|tap
	@MACHINE=$(MACHINE) PORT=$(PORT) LOCAL=$(LOCAL) FAR='$(FAR)' PREFETCH=$(PREFETCH) ACCEL=$(ACCEL) NET=$(NET) unikernel-target/run.sh

.PHONY: unikernel-bench
unikernel-bench: setup unikernel ## Compares the prefetch policies inside the unikernel, instructions counted, and measures its page faults
	unikernel-target/bench.sh --measure-faults yes
	unikernel-target/bench.sh

.PHONY: fmt
fmt: ## Formats the code
	cargo fmt --all

.PHONY: lint
lint: ## Checks the format and runs clippy; a warning is an error
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

.PHONY: fuzz
fuzz: ## Fuzzes the RESP decoder, the commands, both ends of NBD and of RDMA's handshake, SECONDS_EACH=60 each, SEED=now
	cargo run --release -p tests --bin fuzz -- resp --seconds $(SECONDS_EACH) --seed $(SEED)
	cargo run --release -p tests --bin fuzz -- commands --seconds $(SECONDS_EACH) --seed $(SEED)
	cargo run --release -p tests --bin fuzz -- nbd-server --seconds $(SECONDS_EACH) --seed $(SEED)
	cargo run --release -p tests --bin fuzz -- nbd-client --seconds $(SECONDS_EACH) --seed $(SEED)
	cargo run --release -p tests --bin fuzz -- rdma-handshake --seconds $(SECONDS_EACH) --seed $(SEED)

.PHONY: soak-nodes
soak-nodes: setup ## Two memory nodes, two copies, each killed and started again ROUNDS=10 times under 50 clients that check every reply
	cargo build --release -p server -p memnode
	ROUNDS=$(ROUNDS) SECONDS_EACH=2 cargo test --release -p tests --test far_nodes with_two_copies -- --nocapture

.PHONY: soak
soak: soak-nodes ## soak-nodes; then random commands against redis-server, four times SECONDS_EACH=60, SEED=now
	$(python) tests/conformance/run.py --binary $(server) --random $$((4 * $(SECONDS_EACH))) --seed $(SEED)

.PHONY: fairness
fairness: setup ## Nobody waits for another's miss: a hot client alone and beside 20 cold ones, far memory 5 ms away (half a minute)
	cargo build --release -p server
	$(python) tests/soak/fairness.py --binary $(server)

.PHONY: cap
cap: setup ## The cap holds: resident memory seen from outside under loads, 10,000 clients, slow readers, 512 MB values (2 minutes)
	cargo build --release -p server
	$(python) tests/soak/cap.py --binary $(server)

.PHONY: main-job
main-job: setup ## 1 GB of values and 1 GB of lists behind 64 MB, every byte read back, each prefetch mode, link and memory node (4 minutes)
	cargo build --release -p server -p memnode
	$(python) tests/soak/main_job.py --binary $(server)

.PHONY: demo
demo: setup ## Two minutes: GET and LRANGE with all and with an eighth local, Remora beside Redis on swap; makes a page
	cargo build --release -p server -p redis-bench
	rm -rf $(target)/demo
	$(bench) sweep redis-bench/sweeps/demo.toml --dir $(target)/demo
	$(bench) report $(target)/demo

.PHONY: bench
bench: ## Times the small things with criterion: decode, lookup, plan, acquire, fetch; CI counts their instructions
	cargo bench -p farmem --bench pager -p engine --bench engine

.PHONY: figure2
figure2: setup ## The poster's figure: requests a second over the local share, every system (about 40 minutes; goes on where it stopped)
	cargo build --release -p server -p redis-bench
	$(bench) sweep redis-bench/sweeps/figure2.toml --dir $(RESULTS)/figure2
	$(bench) report $(RESULTS)/figure2

.PHONY: kept
kept: setup ## The same side by side, all servers up at once: what each keeps of its own rate (about 25 minutes, 20 GB; goes on where it stopped)
	cargo build --release -p server -p redis-bench
	$(bench) sweep redis-bench/sweeps/kept.toml --dir $(RESULTS)/kept
	$(bench) report $(RESULTS)/kept

.PHONY: uffd
uffd: setup ## Faulting beside asking ahead: --pager uffd in four policies and soft ahead, mem: and nbd+unix: (about 9 minutes)
	cargo build --release -p server -p redis-bench -p memnode
	$(bench) sweep redis-bench/sweeps/uffd.toml --dir $(RESULTS)/uffd
	$(bench) report $(RESULTS)/uffd

.PHONY: wires
wires: setup ## What a faster card or memory on the bus is worth, modelled: 100 and 200 Gb/s, 0.25 us (about 8 minutes; goes on where it stopped)
	cargo build --release -p server -p redis-bench
	$(bench) sweep redis-bench/sweeps/wires.toml --dir $(RESULTS)/wires
	$(bench) report $(RESULTS)/wires

.PHONY: targets
targets: setup ## Every bar that the store is held to, and what is measured (about 25 minutes; goes on where it stopped)
	cargo build --release -p server -p redis-bench
	$(bench) sweep redis-bench/sweeps/targets.toml --dir $(RESULTS)/targets
	$(bench) report $(RESULTS)/targets

.PHONY: nodes
nodes: setup ## Memory nodes: one, two, two copies, nbdkit, qemu-nbd; ahead and none (about 9 minutes; goes on where it stopped)
	cargo build --release -p server -p memnode -p redis-bench
	$(bench) sweep redis-bench/sweeps/nodes.toml --dir $(RESULTS)/nodes
	$(bench) report $(RESULTS)/nodes

.PHONY: link-speed
link-speed: setup ## How fast a memory node and our link are over one TCP connection, beside fio and nbdkit (2 minutes)
	cargo build --release -p memnode
	cargo build --release -p farmem-link --example link_speed
	redis-bench/link-speed

.PHONY: guests
guests: setup unikernel ## The unikernel beside Linux with Redis that swaps, both in QEMU on the same remora-vhost (root; about 10 minutes)
	cargo build --release -p farmem-vhost -p redis-bench
	tests/guest/linux.sh image $(target)/guest/image
	tests/guest/network.sh $(bench) sweep redis-bench/sweeps/guests.toml --dir $(RESULTS)/guests
	$(bench) report $(RESULTS)/guests

.PHONY: sweep
sweep: setup ## Every workload, system and share (two hours, 16 GB; goes on where it stopped)
	cargo build --release -p server -p redis-bench
	$(bench) sweep redis-bench/sweeps/all.toml --dir $(RESULTS)/all
	$(bench) report $(RESULTS)/all
