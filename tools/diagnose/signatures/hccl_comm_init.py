# SPDX-License-Identifier: Apache-2.0
"""The communicator cannot be created."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Says, Signature

SIGNATURE = Signature(
    id="hccl-comm-init",
    title=Text("The HCCL communicator cannot be created", "无法创建 HCCL 通信域"),
    actions=(
        Text(
            "Check ASCEND_RT_VISIBLE_DEVICES and which rank uses which card; a container "
            "must see every card of the job",
            "检查 ASCEND_RT_VISIBLE_DEVICES 以及 rank 与卡的对应关系；"
            "容器必须能看到任务用到的所有卡",
        ),
        Text(
            "Read the device log (~/ascend/log) for the error below the code",
            "查看设备日志（~/ascend/log），找到该错误码背后的具体错误",
        ),
    ),
    patterns=(
        Pattern("transport init error", says=Says.WHAT),
        # Any other of HCCL's own codes: parameters, resources, transport.
        Pattern("ei00", r"\bEI00(0[13579]|1[0-2]|1[5-8])\b", Says.CODE),
        Pattern("ei9999", r"\bEI9999\b", Says.GUESS),
        Pattern("hcclcomminit", r"hcclCommInit\w* fail", Says.WHAT),
        Pattern("hccl comm fail", r"(get|create) hccl comm fail", Says.CODE),
        Pattern("hcclcomminit", r"hcclCommInit\w*\(.*error code is \d+", Says.CODE),
        Pattern("hccl function error", says=Says.CODE),
        Pattern("getdeviceindexbyphyid", says=Says.WHAT),
        Pattern("device id error", says=Says.WHAT),
        # A rank without a card of its own.
        Pattern("local_world_size", r"local_world_size \(\d+\) must be", Says.WHAT),
        Pattern(
            "world_size",
            r"world_size \(\d+\) .{0,40}(less|exceed|greater|more).{0,40}\b(npu|device|card)",
            Says.WHAT,
        ),
        Pattern("provide a placement group", says=Says.WHAT),
        Pattern("no npu", r"\bno NPU (is )?(available|visible|found)", Says.WHAT),
        Pattern(
            "number of", r"required [NG]PUs exceeds the (total )?number of available", Says.WHAT
        ),
        Pattern("invalid device", r"Invalid device (ID|ordinal)\b", Says.WHAT),
        Pattern("distbackenderror", says=Says.GUESS),
        Pattern(
            "error:",
            r"^(Runtime|Value|Assertion)Error:",
            Says.GUESS,
            near=r"in (init_process_group|init_distributed_environment|init_worker_distributed\w*"
            r"|_init_worker_distributed_environment)\b",
        ),
        Pattern("ej0001", r"\bEJ0001\b"),
        Pattern("hccp", r"(initialize|init).*HCCP.*fail|HCCP.*(fail|error)", Says.WHAT),
        Pattern("err02200", r"\bERR02200\b", Says.CODE),
        Pattern("hcclgetrootinfo", r"HcclGetRootInfo.*(fail|error)", Says.CODE),
    ),
)
