# SPDX-License-Identifier: Apache-2.0
"""PYTORCH_NPU_ALLOC_CONF has an option or a value that torch_npu refuses, or two that exclude
each other.

Signals: the variable, option by option. expandable_segments cannot be on with max_split_size_mb or
garbage_collection_threshold; vllm-ascend turns it on itself where none of the three is named.
Source: torch_npu's reference of the variable; vllm-ascend's platform.py, check_and_update_config.
"""

from collections.abc import Callable, Iterator, Mapping

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.base import Evidence, Judgement, Rule, error, warning

_NAME, _OTHER = "PYTORCH_NPU_ALLOC_CONF", "PYTORCH_ALLOC_CONF"
_EXPANDABLE = "expandable_segments"
_EXCLUDED = ("max_split_size_mb", "garbage_collection_threshold")
_SPLIT_MB = 20  # max_split_size_mb has to be above it


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return -1.0


_CHECKS: dict[str, tuple[Callable[[str], bool], Text]] = {
    _EXPANDABLE: (lambda v: v in ("True", "False"), Text("True or False", "True 或 False")),
    "max_split_size_mb": (lambda v: v.isdecimal() and int(v) > _SPLIT_MB,
                          Text(f"a whole number above {_SPLIT_MB}", f"大于 {_SPLIT_MB} 的整数")),
    "garbage_collection_threshold": (lambda v: 0 < _number(v) < 1,
                                     Text("a number between 0 and 1", "0 到 1 之间的小数")),
    "base_addr_aligned_kb": (lambda v: v.isdecimal() and int(v) <= 16,
                             Text("a whole number from 0 to 16", "0 到 16 之间的整数")),
    "page_size": (lambda v: v.lower() == "1g", Text("1g", "1g")),
}  # fmt: skip
# Of newer versions; their values are not checked here.
_OTHERS = (
    "segment_size_mb", "large_segment_size_mb", "pinned_mem_register", "multi_stream_lazy_reclaim",
    "per_process_memory_fraction", "pinned_max_round_threshold_mb", "pinned_max_cached_size_mb",
)  # fmt: skip
_CORRECT = Text(f"correct {_NAME} or unset it", f"请更正或取消 {_NAME}")


def _judge(environ: Mapping[str, str]) -> Iterator[Judgement]:
    value = environ.get(_NAME)
    if value is None:
        return
    options = dict(part.strip().partition(":")[::2] for part in value.split(",") if part.strip())
    for option, given in options.items():
        if option in _CHECKS and not _CHECKS[option][0](given):
            yield error(Evidence(f"{_NAME}, {option}", given, _CHECKS[option][1]), do=_CORRECT)
        elif option not in _CHECKS and option not in _OTHERS:
            known = ", ".join((*_CHECKS, *_OTHERS))
            expected = Text(f"one of {known}", f"{known} 之一")
            yield warning(Evidence(_NAME, option, expected), do=_CORRECT)
    together = [option for option in _EXCLUDED if option in options]
    if options.get(_EXPANDABLE) == "True" and together:
        yield error(Evidence(_NAME, value, Text(
            f"{_EXPANDABLE} or {together[0]}, not both",
            f"{_EXPANDABLE} 与 {together[0]} 不能同时使用",
        )), do=Text(
            f"keep {_EXPANDABLE}:True against fragmentation, and take {', '.join(together)} out",
            f"为减少显存碎片，请保留 {_EXPANDABLE}:True，并去掉 {', '.join(together)}",
        ))  # fmt: skip
    if _OTHER in environ:
        expected = Text(f"not set beside {_NAME}", f"不与 {_NAME} 同时设置")
        yield error(Evidence(_OTHER, environ[_OTHER], expected), do=Text(
            "unset one of them: newer torch_npu reads both and refuses to start",
            "请取消其中一个：较新的 torch_npu 同时读到两者时会报错退出",
        ))  # fmt: skip


RULE = Rule("alloc-conf", Text("torch_npu's allocator", "torch_npu 显存分配器"), _judge)
