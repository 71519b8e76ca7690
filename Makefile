# Everything a person or a CI runner calls. Each target works from a fresh clone; `make help` lists them.

SHELL := /bin/bash
export CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/slipway/target
# The target directory outlives a clone: RocksDB takes ten minutes to compile and is compiled once per machine.
TARGET := $(CARGO_TARGET_DIR)
export PATH := $(PATH):$(HOME)/.cargo/bin
# Through PATH, not CC and CXX: those are part of the fingerprint, so setting them would compile RocksDB again.
ifneq ($(wildcard /usr/lib/ccache),)
export PATH := /usr/lib/ccache:$(PATH)
endif
SLIPWAY := $(TARGET)/debug/slipway

.PHONY: help setup build demo demo-up demo-down test chaos switch-history check fresh mutants dns-fuzz dns-flood dns-clients bench-raft bench-state bench-dns bench-cli crash-images rest

help:
	@echo 'make setup      install what is missing (libclang, a C++ compiler, dig; without root: says what to run)'
	@echo 'make build      build slipway, slipwayd and the demo service'
	@echo 'make demo       play the demo: a canary that survives the death of its leader, and more'
	@echo 'make demo-up    the same cluster, left running; make demo-down stops it'
	@echo 'make test       all tests'
	@echo 'make bench-raft   writes a second and failover beside etcd, in one run (half an hour, after an optimised build; last line: JSON)'
	@echo 'make bench-state  how fast commands are applied at full size, and what that State takes (slow: an optimised build first)'
	@echo 'make bench-dns   DNS answers a second beside Knot and a UDP echo, in one run (five minutes, after an optimised build; last line: JSON)'
	@echo 'make bench-cli   how long a call of the command line takes on one node, beside a bare start of its process (a minute, after an optimised build; last line: JSON)'
	@echo 'make rest       stories of rollouts at random on a simulated fleet, each must come to rest (SEEDS=1..20000, goes on where it was; last line: JSON of counts)'
	@echo 'make crash-images  1,500 images of what a power cut may leave of a store, each opened again; last line: JSON of counts'
	@echo 'make dns-fuzz   ten million bent DNS queries; last line: JSON of counts (CASES=N SEED=N)'
	@echo 'make dns-flood   floods of a real node: random names, ANY, ever new sources, 10,000 TCP connections (FLOOD=20: seconds each, RATE=N; last line: JSON)'
	@echo 'make dns-clients   dig, kdig, drill, glibc, musl, Java, Go, systemd-resolved and HAProxy against a cluster, in namespaces of its own (root; last line: JSON)'
	@echo 'make chaos      kills, partitions, power cuts, bad disks, clocks and changes of members under load, judged (SEED=1 FOR=60: seconds of faults; FAULTS=PowerCutAll,Kill: only these)'
	@echo 'make switch-history  500 switches under kills, pauses and partitions with every node asked 200 times a second, judged (SWITCHES=N, SEED=1; last line: JSON)'
	@echo 'make mutants SHARD=0/20  small faults put into engine, state and traffic, one at a time: does a test notice? (about 150 a shard; last line: JSON)'
	@echo 'make fresh SUITE=bookworm   README, word for word, in a bare Debian root (bookworm or trixie; root; up to 75 minutes; last line: JSON)'
	@echo 'make check      formatting, clippy, house rules, licences and advisories; writes nothing into the checkout'

setup:
	@scripts/setup.sh build

build: setup
	cargo build --locked --bins --example shop

demo: build
	@$(SLIPWAY) demo

demo-up: build
	@$(SLIPWAY) demo --up

# Stops what runs with the program that started it, if that is still there.
demo-down:
	@[ -x $(SLIPWAY) ] || $(MAKE) build
	@$(SLIPWAY) demo --down

test:
	@scripts/setup.sh test
	cargo build --locked --bins --example shop
	@scripts/test.sh

# SEEDS=A..B chooses which; make test plays 1 to 200.
SEEDS ?= 1..20000
rest:
	@scripts/setup.sh test
	@scripts/rest.sh $(SEEDS)

# CRASH_IMAGES=N and CRASH_SEED=N choose how many, and which.
crash-images:
	@scripts/setup.sh test
	@report=$$(mktemp) && trap 'rm -f "$$report"' EXIT && status=0; \
	SLIPWAY_CRASH_REPORT="$$report" SLIPWAY_CRASH_IMAGES=$(or $(CRASH_IMAGES),1500) SLIPWAY_CRASH_SEED=$(or $(CRASH_SEED),1) \
	    cargo test --locked --test store crash_images:: -- --nocapture --test-threads 1 || status=$$?; \
	cat "$$report"; exit $$status

# CASES=N and SEED=N choose how many, and which; make test runs 20,000 of the same.
dns-fuzz:
	@scripts/setup.sh test
	@report=$$(mktemp) && trap 'rm -f "$$report"' EXIT && status=0; \
	SLIPWAY_DNS_FUZZ_REPORT="$$report" SLIPWAY_DNS_FUZZ=$(or $(CASES),10000000) SLIPWAY_DNS_FUZZ_SEED=$(or $(SEED),1) \
	    cargo test --locked --test dns fuzz:: -- --nocapture || status=$$?; \
	cat "$$report"; exit $$status

# Seconds of each flood, and datagrams a second; make test runs a short form.
FLOOD ?= 20
RATE ?= 10000
dns-flood:
	@scripts/setup.sh test
	cargo build --locked --bins --example shop
	@scripts/dns-flood.sh $(FLOOD) $(RATE)

# ONLY=tools,resolvers,forwarder,haproxy takes a part.
dns-clients:
	@scripts/setup.sh dns-clients
	cargo build --locked --bins --example shop
	@scripts/dns-clients.sh $(ONLY)

# The last line is one JSON object of counts.
SEED ?= 1
FOR ?= 60
chaos:
	@scripts/setup.sh test
	cargo build --locked --bins --example shop
	@scripts/chaos.sh $(SEED) $(FOR) $(FAULTS)

# The last line is one JSON object of figures.
SWITCHES ?= 500
switch-history:
	@scripts/setup.sh test
	cargo build --locked --bins --example shop
	@scripts/switch-history.sh $(SWITCHES) $(SEED)

# SHARD=K/N with K from 0; MUTANTS=RE takes those whose description matches.
SHARD ?= 0/20
mutants:
	@scripts/setup.sh mutants
	@scripts/mutants.sh $(SHARD)

# FRESH_STEPS=setup,demo,test,walk takes some of the steps.
SUITE ?= bookworm
fresh:
	@scripts/fresh.sh $(SUITE)

check:
	@scripts/setup.sh check
	@scripts/check.sh

# BENCH=--quick takes a tenth of the fleet.
bench-state:
	@scripts/setup.sh build
	cargo bench --locked --bench state -- $(BENCH)

# BENCH=--quick takes a few short rounds and two kills; BENCH=--help names the other flags.
bench-raft:
	@scripts/setup.sh bench-raft
	cargo bench --locked --bench raft -- $(BENCH)

# BENCH=--quick takes a few rounds.
bench-cli:
	@scripts/setup.sh build
	cargo bench --locked --bench cli -- $(BENCH)

# BENCH=--quick takes three short rounds; BENCH=--help names the other flags.
bench-dns:
	@scripts/setup.sh bench-dns
	cargo bench --locked --bench dns -- $(BENCH)
