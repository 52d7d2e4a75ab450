# SPDX-License-Identifier: Apache-2.0
"""What several nodes need: Ray where one model is on all of them, a command each where not."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.plan.base import Layout, Recipe, Setting

_RAY_PORT, _RPC_PORT = 6379, 13389


def ray_cluster(environment: tuple[Setting, ...]) -> Recipe:
    """The variables come first: Ray hands on what it was started with."""
    exports = tuple(f"export {setting.name}={setting.value}" for setting in environment)
    lines = (
        "# on every node; LOCAL_IP and NIC are its own, HEAD_IP is the first node's", *exports,
        "# on the first node", f"ray start --head --port={_RAY_PORT} --node-ip-address=$LOCAL_IP",
        "# on each other node",
        f"ray start --address=$HEAD_IP:{_RAY_PORT} --node-ip-address=$LOCAL_IP",
        "# on the first node: all nodes and NPUs are there", "ray status",
    )  # fmt: skip
    note = Text("start Ray again when a variable changes; serve on the first node only",
                "环境变量变更后须重启 Ray；仅在首节点执行部署命令")  # fmt: skip
    return Recipe("ray", Text("Ray cluster", "Ray 集群"), lines, note)


def node_flags(layout: Layout, node: int) -> tuple[str, ...]:
    """More flags of `vllm serve` on this node, where data-parallel ranks are on several."""
    if layout.nodes == 1 or layout.ray:
        return ()
    local = layout.dp // layout.nodes
    flags = [
        "--data-parallel-size-local", str(local), "--data-parallel-address", "$HEAD_IP",
        "--data-parallel-rpc-port", str(_RPC_PORT),
    ]  # fmt: skip
    if node:
        flags += ["--data-parallel-start-rank", str(node * local), "--headless"]
    return tuple(flags)
