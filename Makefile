# SPDX-License-Identifier: Apache-2.0
.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV := .venv/bin

.PHONY: $(shell sed -n 's/^\([a-z][a-z -]*\):.*## .*/\1/p' $(MAKEFILE_LIST))

help:  ## What can be made
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

install:  ## System packages and .venv
	@tools/install

demo: install  ## From nothing to a LightOS volume in use on a real kernel (KEEP=1 leaves it running)
	@$(VENV)/python -m demo $(if $(KEEP),--keep)

demo-page: install-page  ## A node stopped on the lab's page, in headless Chromium, while `make demo KEEP=1` runs
	@$(VENV)/python -m demo.page

demo-down: install  ## End what `make demo KEEP=1` left running
	@$(VENV)/python -m demo --down

demo-nova: install-cloud  ## Instances on LightOS volumes, on two compute hosts with libvirt, and a live migration
	@$(VENV)/python -m demo.nova

install-cloud:  ## What `make cloud` needs beside
	@tools/install cloud

cloud: install-cloud  ## Keystone, Glance and Cinder with the lab behind them, left running, and an openrc (NOVA=1 adds two compute hosts)
	@$(VENV)/python -m testbed.cloud $(if $(NOVA),--nova)

cloud-down: install-cloud  ## End what `make cloud` left running
	@$(VENV)/python -m testbed.cloud --down

tempest: install-cloud  ## tests/cloud and OpenStack's own tempest, against a cloud of their own (NOVA=1: those that make instances, on compute hosts)
	@$(VENV)/python -m tests.tempest $(if $(NOVA),--nova)

test: lint  ## Every check and test, but for the tests that are marked nightly
	@$(VENV)/python -m tests.run --quick unit contract integration kernel defects model fuzz

test-nightly: install  ## The longer tests that `make test` leaves out
	@$(VENV)/python -m tests.run --nightly unit integration kernel

test-ha: install-cloud  ## Several cinder-volumes as one back end, with etcd and with Redis: crashes, restarts
	@$(VENV)/python -W ignore -m tests.run ha

test-nova: install-cloud  ## Instances on LightOS volumes: real Nova, libvirt and QEMU on two real kernels
	@$(VENV)/python -W ignore -m tests.run nova

install-page:  ## The browser that `make test-page` and `make screenshots` drive (Debian)
	@tools/install page

test-page: install-page  ## The lab's web page in headless Chromium
	@$(VENV)/python -m tests.run page

install-package:  ## What `make package` needs beside (Debian, Ubuntu)
	@tools/install package

package: install-package  ## sdist, wheel, SBOM, and the Debian package of the discovery client, in dist/
	@$(VENV)/python -m release

test-package: install-package  ## What `make package` makes, installed and taken away again, on each Python that there is
	@$(VENV)/python -W ignore -m tests.run package

test-package-quick: install-package  ## The same without the Debian package on a host of its own
	@$(VENV)/python -W ignore -m tests.run --quick package

night: install  ## All that takes too long for CI, one after the other, for some hours
	@status=0; \
	$(MAKE) --keep-going test-nightly test-ha tempest test-nova test-package model fuzz soak || status=$$?; \
	$(MAKE) tempest NOVA=1 || status=$$?; \
	exit $$status

screenshots: install-page  ## The pictures of the lab's web page in docs/, taken anew
	@$(VENV)/python -m demo.screenshots

lint: install  ## Style, types, layering, shell, release notes
	@$(VENV)/ruff check .
	@$(VENV)/ruff format --check .
	@$(VENV)/mypy
	@$(VENV)/lint-imports
	@$(VENV)/reno --quiet lint
	@$(VENV)/shellcheck --external-sources .ci/run tools/install \
		devstack/plugin.sh devstack/settings devstack/override-defaults tests/integration/devstack/*.sh

unit contract integration kernel: install  ## One kind of tests
	@$(VENV)/python -m tests.run $@

defects: install  ## The known defects of OpenStack's own driver and connector, looked for in them and in ours
	@$(VENV)/python -W ignore -m bench.defects

model: install  ## Nightly: 10,000 random operations, faults and crashes (STEPS=500, SEED=what a run printed)
	@$(VENV)/python -W ignore -m tests.model.run --steps $(or $(STEPS),10000) $(if $(SEED),--seed $(SEED))

fuzz: install  ## A million malformed PDUs, 100,000 lines and log pages: codec, target, discovery client (PDUS=, LINES=, SEED=)
	@$(VENV)/python -m tests.fuzz.run --pdus $(or $(PDUS),1000000) --lines $(or $(LINES),100000) $(if $(SEED),--seed $(SEED))

soak: install-cloud  ## 500 volumes, files and nodes that come and go for 10 minutes, on a real kernel (SECONDS=600, SEED=what a run printed)
	@$(VENV)/python -W ignore -m tests.soak --seconds $(or $(SECONDS),600) $(if $(SEED),--seed $(SEED))

bench: install-cloud  ## Our Cinder driver beside cinder's own (PARTS="operations throughput" for some, PARTS=images, only when named, starts a cloud)
	@$(VENV)/python -W ignore -m bench.cinder $(PARTS)

bench-host: install-cloud  ## Our os-brick connector beside os-brick's own, on a kernel host with our discovery client
	@$(VENV)/python -W ignore -m bench.host

bench-lab: install  ## Data path of the lab beside a kernel target in RAM
	@$(VENV)/python -m bench.lab

paths: install  ## A volume in use on a real kernel while its paths fail: stalls, errors, data; kept for the documentation
	@$(VENV)/python -m bench.paths

docs: install  ## The driver guide and all else under docs/, as HTML, and the manual page lightos.1
	@$(VENV)/sphinx-build -q -W -E -b html -d docs/_build/doctrees docs docs/_build/html
	@$(VENV)/sphinx-build -q -W -b man -d docs/_build/doctrees docs docs/_build/man

sample: install  ## The sample configuration file in docs/, made anew of the options
	@$(VENV)/oslo-config-generator --config-file docs/samples/generate.conf

clean:  ## Remove .venv and caches
	rm -rf .venv .cache docs/_build .mypy_cache .ruff_cache .pytest_cache .hypothesis
