# SPDX-License-Identifier: Apache-2.0
"""After a failure: what makes it pass, one change at a time.

A rung that passes is evidence of where the fault lies, and something to work with meanwhile. It is
no pass: the command that was asked for does not serve.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.validate.arguments import has, replaced, value_of
from vllm_ascend_bringup.tools.validate.request import Setting
from vllm_ascend_bringup.tools.validate.results import Start
from vllm_ascend_bringup.tools.validate.serving import Attempt, serve
from vllm_ascend_bringup.tools.validate.stages import not_run, said_of

# Small enough for any machine that a model of today fits on; halves what is smaller already.
_SMALL_CONTEXT, _FEW_SEQUENCES, _FEWEST_TOKENS = 2048, 4, 16
_TEXT_ONLY = '{"image": 0, "video": 0, "audio": 0}'

Options = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Rung:
    """One change. ``options``: of ``vllm serve``, or why there is nothing to change."""

    id: str
    options: Callable[[Setting], Options | Text]
    environment: Mapping[str, str] = field(default_factory=dict)


def _nothing(setting: Setting) -> Options | Text:
    return ()


def _eager(setting: Setting) -> Options | Text:
    if has(setting.arguments, "--enforce-eager"):
        return Text("the server was eager already", "服务本来就未使用图模式")
    return (("--enforce-eager",),)


def _text_only(setting: Setting) -> Options | Text:
    if not setting.report.model.parts:
        return Text("the model takes text only", "模型只接受文本")
    return (("--limit-mm-per-prompt", _TEXT_ONLY),)


def _smaller(setting: Setting) -> Options | Text:
    context = setting.report.answers.context.default or 2 * _SMALL_CONTEXT
    asked = value_of(setting.arguments, "--max-model-len") or ""
    longest = min(int(asked), context) if asked.isdecimal() else context
    length = max(_FEWEST_TOKENS, min(_SMALL_CONTEXT, longest // 2))
    return (
        ("--max-model-len", str(length)), ("--max-num-seqs", str(_FEW_SEQUENCES)),
        ("--max-num-batched-tokens", str(length)),
    )  # fmt: skip


REPRODUCE, EAGER, NO_DYNAMO, TEXT_ONLY, SMALLER = (
    Rung("reproduce", _nothing),
    Rung("enforce-eager", _eager),
    Rung("no-dynamo", _nothing, {"TORCHDYNAMO_DISABLE": "1"}),
    Rung("text-only", _text_only),
    Rung("smaller-shapes", _smaller),
)
RUNGS = (REPRODUCE, EAGER, NO_DYNAMO, TEXT_ONLY, SMALLER)

_CHECKPOINT = Text("a defect of the checkpoint, which is there however it is run",
                   "权重文件本身的缺陷，换一种运行方式也不会消失")  # fmt: skip
_INSTALLATION = Text("a defect of the installation, which is there however it is run",
                     "安装环境的缺陷，换一种运行方式也不会消失")  # fmt: skip
_PORT = Text("the port is taken by somebody else", "端口被其他进程占用")
_NAME = Text("a matter of names", "只是名称问题")
_LENGTH = Text("only the length matters", "只与上下文长度有关")
_MEMORY = Text("it does not take less memory", "不会减少显存占用")
_GRAPH = Text("it does not change what is captured", "不影响图捕获")
_OUTPUT = Text("it does not change what is computed", "不改变计算结果")
_OUTSIDE = Text("whoever ended the server would do it again", "终止服务的外部原因依旧存在")

# Rungs that may help, and why the others cannot. All of them may where the label is not here.
_HOPES: Mapping[str, tuple[tuple[Rung, ...], Text]] = {
    "port-in-use": ((), _PORT),
    "served-name": ((), _NAME),
    "max-model-len": ((SMALLER,), _LENGTH),
    "output-quality": ((REPRODUCE, EAGER, NO_DYNAMO), _OUTPUT),
    "nondeterministic": ((REPRODUCE, EAGER, NO_DYNAMO), _OUTPUT),
    "server-killed": ((REPRODUCE, SMALLER), _OUTSIDE),
    "oom-weights": ((), _MEMORY),
    "oom-kv-or-activation": ((EAGER, TEXT_ONLY, SMALLER), _MEMORY),
    "oom-device-busy": ((REPRODUCE,), _MEMORY),
    "stream-exhaustion": ((EAGER, SMALLER), _GRAPH),
    **dict.fromkeys(
        ("scale-pairing", "weight-key-mismatch", "weight-shape-mismatch", "quant-config-missing",
         "quant-method-unavailable", "arch-unrecognized", "tokenizer", "recipe"),
        ((), _CHECKPOINT),
    ),
    **dict.fromkeys(
        ("env-cann-missing", "import-shadowing", "install-broken", "version-mismatch",
         "arch-inspect-failed", "transformers-symbol", "triton-missing", "driver-version",
         "static-tls", "custom-ops-not-built"),
        ((), _INSTALLATION),
    ),
}  # fmt: skip


def hopes_of(label: str) -> tuple[tuple[Rung, ...], Text]:
    """The rungs that may help against this cause, and why the others cannot."""
    return _HOPES.get(label, (RUNGS, _OUTPUT))


def climb(failed: Start, setting: Setting) -> tuple[Start, ...]:
    """Rung by rung until one passes; those that cannot matter say why."""
    hopeful, why_not = hopes_of(failed.label or "")
    tried: list[Start] = []
    for rung in RUNGS:
        options = why_not if rung not in hopeful else rung.options(setting)
        if isinstance(options, Text):
            tried.append(not_run(rung.id, setting, options))
            continue
        start = serve(_attempt(rung, options, setting), setting)
        setting.request.say(said_of(start))
        tried.append(start)
        if start.state == "passed":
            break
    return tuple(tried)


def _attempt(rung: Rung, options: Options, setting: Setting) -> Attempt:
    arguments = setting.arguments
    for option in options:
        arguments = replaced(arguments, *option)
    changed = tuple(" ".join(option) for option in options)
    set_to = tuple(f"{name}={value}" for name, value in rung.environment.items())
    return Attempt(rung.id, arguments, rung.environment, changed=(*set_to, *changed))
