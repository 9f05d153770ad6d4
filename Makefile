# Every target sets up what it needs: a virtual environment in .venv with the pinned requirements.
#
#   make demo    from nothing to an answered request, on real data
#   make test    from nothing to a green test suite
#   make test-model-server  the client's tests against a real tensorflow_model_server: that on PATH,
#                or CTR_MODEL_SERVER=/path/to/it
#   make flink-test  preparation on a Flink cluster on this machine (Java 17, and Maven or FLINK_JARS)
#   make spark-test  the same on a Spark cluster (Java 17, and Maven or SPARK_JARS)
#   make tables  the tables and plots of pipeline/experiments/README.md, from their records
#   make check   formatting, lint and the direction of imports
#
# PYTHON=/path/to/python3.12 picks the interpreter for the virtual environment (3.11 to 3.13).

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do command -v $$p && break; done)
JAX := jax==0.10.2
INSTALLED := $(VENV)/.installed
INSTALLED_TEST := $(VENV)/.installed-test
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: setup demo test test-slow test-model-server flink-test spark-test tables check format lock clean

setup: $(INSTALLED)

# The stamp is written last: an interrupted installation starts again, a finished one is skipped.
$(INSTALLED): requirements.txt constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	  || { echo "error: Python 3.11 to 3.13 is needed, $(PYTHON) is $$($(PYTHON) --version)"; exit 2; }
	@if command -v uv >/dev/null; then \
	  uv venv --quiet --allow-existing --python $(PYTHON) $(VENV) && \
	  uv pip install --quiet --python $(BIN)/python -r requirements.txt -c constraints.txt; \
	else \
	  $(PYTHON) -m venv $(VENV) && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -c constraints.txt; \
	fi
	@touch $@

# The JAX backend, for the test that runs every model on it.
$(INSTALLED_TEST): $(INSTALLED) Makefile
	@if command -v uv >/dev/null; then \
	  uv pip install --quiet --python $(BIN)/python $(JAX) -c constraints.txt; \
	else \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check $(JAX) -c constraints.txt; \
	fi
	@touch $@

demo: $(INSTALLED)
	@$(BIN)/python -m pipeline demo

test: $(INSTALLED_TEST)
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: $(INSTALLED_TEST)
	$(BIN)/python -m pytest -m slow

# Flink or Spark with Beam's job server, from Maven Central; FLINK_JARS=/folder takes given ones.
FLINK_JARS ?= $(abspath $(VENV)/flink-jars)
SPARK_JARS ?= $(abspath $(VENV)/spark-jars)

$(VENV)/%-jars: tests/%/pom.xml | $(INSTALLED)
	@mvn --batch-mode --quiet --file $< dependency:copy-dependencies -DoutputDirectory=$(abspath $@.part)
	@rm -rf $@ && mv $@.part $@ && touch $@

flink-test: $(INSTALLED) $(if $(filter $(abspath $(VENV))/%,$(FLINK_JARS)),$(VENV)/flink-jars)
	CTR_FLINK_JARS=$(FLINK_JARS) $(BIN)/python -m pytest -m flink tests/flink

spark-test: $(INSTALLED) $(if $(filter $(abspath $(VENV))/%,$(SPARK_JARS)),$(VENV)/spark-jars)
	CTR_SPARK_JARS=$(SPARK_JARS) $(BIN)/python -m pytest -m spark tests/spark

test-model-server: $(INSTALLED_TEST)
	@server=$${CTR_MODEL_SERVER:-$$(command -v tensorflow_model_server)}; [ -x "$$server" ] || { \
	  echo "error: no tensorflow_model_server on PATH; set CTR_MODEL_SERVER=/path/to/it"; exit 2; }; \
	CTR_MODEL_SERVER="$$server" $(BIN)/python -m pytest tests/serving/test_client.py

tables: $(INSTALLED)
	@$(BIN)/python -m pipeline.experiments.readme

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python -m pytest -q tests/test_imports.py

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Renews the full lock after a change of requirements.txt (needs uv).
lock:
	echo $(JAX) | uv pip compile --quiet --universal --python-version 3.11 --no-annotate --no-header \
	  requirements.txt - -o constraints.txt

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache runs models_repository
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
