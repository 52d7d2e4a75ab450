# Every target does its own set-up; `make demo` and `make test` are the two to know.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
VENV_ASCEND := .venv-ascend
MATRIX_VLLM ?= 0.27.1

.PHONY: demo test lint test-matrix test-ascend bench conformance qk-norm kernels-npu \
	demo-checkpoint clean

$(VENV)/.installed: pyproject.toml tools/cpu_setup.py
	$(PYTHON) tools/cpu_setup.py $(VENV)
	touch $@

demo: $(VENV)/.installed
	$(BIN)/bringup demo --build --output demo-report

test: lint
	$(BIN)/pytest

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The engine tests again on the oldest vLLM whose CPU build loads on this torch.
test-matrix:
	$(PYTHON) tools/cpu_setup.py .venv-vllm-$(MATRIX_VLLM) --vllm $(MATRIX_VLLM)
	.venv-vllm-$(MATRIX_VLLM)/bin/pytest -m engine

# Our assumptions about vllm-ascend, checked against the source in its published wheels, and its
# own Python run on the emulated torch_npu.
test-ascend: $(VENV_ASCEND)/.installed
	$(BIN)/python tools/fetch_vllm_ascend.py .vllm-ascend
	$(BIN)/pytest -m ascend
	$(VENV_ASCEND)/bin/python -m pytest tests/test_ascend_runtime

$(VENV_ASCEND)/.installed: $(VENV)/.installed tools/ascend_setup.py
	$(BIN)/python tools/ascend_setup.py $(VENV_ASCEND)
	touch $@

bench: $(VENV)/.installed
	$(BIN)/python -m vllm_ascend_bringup.tools.bench

# Every architecture that vLLM and transformers share, as a tiny fp8 model; ten minutes.
conformance: $(VENV)/.installed
	$(BIN)/python -m vllm_ascend_bringup.tools.conformance --output docs/conformance.md

# Models whose tensor-parallel ranks share KV heads, with and without the plugin; five minutes.
qk-norm: $(VENV)/.installed
	$(BIN)/python -m vllm_ascend_bringup.tools.qk_norm --output docs/qk-norm.md

# The Triton kernels through Ascend's compiler, as far as it goes without an NPU; one minute.
.venv-npu/.installed: tools/npu_setup.py
	$(PYTHON) tools/npu_setup.py .venv-npu
	touch $@

kernels-npu: .venv-npu/.installed
	.venv-npu/bin/python -m vllm_ascend_bringup.tools.kernels_npu --output docs/kernels-npu.md

# Trains the demo checkpoint again; the result is committed, so this is rarely needed.
demo-checkpoint: $(VENV)/.installed
	$(BIN)/python -m vllm_ascend_bringup.tools.demo.build_checkpoint

clean:
	rm -rf .venv .venv-npu .venv-ascend .venv-vllm-* .vllm-ascend demo-report build dist *.egg-info
