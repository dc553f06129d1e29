# pgexport: `make help` lists the targets.
SHELL := /bin/bash
export CARGO_TARGET_DIR := $(CURDIR)/target
STATE := $(abspath $(or $(PGEXPORT_STATE),.state))
export PGEXPORT_STATE := $(STATE)

.DEFAULT_GOAL := help
.PHONY: help quickstart quickstart-local quickstart-down test lint unit build image generate generate-check \
        cluster-up cluster-down peers-up peers-down lab-up lab-down clean

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

quickstart: ## From nothing to exported files on a real local Kubernetes.
	@e2e/quickstart/quickstart.sh up

quickstart-local: ## The same sample data without a cluster: `pgexport run` into a folder.
	@e2e/quickstart/quickstart.sh local

quickstart-down: ## Remove what quickstart and quickstart-local started.
	@e2e/lab.sh down

test: ## Formats, lints, unit, integration, chart and end-to-end tests.
	@e2e/test.sh

lint: ## Formats and lints.
	@e2e/lint.sh

unit: ## Tests that need no server.
	cargo test --workspace --lib --bins

# The whole workspace, always: a part of it would be built with other features of the dependencies, and so built again.
build: ## The pgexport binary and the peers' tool, optimised. FEATURES=failpoints: for tests, see CONTRIBUTING.md.
	cargo build --release --locked --workspace --bins $(if $(FEATURES),--features $(FEATURES))

image: build ## The container image, as an archive: ENGINE=buildah|docker, TAG=localhost/pgexport:dev.
	@BINARY=$${BINARY:-target/release/pgexport} image/build.sh

generate: build ## Write what is made from the code: crds/, the chart's copies, docs/reference/.
	@mkdir -p docs/reference
	target/release/pgexport crds --output-dir crds
	target/release/pgexport crds --output-dir charts/pgexport/files/crds
	for page in api reasons exit-codes; do target/release/pgexport reference $$page >docs/reference/$$page.md || exit 1; done

generate-check: generate ## Fail if what is made from the code is stale.
	@git diff --exit-code --stat -- crds charts/pgexport/files/crds docs/reference || \
	  { echo "these files are stale: run make generate and commit" >&2; exit 1; }

cluster-up: ## A real local Kubernetes (see e2e/cluster/README.md).
	@e2e/prerequisites.sh && e2e/cluster/build.sh && $(STATE)/bin/cluster preflight && \
	  $(STATE)/bin/cluster up --publish 5432 --publish 7070

cluster-down: ## Stop it.
	@$(STATE)/bin/cluster down

peers-up: ## PostgreSQL and S3 on loopback, for the engine's integration tests without a cluster.
	@e2e/prerequisites.sh peers && $(MAKE) --no-print-directory build && target/release/peers up

peers-down: ## Stop them.
	@target/release/peers down

lab-up: ## Cluster, peers, sample data and operator: what the end-to-end tests run against.
	@e2e/lab.sh up

lab-down: ## Stop the lab.
	@e2e/lab.sh down

clean: lab-down ## Stop the lab, and remove its state and builds.
	rm -rf $(STATE) target
