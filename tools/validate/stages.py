# SPDX-License-Identifier: Apache-2.0
"""Stage A, dummy weights: fast, never a proof. Stage B, the real ones: the proof."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.validate.arguments import replaced, value_of
from vllm_ascend_bringup.tools.validate.request import Setting
from vllm_ascend_bringup.tools.validate.results import Start
from vllm_ascend_bringup.tools.validate.serving import Attempt, serve

DUMMY, REAL = "dummy", "real"
_LOAD_FORMAT = "--load-format"
# Formats whose weights have the shapes that the model class makes by itself.
_PLAIN_FORMATS = (None, "auto", "hf", "safetensors", "pt")
# What weights have no part in: real ones would fail alike.
_WITHOUT_WEIGHTS = frozenset({"port-in-use", "max-model-len", "served-name"})


def run_stages(setting: Setting) -> tuple[Start, ...]:
    """Both, in this order; a stage that was not run says why."""
    dummy = _dummy(setting)
    setting.request.say(said_of(dummy))
    if dummy.label in _WITHOUT_WEIGHTS:
        why = Text("it would fail like the dummy weights", "会与虚拟权重同样失败")
        real = not_run(REAL, setting, why)
    else:
        real = serve(Attempt(REAL, setting.arguments, {}), setting)
    setting.request.say(said_of(real))
    return dummy, real


def not_run(stage: str, setting: Setting, why: Text, changed: tuple[str, ...] = ()) -> Start:
    """A server that was not started."""
    return Start(
        stage, (), setting.environment, changed, "not-run", None, None, 0.0, (), (), (), "", why
    )


def _dummy(setting: Setting) -> Start:
    if not setting.request.dummy:
        why = Text("left out on request (--no-dummy)", "按要求省略（--no-dummy）")
        return not_run(DUMMY, setting, why)
    chosen = value_of(setting.arguments, _LOAD_FORMAT)
    if chosen not in _PLAIN_FORMATS:
        why = Text(
            "{option} {chosen} decides what the parameters look like, so dummy weights would be "
            "those of another model",
            "{option} {chosen} 决定参数的形状，虚拟权重会对应另一种模型结构",
        )
        return not_run(DUMMY, setting, why.format(option=_LOAD_FORMAT, chosen=chosen))
    changed = (_LOAD_FORMAT, "dummy")
    arguments = replaced(setting.arguments, *changed)
    return serve(Attempt(DUMMY, arguments, {}, "dummy", (" ".join(changed),)), setting)


def said_of(start: Start) -> Text:
    """One line for who waits."""
    names = {DUMMY: Text("dummy weights", "虚拟权重"), REAL: Text("real weights", "真实权重")}
    stage = names.get(start.stage, start.stage)
    if start.state == "not-run":
        text = Text("{stage}: not run, {why}", "{stage}：未运行，{why}")
        return text.format(stage=stage, why=start.note)
    if start.state == "passed":
        text = Text("{stage}: passed in {seconds:.0f} s", "{stage}：通过，用时 {seconds:.0f} 秒")
        return text.format(stage=stage, seconds=start.seconds)
    text = Text("{stage}: failed after {seconds:.0f} s: {label}",
                "{stage}：{seconds:.0f} 秒后失败：{label}")  # fmt: skip
    return text.format(stage=stage, seconds=start.seconds, label=start.label)
