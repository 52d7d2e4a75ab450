# SPDX-License-Identifier: Apache-2.0
"""The ``bringup`` command: its subcommands, exit codes, nothing else."""

import sys
from inspect import getdoc
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from vllm_ascend_bringup import __version__
from vllm_ascend_bringup.errors import BringupError
from vllm_ascend_bringup.language import Text, language_of, said
from vllm_ascend_bringup.tools.commands import (
    catalogs,
    check_request,
    checkpoint,
    demo,
    diagnose,
    doctor,
    plan,
    validate,
)
from vllm_ascend_bringup.tools.commands.options import HELP_LANGUAGE, in_help

# sysexits.h: EX_SOFTWARE, an error that is ours and not the user's.
_EXIT_INTERNAL = 70
_DEBUG = "--debug"

_HELP = in_help(
    """Bring up a checkpoint on Ascend, step by step.

Exit codes: 0 all right, 2 wrong usage, 3 bad setting, 4 unreadable checkpoint, 5 weights that
cannot be decoded, 6 leftovers after loading, 7 the server failed, 8 the demo answered wrongly,
9 bad recipe, 10 a patch that does not fit, 11 something that the chip does not do, 12 doctor found
an error, 13 no plan is possible, 14 validate did not pass, 15 a request that the server would
refuse, 70 a defect of this tool.
""",
    """在昇腾上一步一步把模型跑起来。

退出码：0 正常，2 用法错误，3 设置有误，4 权重无法读取，5 权重无法解码，6 加载后有剩余，7 服务失败，
8 演示回答有误，9 配方有误，10 补丁不适用，11 芯片不支持，12 doctor 发现错误，13 无法给出方案，
14 validate 未通过，15 服务会拒绝该请求，70 本工具自身的缺陷。
""",
)

app = typer.Typer(
    help=_HELP, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    # rich's tables cut off what has no spaces to break at.
    rich_markup_mode="rich" if HELP_LANGUAGE == "en" else None,
)  # fmt: skip


def _version(value: bool) -> None:
    if value:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_version,
            is_eager=True,
            help=in_help("Print the version.", "输出版本号。"),
        ),
    ] = False,
    debug: Annotated[
        bool, typer.Option(_DEBUG, help=in_help("Show tracebacks.", "显示调用栈。"))
    ] = False,
) -> None:
    """Options before the subcommand; --debug may stand anywhere (see main)."""


# In the order of a bring-up; what a subcommand does in English is its docstring.
_COMMANDS = (
    (doctor.doctor, "检查已安装的软硬件是否齐全、配套。"),
    (checkpoint.inspect, "说明这是什么模型、加载时会怎样处理；不读取权重内容。"),
    (checkpoint.audit, """将权重与将要运行它的 vLLM 模型类逐一比对；只读取文件头。

    在单独的进程中运行 vLLM 自己的加载代码，不为权重分配内存，也不需要 NPU。
    """),
    (checkpoint.new, "根据权重文件头，为新架构起草配方及其测试。"),
    (catalogs.patches, "列出对 vLLM 的补丁，以及它们是否适用于已安装的版本。"),
    (plan.plan, "说明能否放下，并给出确切的启动命令及每个参数的理由。"),
    (checkpoint.convert, """把低精度权重改写为普通的 bf16 或 fp16，任何框架都能加载。

    中途被终止后，再次执行同一命令会从中断处继续。它看不出来的是：加载结果的模型类要的是否正是这些张量名。
    """),
    (validate.validate, "启动真实服务，逐项证明能用；不能用时查明原因。"),
    (diagnose.diagnose, "从日志中找出失败原因，最可能的在前，并说明处理办法。"),
    (check_request.check_request, "在发送之前检查：这个请求会不会被服务拒绝。"),
    (demo.demo, "启动一个小的 fp8 模型（默认是随包自带的），并判断回答是否正确。"),
)  # fmt: skip
for _run, _chinese in _COMMANDS:
    app.command(help=in_help(getdoc(_run) or "", _chinese))(_run)
app.add_typer(
    catalogs.recipes,
    name="recipes",
    help=in_help(
        "Recipes: list them, explain what one does.", "配方：列出全部，或说明某一个的作用。"
    ),
)


def main() -> None:
    """Console script. No traceback reaches a user who did not ask for one with --debug."""
    debug = _DEBUG in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != _DEBUG]
    try:
        app(arguments, prog_name="bringup")  # exits by itself, also for wrong usage
    except BringupError as error:
        if debug:
            raise
        language = language_of(arguments)
        label, text = said(Text("error:", "错误："), language), error.said(language)
        Console(stderr=True).print(f"[red]{label}[/] {escape(text)}", soft_wrap=True)
        sys.exit(error.exit_code)
    except Exception as error:
        if debug:
            raise
        text = f"internal error: {type(error).__name__}: {error} (run again with {_DEBUG})"
        Console(stderr=True).print(escape(text), style="red", soft_wrap=True)
        sys.exit(_EXIT_INTERNAL)
