# Where commands run is found out (docker/runner.sh) and can be forced: RUNNER=docker|local, GPU=1|0.
# ARGS="…" passes flags on. Any setting of .env.example can be given here too: make train ALPHA=0.05

.DEFAULT_GOAL := help
VENV := .venv/.installed
PYTHON_IN_VENV := .venv/bin/python
COMMANDS := train serve access data sample prefetch calibrate evaluate experiments predict bundle bench cache shell

train:       ## from a folder of pictures (DATA_DIR, or a sample set) to a bundle
serve:       ## the web page and the HTTP API on http://127.0.0.1:7860
access:      ## a key for somebody, if not all may ask: make access ARGS=alice >>keys
predict:     ## answer pictures: make predict ARGS="car.jpg"
evaluate:    ## measure a bundle on the test split
calibrate:   ## calibrate a bundle again
bundle:      ## ARGS=check: are a bundle's files and answers as where it was made?
experiments: ## compare every head, space, score and taxonomy
prefetch:    ## pretrained weights, and the sample set where there is no data
data:        ## ARGS=check: what is in a folder, and wrong with it; ARGS=split: write its splits down
sample:      ## drawn pictures with labels: make sample DATA_DIR=./vehicles ARGS="--size 500"
bench:       ## the speed of this machine beside its bounds; ARGS=training, serve, conformal, data
cache:       ## what the cache holds; ARGS="--prune 30": remove what nobody used for 30 days
shell:       ## a shell where the commands run

$(COMMANDS):
	@docker/app.sh $@ $(ARGS)

doctor: ## what was found here, what is chosen by it, and what to do about what is missing
	@docker/doctor.sh $(ARGS)

test: $(VENV) ## the tests this machine can run, and which it could not, and why
	@$(PYTHON_IN_VENV) -m pytest $(ARGS)

peers: $(VENV) ## other libraries of conformal prediction, to test and time ours beside them
	@docker/venv.sh peers

lint: $(VENV) ## Python, shell scripts, Dockerfile, compose files and workflow
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check
	@.venv/bin/mypy
	@PATH="$$PWD/.venv/bin:$$PATH"; if command -v shellcheck >/dev/null; then shellcheck -x $(SCRIPTS); \
	else echo "There is no shellcheck for this machine: the shell scripts were not checked."; fi
	@.venv/bin/hadolint docker/Dockerfile
	@.venv/bin/compose-lint check --strict-config --fail-on low --skip-suppressed compose.yaml
	@.venv/bin/zizmor --offline --quiet .github/workflows

build: ## the image
	@docker/compose.sh build $(ARGS)

config: ## the compose file as it is used here
	@docker/compose.sh config $(ARGS)

logs: ## what the containers said
	@docker/compose.sh --profile '*' logs $(ARGS)

clean: ## remove the containers and, if you then say yes, the volumes with all that is in them
	@docker/clean.sh

down: ## stop and remove the containers; the volumes stay
	@docker/compose.sh --profile '*' down --remove-orphans $(ARGS)

SCRIPTS := $(wildcard docker/*.sh) docker/entrypoint .ci/run .ci/stand-in-base

$(VENV): requirements.txt
	@docker/venv.sh

help: ## this list
	@awk -F ' *## *' '/^[a-z]+:.*## / { sub(/:.*/, "", $$1); printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: $(COMMANDS) doctor test peers lint build config logs clean down help
