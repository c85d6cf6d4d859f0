# What a person types; CI types the same. `make` alone lists the targets.

.DEFAULT_GOAL := help
.PHONY: help serve test slow bench bench-ingest bench-delivery players check fuzz netem lossy
SHELL := /bin/bash
export PATH := $(HOME)/.cargo/bin:$(PATH)

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r name what; do printf '  make %-12s %s\n' "$$name" "$$what"; done

serve: ## install what is missing, build, and serve at http://127.0.0.1:8080
	@scripts/setup serve
	cargo build --release -p loom-server
	@exec target/release/loom-server

test: ## install what is missing, then run every test
	@scripts/setup test
	cargo nextest run --workspace
	cargo test --workspace --doc
	cargo build -p loom-server
	cargo build -p loom-testkit --example validate
	.venv/bin/python -m pytest tests/whip
	.venv/bin/python -m pytest tests/e2e -m 'not slow'

slow: ## the end-to-end tests that take minutes
	@scripts/setup test
	cargo build -p loom-server
	.venv/bin/python -m pytest tests/e2e -m slow

bench: ## measure each promise beside a named peer; figures go to benches/RESULTS.md
	@scripts/setup test
	cargo build --release -p loom-server
	benches/run

bench-ingest: ## measure receiving beside other receivers with the same publishers (figures as with bench)
	@scripts/setup test
	cargo build --release -p loom-server
	cargo build --release --manifest-path benches/ingest/Cargo.toml
	@benches/ingest/pion/build
	.venv/bin/python benches/ingest.py

bench-delivery: ## measure sending to thousands of viewers beside nginx (figures as with bench)
	@scripts/setup test
	@command -v nginx >/dev/null || apt-get install -y --no-install-recommends nginx-light
	cargo build --release -p loom-server
	cargo build --release --manifest-path benches/delivery/Cargo.toml
	.venv/bin/python benches/delivery.py

bench-packaging: ## measure a file to segments and playlists beside ffmpeg, IN=FILE.mp4
	CARGO_TARGET_DIR=benches/packaging/target cargo build --release --manifest-path benches/packaging/Cargo.toml
	.venv/bin/python benches/packaging.py $(IN)

fuzz: ## run every fuzz target, FUZZ_RUNS executions of each (10,000,000)
	@scripts/setup serve
	scripts/fuzz

players: ## hls.js and shaka-player play PLAY_SECONDS (600) of a live stream, at 334 ms and at 200 ms parts
	@scripts/setup test
	cargo build --release -p loom-server
	LOOM_BIN=target/release/loom-server PLAY_SECONDS=$${PLAY_SECONDS:-600} .venv/bin/python -m pytest -s tests/e2e/test_players.py

lossy: ## record over a lossy link on loopback, ROAD_SECONDS long (60), judged by ffmpeg (ROAD_CODEC, ROAD_PUBLISHER=chromium, ROAD_BOTH=1)
	@scripts/setup test
	cargo build -p loom-server
	cargo build -p loom-testkit --example lossy-link
	.venv/bin/python tests/netem/record.py relay

netem: ## the same between network namespaces with the kernel's netem; needs root (NETEM_BY=link: without sch_netem)
	@scripts/setup test
	cargo build -p loom-server
	scripts/netem

check: ## formatting, lints, documentation, and the WebAssembly builds
	@scripts/setup serve
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
	scripts/wasm loom-core loom-hls
