# SPDX-License-Identifier: Apache-2.0
"""Environment variables of the server, each with its reason."""

from vllm_ascend_bringup.hardware import DEPLOYMENTS
from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.plan.base import Layout, Setting

# HCCL_BUFFSIZE of the guides with expert parallelism: its operators divide this buffer.
EXPERT_BUFFER_MIB = 1024
_RAY = "vllm-ascend docs: tutorials/features/ray.md"
_FAQ = "vllm-ascend docs: faqs.md"
_MOE = "vllm-ascend docs: tutorials/models/Qwen3-30B-A3B.md"
_TUNING = "vllm-ascend docs: developer_guide/performance_and_debug/optimization_and_tuning.md"


def issued_by_vector_cores(layout: Layout, device: str) -> bool:
    """Whether HCCL_OP_EXPANSION_MODE=AIV is set: by the guides on one node of A2 or A3."""
    return layout.ranks > 1 and layout.nodes == 1 and "dp" in DEPLOYMENTS[device].parallel


def environment(layout: Layout, device: str, devices: tuple[int, ...]) -> tuple[Setting, ...]:
    """``devices``: numbers of the NPUs on each node."""
    settings = [
        Setting("ASCEND_RT_VISIBLE_DEVICES", ",".join(map(str, devices)),
                Text("the NPUs that this server may use", "该服务可使用的 NPU"),
                "vllm_ascend/platform.py: device_control_env_var"),
    ]  # fmt: skip
    if layout.nodes > 1:
        settings += _between_nodes(layout)
    if "dp" not in DEPLOYMENTS[device].parallel:
        return tuple(settings)
    settings.append(
        Setting("PYTORCH_NPU_ALLOC_CONF", "expandable_segments:True",
                Text("less fragmentation of the card's memory", "减少显存碎片"), _FAQ)
    )  # fmt: skip
    if layout.ranks > 1:
        threads = Text("one thread for each rank's operators on the host, else ranks contend for "
                       "its cores",
                       "每个 rank 在主机侧只用一个线程，避免多个 rank 争用 CPU 核")  # fmt: skip
        bind = Text("vllm-ascend binds cores itself", "由 vllm-ascend 自行绑核")
        settings += [
            Setting("OMP_NUM_THREADS", "1", threads, _MOE),
            Setting("OMP_PROC_BIND", "false", bind, _MOE),
        ]
    if issued_by_vector_cores(layout, device):
        reason = Text("the vector cores issue collectives, which takes fewer streams",
                      "由 AI Vector 核下发集合通信，占用更少的 stream")  # fmt: skip
        settings.append(Setting("HCCL_OP_EXPANSION_MODE", "AIV", reason, _TUNING))
    if layout.expert_parallel:
        reason = Text("operators of expert parallelism share this buffer, in MiB",
                      "专家并行算子共用该缓冲区，单位 MiB")  # fmt: skip
        settings.append(Setting("HCCL_BUFFSIZE", str(EXPERT_BUFFER_MIB), reason, _MOE))
    return tuple(settings)


def _between_nodes(layout: Layout) -> list[Setting]:
    network = Text("the network between the nodes", "节点间通信所用的网络")
    names = {"HCCL_IF_IP": "$LOCAL_IP", "GLOO_SOCKET_IFNAME": "$NIC", "TP_SOCKET_IFNAME": "$NIC"}
    if not layout.ray:
        names["HCCL_SOCKET_IFNAME"] = "$NIC"
    settings = [Setting(name, value, network, _RAY) for name, value in names.items()]
    if layout.ray:
        reason = Text("Ray must not divide the NPUs among processes itself",
                      "不由 Ray 为进程划分 NPU")  # fmt: skip
        name = "RAY_EXPERIMENTAL_NOSET_ASCEND_RT_VISIBLE_DEVICES"
        settings.append(Setting(name, "1", reason, _RAY))
    return settings
