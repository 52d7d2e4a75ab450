# SPDX-License-Identifier: Apache-2.0
"""More threads than cores: ranks take turns, and loading a large model takes hours.

Signals: OMP_NUM_THREADS and VLLM_ASCEND_BRINGUP_THREADS, each times the ranks of this machine,
against the cores of this process. Unset is right: vLLM then gives each rank its share.
Source: MindIE's FAQ (OMP_NUM_THREADS=1 took one load from three hours to ten minutes); vLLM's
multiproc_executor.py.
"""

from collections.abc import Iterator, Mapping

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.settings import PREFIX
from vllm_ascend_bringup.tools.doctor.base import Evidence, Judgement, Rule, error, warning
from vllm_ascend_bringup.tools.doctor.facts import Request

_OMP, _OWN = "OMP_NUM_THREADS", f"{PREFIX}THREADS"


def _judge(environ: Mapping[str, str], cores: int, request: Request) -> Iterator[Judgement]:
    for name in (_OMP, _OWN):
        value = environ.get(name, "")
        # OpenMP takes a list for nested regions; the first is that of the outer one.
        first = value.split(",")[0].strip()
        if not value or (name == _OWN and not first.isdecimal()):  # plugin-settings judges ours
            continue
        if not first.isdecimal() or int(first) == 0:
            expected = Text("a positive whole number", "正整数")
            yield error(
                Evidence(name, value, expected),
                do=Text("export OMP_NUM_THREADS=1", "执行 export OMP_NUM_THREADS=1"),
            )
        elif int(first) * request.ranks > cores:
            share = max(1, cores // request.ranks)
            yield warning(
                Evidence(Text(f"{name} x ranks", f"{name} × rank 数"),
                         f"{first} x {request.ranks} = {int(first) * request.ranks}",
                         Text(f"at most {cores}, the cores", f"不超过核数 {cores}")),
                do=Text(f"export {name}={1 if name == _OMP else share}",
                        f"执行 export {name}={1 if name == _OMP else share}"),
            )  # fmt: skip


RULE = Rule("omp-threads", Text("threads against cores", "线程数与核数"), _judge)
