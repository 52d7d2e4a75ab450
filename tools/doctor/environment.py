# SPDX-License-Identifier: Apache-2.0
"""The environment variables that rules read. Others, which may hold secrets, are not gathered."""

from collections.abc import Mapping

from vllm_ascend_bringup.settings import PREFIX

NAMES = (
    "ASCEND_HOME_PATH", "ASCEND_LAUNCH_BLOCKING", "ASCEND_RT_VISIBLE_DEVICES",
    "ASCEND_TOOLKIT_HOME", "ATB_HOME_PATH", "ATB_LLM_LCOC_ENABLE", "ATB_MATMUL_SHUFFLE_K_ENABLE",
    "HCCL_BUFFSIZE", "HCCL_CONNECT_TIMEOUT", "HCCL_DETERMINISTIC", "HCCL_EXEC_TIMEOUT",
    "HCCL_HOST_SOCKET_PORT_RANGE", "HCCL_IF_BASE_PORT", "HCCL_OP_EXPANSION_MODE",
    "LCCL_DETERMINISTIC", "LD_LIBRARY_PATH", "LD_PRELOAD", "MINDIE_LLM_HOME_PATH",
    "OMP_NUM_THREADS", "PYTHONPATH", "PYTORCH_ALLOC_CONF", "PYTORCH_NPU_ALLOC_CONF",
    "VLLM_ASCEND_ENABLE_FLASHCOMM1", "VLLM_ENGINE_READY_TIMEOUT_S", "VLLM_PLUGINS", "VLLM_VERSION",
)  # fmt: skip


def read_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Those of ours and those above that are set."""
    return {
        name: value
        for name, value in sorted(environ.items())
        if name in NAMES or name.startswith(PREFIX)
    }
