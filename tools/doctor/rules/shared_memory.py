# SPDX-License-Identifier: Apache-2.0
"""/dev/shm is too small: ranks exchange work through it and die of a bus error when it is full.

Signals: its size and what is free. vLLM's executor has a queue of 10 chunks of 16 MiB for several
ranks; docker gives a container 64 MiB unless told, and vllm-ascend's guide asks for 1 GiB.
Source: vLLM's multiproc_executor.py and shm_broadcast.py (max_chunks, VLLM_MQ_MAX_CHUNK_BYTES_MB);
vllm-ascend's docs/source/installation.md.
"""

from collections.abc import Iterator

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.base import Evidence, Judgement, Rule, error, warning
from vllm_ascend_bringup.tools.doctor.facts import Request, Space
from vllm_ascend_bringup.tools.doctor.wording import GIB, MIB, size

_SIZE = GIB
_QUEUE = 10 * 16 * MIB
_LARGER = Text(
    "start the container with --shm-size=10g (--privileged=true if that is refused, which opens "
    "the host to it), or: mount -o remount,size=10g /dev/shm",
    "启动容器时加上 --shm-size=10g（如被拒绝，再加 --privileged=true，但这会放开对宿主机的访问），"
    "或执行 mount -o remount,size=10g /dev/shm",
)


def _judge(shared_memory: Space, request: Request) -> Iterator[Judgement]:
    at_least = Text("at least {size}", "不少于 {size}")
    if request.ranks > 1 and shared_memory.free < _QUEUE:
        what = Text(f"free in /dev/shm, for {request.ranks} ranks",
                    f"/dev/shm 可用空间（{request.ranks} 个 rank）")  # fmt: skip
        yield error(
            Evidence(what, size(shared_memory.free), at_least.format(size=size(_QUEUE))),
            do=(Text("remove files in /dev/shm that belong to servers which have ended",
                     "请删除 /dev/shm 中已结束的服务遗留的文件"), _LARGER),
        )  # fmt: skip
    elif shared_memory.total < _SIZE:
        what = Text("size of /dev/shm", "/dev/shm 大小")
        yield warning(
            Evidence(what, size(shared_memory.total), at_least.format(size=size(_SIZE))), do=_LARGER
        )


RULE = Rule("shared-memory", Text("shared memory", "共享内存"), _judge)
