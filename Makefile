# `make help` says what there is.

.DEFAULT_GOAL := help
.PHONY: help up down cluster cluster-down test test-engines check fmt-check lint fmt tidy arrows sim guests bench fuzz

help: ## Shows this.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

up: ## Installs what is missing, builds, starts a cloud with a sample service, prints how to call it.
	@scripts/up.sh

down: ## Stops what `make up` started; the data stays.
	@scripts/down.sh

cluster: ## Three members of etcd, three controls, two agents and an ingress on this machine.
	@scripts/cluster.sh

cluster-down: ## Ends that cluster and removes its folders.
	@scripts/cluster.sh down

test: ## Proves the whole thing. Runs beside `make up`.
	@scripts/test.sh

test-engines: ## The end-to-end tests on SQLite, etcd and PostgreSQL, whole on each.
	@scripts/test-engines.sh whole sqlite etcd postgres

check: fmt-check tidy arrows lint ## Format, arrows and lints, without tests.

fmt-check:
	cargo fmt --all --check

lint: ## clippy over everything, warnings are errors.
	cargo clippy --workspace --all-targets --locked -- -D warnings

fmt: ## Formats the source.
	cargo fmt --all

tidy: ## What the formatter and clippy don't check.
	scripts/tidy.py

sim: ## Tells many more stories of control loops under faults than `make test` does.
	TUTTI_SIM_SEEDS=2000 cargo test --locked --test seeds

arrows: ## Which crate may use which.
	scripts/arrows.py

guests: ## Builds the samples and test guests into target/guests.
	scripts/build-guests.sh

bench: ## Side-by-side benchmarks in a release build; writes docs/benchmarks.md.
	@scripts/bench.sh

fuzz: ## Tries strangers' bytes on what reads them, a minute for each target; TUTTI_FUZZ_SECONDS for more.
	@scripts/fuzz.sh
