# The two commands of a newcomer are `make demo` and `make test`; both install what is missing.
.DEFAULT_GOAL := help
.PHONY: help demo test build programs client lint fuzz bench clean

CARGO := scripts/rust cargo
TRIPLE := $(shell uname -m)-unknown-linux-gnu
# Static, small, and built apart from the rest: its flags would otherwise rebuild everything.
CLIENT := $(CURDIR)/target/$(TRIPLE)/client/tuxtape-client

# Downloads and unpacked kernels; deleting it costs time and nothing else.
export TUXTAPE_CACHE ?= $(HOME)/.cache/tuxtape
# Real data to test against, beside the checkout; tests that want it say aloud when it is not there.
export TUXTAPE_CORPUS ?= $(abspath ../shared/corpus)
# The kernel that tests and benchmarks build livepatches for; 0 leaves tests that need one out.
TUXTAPE_LAB ?= debian:6.1.0-47-cloud-amd64

help:
	@echo 'make demo    from the CVE feed to a patched virtual machine (installs what is missing)'
	@echo 'make test    every test (installs what is missing; TUXTAPE_LAB=0 leaves out those that need kernel packages)'
	@echo 'make build   the release programs'
	@echo 'make lint    rustfmt, clippy, documentation'
	@echo 'make fuzz    every fuzz target, SECONDS=10 each'
	@echo 'make bench   times and memory, measured'
	@echo 'TUXTAPE_FEED points demo and bench at another CVE feed: a git URL, a folder or a bundle'

demo:
	@scripts/setup lab
	@$(MAKE) --no-print-directory programs
	TUXTAPE_CLIENT=$(CLIENT) target/release/tuxtape demo

build:
	@scripts/setup build
	@$(MAKE) --no-print-directory programs

programs:
	@echo 'building the release programs: minutes on two cores the first time, the last crates without a word' >&2
	@$(MAKE) --no-print-directory client
	$(CARGO) build --release --locked --workspace --exclude tuxtape-client --bins

client:
	RUSTFLAGS='-C target-feature=+crt-static' \
	  $(CARGO) build --locked --profile client --target $(TRIPLE) -p tuxtape-client

test:
	@scripts/setup test
	@scripts/lab-kernel '$(TUXTAPE_LAB)'
	@[ '$(TUXTAPE_LAB)' = 0 ] || $(MAKE) --no-print-directory client
	TUXTAPE_CLIENT=$(CLIENT) scripts/test

lint:
	@scripts/setup ci
	scripts/check
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --workspace --no-deps --document-private-items

fuzz:
	@scripts/setup ci
	scripts/fuzz $(or $(SECONDS),10)

bench:
	@scripts/setup bench
	@$(MAKE) --no-print-directory programs
	TUXTAPE_CLIENT=$(CLIENT) bench/run
	bench/cve
	bench/klog

clean:
	rm -rf target fuzz/target
