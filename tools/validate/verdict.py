# SPDX-License-Identifier: Apache-2.0
"""The one sentence of a validation, and what it could not show."""

from collections.abc import Sequence

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.validate.request import Setting
from vllm_ascend_bringup.tools.validate.results import Start


def summary_of(stages: Sequence[Start], ladder: Sequence[Start]) -> Text:
    """``stages``: dummy and real. ``ladder``: what was tried after a failure."""
    real = stages[-1]
    if real.state == "passed":
        done = sum(check.state == "passed" for check in real.checks)
        said = Text("passed: {done} checks on real weights", "通过：真实权重下 {done} 项检查")
        return said.format(done=done)
    failing = next(start for start in reversed(stages) if start.state == "failed")
    check = next((c for c in failing.checks if c.state == "failed"), None)
    said = Text("failed: {label} ({check}, {stage} weights)",
                "未通过：{label}（{check}，{stage}）")  # fmt: skip
    said = said.format(
        label=failing.label, check=check.title if check else Text("the server", "服务"),
        stage=Text(failing.stage, {"dummy": "虚拟权重", "real": "真实权重"}[failing.stage]),
    )  # fmt: skip
    works = next((start for start in ladder if start.state == "passed"), None)
    if works:
        fallback = Text("{said}; it passes with {changed}", "{said}；使用 {changed} 可以通过")
        changed = " ".join(works.changed) or Text("the same arguments again", "相同参数重试")
        return fallback.format(said=said, changed=changed)
    return said


def limits_of(setting: Setting, stages: Sequence[Start]) -> tuple[Text, ...]:
    """What a reader must not conclude."""
    limits = [
        Text("accuracy on tasks and speed were not measured", "未测量任务精度与速度"),
    ]
    if setting.cpu:
        limits.append(Text(
            "it ran on {where}: nothing is said about speed, memory of a card, graphs, or defects "
            "of an NPU's operators",
            "运行在 {where} 上：不能说明速度、单卡显存、图模式以及 NPU 算子的缺陷",
        ).format(where=setting.platform))  # fmt: skip
    if setting.added:
        text = Text("added for this machine: {added}", "为适应本机而添加的参数：{added}")
        limits.append(text.format(added=" ".join(setting.added)))
    if setting.request.random_weights:
        limits.append(Text(
            "the content of answers was not judged, because the weights are random "
            "(--random-weights)",
            "权重是随机的（--random-weights），因此没有评判回答内容",
        ))  # fmt: skip
    dummy, real = stages[0], stages[-1]
    if dummy.state == "failed" and real.state == "passed":
        text = Text("dummy weights failed ({label}) where the real ones passed",
                    "虚拟权重失败（{label}），真实权重通过")  # fmt: skip
        limits.append(text.format(label=dummy.label))
    return tuple(limits)
