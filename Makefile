# The ways into this tree. The work is done by the scripts in tools/ and by tests/vm/vm; nothing is installed by hand.

.DEFAULT_GOAL := help
.PHONY: help build demo test test-long bench fmt clippy tidy unit e2e crash oci escapes vm vm-selftest vm-shell clean

help: ## this list
	@sed -n 's/^\([a-z0-9 -]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | awk -F'\t' '{ printf "make %-29s %s\n", $$1, $$2 }'

build: ## the binary: target/x86_64-unknown-linux-gnu/release/tare
	tools/setup build
	cargo build --release --locked -p tare

demo: ## install what is missing, build, and show what tare does, with a real Debian image
	tools/setup demo
	cargo build --release --locked -p tare
	tools/demo

test: ## everything that must pass before a change lands, each stage timed
	tools/stages

test-long: ## the tests that take long, and the proof of the virtual machine's harness
	tools/stages setup build long harness crash

bench: ## measure against crun, podman and docker
	tools/setup bench
	cargo build --release --locked -p tare
	benches/run

fmt clippy tidy unit e2e crash oci escapes vm: ## one stage of `make test`
	tools/stages $(if $(filter e2e crash oci escapes vm,$@),build) $@ $(if $(filter oci,$@),oci-runc oci-fields)

vm-selftest: ## prove the virtual machine's harness on both kernels
	tests/vm/vm selftest

clean: ## remove what cargo built; the cache of images and kernels stays
	cargo clean
