# Everything is set up and run from here; `make` alone says what there is.
# The environment is .venv, or any other: make test VENV=/path/to/venv (blanks are fine).
# Targets are commands, not files, so that no path needs to be written in make's own language, which knows no blanks.

SHELL := /bin/bash
VENV := .venv
PY = "$(VENV)/bin/python"
export PYTHONPATH := $(CURDIR)

.DEFAULT_GOAL := help
.PHONY: help env tesseract demo test test-real lab notebooks bench fonts networks

help: ## this list
	@echo "make demo       set up, run the main job on generated parts, and say where the report site is"
	@echo "make test       set up, run every notebook test and pytest"
	@echo "make env        only set up: environment in .venv, or in VENV=…"
	@echo "make lab        JupyterLab on the notebooks"
	@echo "make notebooks  execute the notebooks whose outputs are older than their code, and export the package"
	@echo "make test-real  tests on the whole of the real data sets, minutes each"
	@echo "make bench      speed and accuracy, written to tests/benchmarks/table.md"
	@echo "make fonts      install the fonts with which the networks and the examination of marked metal were made (root, Debian or Ubuntu)"
	@echo "make networks   train the two networks that read marks anew, hours; an interrupted training goes on"

# Installs again only when what it reads has changed, or when a checkout with its own environment was moved.
env:
	@case "$(VENV)" in /*) here= ;; *) here=$$PWD ;; esac; \
	want="$$( (cat settings.ini constraints.txt setup.py; echo "$$here") | cksum)"; \
	if [ "$$(cat "$(VENV)/partvision.stamp" 2>/dev/null)" = "$$want" ] && [ -x $(PY) ]; then exit 0; fi; \
	if ! $(PY) -c '' 2>/dev/null; then \
		if [ -n "$$(ls -A "$(VENV)" 2>/dev/null)" ] && [ ! -f "$(VENV)/pyvenv.cfg" ]; then \
			echo "$(VENV) holds files but no environment; name another place with make env VENV=…" >&2; exit 1; \
		fi; \
		python=; half=; \
		for p in python3.11 python3.12 python3.13 python3; do \
			$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || continue; \
			half=$$p; $$p -c 'import venv, ensurepip' 2>/dev/null || continue; \
			python=$$p; break; \
		done; \
		if [ -z "$$python" ]; then \
			if [ -n "$$half" ]; then echo "$$half has no venv: install it (Debian, Ubuntu: apt-get install $$($$half -c 'import sys; print("python3.%d" % sys.version_info[1])')-venv) and try again." >&2; \
			else echo "Python 3.11 is missing (3.12 and 3.13 do as well): install it with venv (Debian, Ubuntu: apt-get install python3.11 python3.11-venv) and try again." >&2; fi; \
			exit 1; \
		fi; \
		echo "Environment $(VENV) from $$($$python --version)"; \
		$$python -m venv --clear "$(VENV)" || exit 1; \
	fi; \
	if ! $(PY) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))'; then \
		echo "$(VENV) is an environment of $$($(PY) --version), which must be 3.11 (3.12 and 3.13 do as well); name another with VENV=…" >&2; exit 1; \
	fi; \
	if ! $(PY) -m pip --version >/dev/null 2>&1 && ! $(PY) -m ensurepip >/dev/null 2>&1; then \
		echo "$(VENV) has no pip and none could be put there; delete it and try again" >&2; exit 1; \
	fi; \
	echo "Installing into $(VENV): 7 GB and some minutes the first time; details go to $(VENV)/install.log"; \
	set -o pipefail; $(PY) -m pip install --disable-pip-version-check --progress-bar off -c constraints.txt -e ".[all]" 2>&1 | tee "$(VENV)/install.log" \
		| { grep --line-buffered -oE '^ +Downloading \S+ \([0-9]{3,}[.0-9]* [MG]B\)|^Installing collected packages' || true; } || \
		{ grep -E '^ERROR: ' "$(VENV)/install.log" | cut -c -300 | tail -n 3 >&2; \
		echo "The packages were not installed; with a network and 10 GB free, the same command goes on." >&2; exit 1; }; \
	$(PY) -m jupyter kernelspec install --sys-prefix --log-level=ERROR partvision/jupyter/kernels/partvision-warm || exit 1; \
	echo "$$want" > "$(VENV)/partvision.stamp"

tesseract:
	@command -v tesseract >/dev/null && exit 0; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing Tesseract"; \
		(apt-get -qq update; DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends tesseract-ocr) >/dev/null 2>&1; \
	fi; \
	command -v tesseract >/dev/null || \
		echo "Tesseract is not installed; going on without it. To have it: sudo apt-get install tesseract-ocr (Debian, Ubuntu), sudo dnf install tesseract (Fedora), brew install tesseract (macOS)."

demo: env tesseract
	@"$(VENV)/bin/partvision" demo

# Two notebooks at a time, each on one thread; pytest runs even if a notebook failed, and its summary comes last.
test: env
	@status=0; \
	OMP_NUM_THREADS=1 $(PY) tests/notebooks.py --test || status=1; \
	$(PY) -m pytest || status=1; \
	exit $$status

test-real: env
	@$(PY) -m pytest -m "real or slow"

lab: env
	@$(PY) -m jupyterlab $$([ "$$(id -u)" = 0 ] && echo --allow-root) --notebook-dir nbs

notebooks: env
	@$(PY) tests/notebooks.py && $(PY) -c "from nbdev.doclinks import nbdev_export; nbdev_export()"

bench: env
	@for f in tests/benchmarks/bench_*.py; do echo "$$f"; $(PY) "$$f" || exit 1; done

# What marks are drawn with, as Debian packages: with others, generated plates differ. One family in six is for examinations only.
FONTS := 3270 adf-gillius adf-mekanus adf-solothurn adf-switzera adf-universalis adf-verana agave allerta anonymous-pro averia-sans-gwf b612 bebas-neue cabin cantarell \
	clear-sans comfortaa courier-prime croscore dejavu dosis firacode freefont-ttf go hack inconsolata inter jetbrains-mono junction jura karla lato league-mono \
	liberation manrope millimetre monoid mononoki national-park noto-mono ocr-a ocr-b open-sans osifont oxygen paratype play quicksand roadgeek roboto roboto-slab \
	routed-gothic sil-andika sora stix texgyre tiresias tuffy ubuntu-title urw-base35 yanone-kaffeesatz

fonts:
	@apt-get -qq update; DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $(FONTS:%=fonts-%) >/dev/null || \
		{ echo "The fonts were not installed: run this as root on Debian or Ubuntu, or install these in another way: $(FONTS)" >&2; exit 1; }

# Weights like the shipped ones, by the recipe that made those, put in order (one set of plates for all stages): a small recogniser that grows twice and is kept halfway through its last stage; the finder of lines. Four hours or more on 2 cores. The generator was still improved between those stages, so the weights will not be the very same.
networks: env
	@"$(VENV)/bin/partvision" synth plates data/plates -n 120000 --seed 8 --kinds stamped,embossed,dot-peen,dot-matrix,laser,engraved,printed,stamped,dot-peen,engraved,dot-peen,engraved && \
	$(PY) -c "from partvision.ocr.recogniser import train_recogniser; train_recogniser('data/plates', 'data/networks/recogniser', seed=4)" && \
	$(PY) -c "from partvision.ocr.detector import make_scenes, train_detector; train_detector(make_scenes('data/scenes', 14000, 12), 'data/networks/detector', epochs=12)" && \
	cp data/networks/*/recogniser.* data/networks/*/detector.* partvision/ocr/weights/
