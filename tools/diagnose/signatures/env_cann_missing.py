# SPDX-License-Identifier: Apache-2.0
"""No platform: CANN, NNAL or the plugin cannot be imported."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Says, Signature

SIGNATURE = Signature(
    id="env-cann-missing",
    title=Text(
        "CANN, NNAL or the Ascend plugin cannot be imported", "无法导入 CANN、NNAL 或昇腾插件"
    ),
    actions=(
        Text(
            "Source set_env.sh of the CANN toolkit and of nnal/atb in the shell that starts vLLM",
            "在启动 vLLM 的同一个终端里执行 CANN toolkit 和 nnal/atb 的 set_env.sh",
        ),
        Text(
            "Run `npu-smi info`, then import torch, torch_npu, vllm one by one; the first "
            "that fails is the missing piece",
            "先执行 `npu-smi info`，再逐个导入 torch、torch_npu、vllm，最先失败的就是缺失的部分",
        ),
        Text(
            "Check that vllm-ascend is installed in the interpreter that runs vLLM: "
            "`python -m pip show vllm-ascend`",
            "确认 vllm-ascend 装在运行 vLLM 的解释器里：`python -m pip show vllm-ascend`",
        ),
    ),
    patterns=(
        Pattern(
            "ascend_opp_path",
            r"ASCEND_OPP_PATH.*(not set|not found|is empty|fail)|(KeyError: '|get |not set"
            r"|unset).*ASCEND_OPP_PATH.*(fail|not|empty|')",
        ),
        Pattern("backend extension: torch_npu", says=Says.WHAT),
        Pattern("npu is not available", says=Says.WHAT),
        # Libraries of the driver, the toolkit, its operator packages, HCCL and NNAL.
        Pattern(
            "cannot open shared object file",
            r"\b(lib)?(ascend|acl|hccl|hcom|hccp|atb|mki|asdops|lcal|ge_|graph|exe_graph"
            r"|flow_graph|metadef|opapi|opmaster|opskernel|cust_opapi|runtime|nnopbase|msprof"
            r"|profapi|error_manager|register|platform|op_compile|optiling|te_fusion|tiling"
            r"|aicpu|cann|cce|c_sec|dcmi|drv|devmm|tsd|mmpa|slog|alog|unified_dlog|adxl|hixl"
            r"|llm_datadist|memfabric|mf_|mindie|npu_|torch_npu)\w*\.so",
        ),
        Pattern(
            "cannot open shared object file",
            r": cannot open shared object file",
            Says.GUESS,
            near=r"/(vllm_ascend|torch_npu|mooncake|mindie\w*|atb_llm)/",
        ),
        Pattern(
            "no module named",
            r"No module named '?(torch_npu|vllm_ascend|acl|aclruntime|te|tbe|hccl"
            r"|torch_atb)'?(\s|$|\")",
        ),
        Pattern(
            "ascend_home_path",
            r"(KeyError: '|not set|unset|not found).*ASCEND_HOME_PATH"
            r"|ASCEND_HOME_PATH.*(is not set|not found|is empty)",
        ),
        Pattern(
            "atb_home_path",
            r"KeyError: 'ATB_HOME_PATH'|ATB_HOME_PATH.*(not set|not found|is empty)",
        ),
        Pattern("failed to infer device type", says=Says.WHAT),
        Pattern("device string must not be empty", says=Says.WHAT),
        Pattern("check that the cann package is installed", says=Says.WHAT),
        Pattern("source set_env.sh", r"please run 'source set_env\.sh'", says=Says.WHAT),
        Pattern("'torch' has no attribute 'npu'", says=Says.WHAT),
    ),
)
