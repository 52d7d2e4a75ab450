# SPDX-License-Identifier: Apache-2.0
"""Text for a terminal. JSON comes from the reports' own ``to_json``."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from vllm_ascend_bringup.hardware import MLA_GRAPH_HEADS
from vllm_ascend_bringup.tools.checkpoint_report import CheckpointReport
from vllm_ascend_bringup.tools.demo import DemoReport
from vllm_ascend_bringup.tools.model_questions import NOT_APPLICABLE
from vllm_ascend_bringup.tools.patches_report import PatchesReport
from vllm_ascend_bringup.tools.recipes_report import Explanation, RecipeLine

if TYPE_CHECKING:  # it imports torch, for which `inspect` has no time
    from vllm_ascend_bringup.conversion.run import ConversionReport, Stage


def render_checkpoint(report: CheckpointReport, console: Console) -> None:
    """Print what ``inspect`` found."""
    model = report.model
    known = {
        "vLLM": "yes", None: "vLLM is not installed here", "none": "no",
        "transformers": "no, but its fallback has transformers' class",
        "remote code": "no, but its fallback has the checkpoint's class",
        "recipe": f"served as {report.served_as} by a recipe",
    }[report.model_class.source]  # fmt: skip
    version = f" ({report.vllm_version})" if report.vllm_version else ""
    facts = {
        "checkpoint": report.path,
        "architecture": f"{model.architecture}, {model.layers} layers, hidden {model.hidden_size}"
        + (f", {model.experts} experts" if model.experts else ""),
        f"known to vLLM{version}": known,
        "attention": f"{model.attention}, {model.query_heads} query heads, {model.kv_heads} KV "
        f"heads of size {model.head_size}",
        **({"recipe": report.recipe} if report.recipe else {}),
        **_answers(report),
        "tensors": f"{report.tensors} in {report.shards} shards ({_counts(report.dtypes)})",
        "quantization": f"{report.quantization} ({report.quantization_found_in})"
        if report.quantization
        else "none",
        "formats": _counts(report.formats) or "none decoded here",
        "what happens": report.action,
        "size": f"{_bytes(report.stored_bytes)} stored"
        + (f", {_bytes(report.decoded_bytes)} decoded" if report.formats else ""),
    }
    for label, value in facts.items():
        console.print(f"{label + ':':24}{escape(value)}", highlight=False, soft_wrap=True)
    console.print(_tp_table(report))
    for problem in report.problems:
        style = "red" if problem.severity == "error" else "yellow"
        text = f"[{style}]{problem.severity}[/]: {escape(problem.text)}"
        console.print(text, highlight=False, soft_wrap=True)
    if not report.problems:
        console.print("no problems found", style="green")


@contextmanager
def progress_bar() -> "Iterator[Stage]":
    """A bar on stderr with rate and time left, one per stage of a conversion."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), DownloadColumn(),
        TransferSpeedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as bars:

        def stage(text: str, nbytes: int) -> Callable[[int], None]:
            task = bars.add_task(text, total=nbytes)
            return lambda done: bars.advance(task, done)

        yield stage


def render_conversion(report: "ConversionReport", console: Console) -> None:
    """Print what ``convert`` did, or would do."""
    facts = {
        "checkpoint": report.source,
        "formats": _counts(report.formats),
        "left out": f"{report.left_out} scales and other tensors that decoding uses up",
        "stored": _bytes(report.source_bytes),
        "result": f"{report.destination}: {report.tensors} tensors in {report.shards} shards, "
        f"{_bytes(report.bytes)}, {report.dtype}",
        "also copied": ", ".join(report.copied) or "nothing",
    }
    if report.skipped:
        facts["left behind"] = ", ".join(report.skipped)
    if report.resumed:
        facts["resumed"] = f"{report.resumed} shards were finished and had their checksums"
    for label, value in facts.items():
        console.print(f"{label + ':':24}{escape(value)}", highlight=False, soft_wrap=True)
    if report.nan_weights:
        names = ", ".join(report.nan_weights[:8])
        console.print(f"[yellow]note[/]: NaN codes stay NaN in {escape(names)}", soft_wrap=True)
    if report.dry_run:
        console.print(
            f"dry run: nothing written, {_bytes(report.needed_bytes)} to write, "
            f"{_bytes(report.free_bytes)} free",
            highlight=False,
        )
        if report.free_bytes < report.needed_bytes:
            console.print("[yellow]note[/]: there is not enough space")
    else:
        verified = ", verified byte for byte" if report.verified else ""
        console.print(f"[green]done[/] in {report.seconds:.1f} s{verified}", highlight=False)


def render_recipes(recipes: list[RecipeLine], console: Console) -> None:
    """Print a table of recipes."""
    table = Table()
    for column in ("architecture", "served as", "recipe", "state"):
        table.add_column(column, overflow="fold")
    for line in recipes:
        state = line.state
        if line.replaces:
            state += f", instead of {', '.join(line.replaces)}"
        cells = (line.architecture, line.serve_as or "-", f"{line.file} ({line.origin})", state)
        table.add_row(*map(escape, cells))
    console.print(table)


def render_explanation(explanation: Explanation, console: Console) -> None:
    """Print the steps of one key."""

    def line(text: str, style: str | None = None) -> None:
        console.print(escape(text), style=style, highlight=False, soft_wrap=True)

    line(f"{explanation.key}   (recipe {explanation.recipe})")
    for step in explanation.steps:
        line(f"  {step.rule}")
        line(f"    -> {step.key or 'dropped'}")
    if not explanation.steps:
        line("  no rule matches: it stays as it is")
    for warning in explanation.warnings:
        console.print(f"[yellow]warning[/]: {escape(warning)}", highlight=False, soft_wrap=True)


def render_patches(report: PatchesReport, console: Console) -> None:
    """Print each patch with its reason."""
    for line in report.patches:
        style = {"matches": "green", "changed": "red", "gone": "red"}.get(line.state, "yellow")
        console.print(f"[bold]{line.name}[/] [{style}]{line.state}[/]", highlight=False)
        package = line.target.partition(".")[0]
        facts = {
            "target": line.target, "why": line.why, "upstream": line.upstream,
            "for": f"{package} {line.versions}; installed: {report.installed.get(package)}",
            "until": line.until,
            "fingerprint": f"{line.found or 'none'}, expected {' or '.join(line.expected)}",
        }  # fmt: skip
        for label, value in facts.items():
            console.print(f"  {label + ':':13}{escape(value)}", highlight=False, soft_wrap=True)


def render_demo(report: DemoReport, console: Console) -> None:
    """Print questions, answers and the verdict."""
    for line in report.decoding:
        console.print(escape(line), highlight=False, soft_wrap=True)
    table = Table()
    for column in ("question", "answer", "verdict"):
        table.add_column(column)
    for answer in report.answers:
        verdict = "[green]right[/]" if answer.right else f"[red]expected {answer.expected}[/]"
        table.add_row(escape(answer.question), escape(answer.text), verdict)
    console.print(table)
    right = sum(answer.right for answer in report.answers)
    verdict = "[green]passed[/]" if report.passed else "[red]failed[/]"
    console.print(
        f"{verdict}: {right} of {len(report.answers)} answers right, vLLM {report.vllm_version} "
        f"on {report.platform}, ready in {report.seconds_to_ready} s",
        highlight=False, soft_wrap=True,
    )  # fmt: skip


def _answers(report: CheckpointReport) -> dict[str, str]:
    """The answers that apply to this model."""
    answers, model, processors = report.answers, report.model, report.processors
    facts = {}
    if answers.mla_graph_tp is not None:
        sizes = ", ".join(map(str, answers.mla_graph_tp)) or "none of those below"
        heads = sorted(MLA_GRAPH_HEADS)
        facts["MLA in graph mode"] = f"TP {sizes} ({heads[0]}, {heads[1]} or {heads[2]} heads each)"
    facts["context"] = _context(report)
    if answers.moe:
        facts["for MoE"] = "expert parallelism and flashcomm1 apply"
    if answers.mtp.state != NOT_APPLICABLE:
        counts = f"{model.mtp_layers} in config.json, {answers.mtp.tensors} tensors"
        facts["MTP layers"] = f"{answers.mtp.state} ({counts})"
    if model.tied is not None:
        facts["embeddings"] = "tied" if model.tied else "not tied"
        facts["embeddings"] += ", with lm_head" if answers.lm_head else ", no lm_head"
    if model.parts:
        facts["encoders"] = ", ".join(model.parts)
        facts["processor"] = ", ".join(processors.classes) or "not named"
        if processors.packages:
            facts["processor needs"] = ", ".join(
                f"{', '.join(needed)} ({name})" for name, needed in processors.packages.items()
            )
        if processors.missing:
            facts["processor lacks"] = ", ".join(processors.missing)
    if not report.tokenizer_files:
        facts["tokenizer"] = "no files of one here"
    if report.remote_code.files:
        facts["remote code"] = ", ".join(report.remote_code.files)
    return facts


def _context(report: CheckpointReport) -> str:
    context, rope = report.answers.context, report.model.rope
    text = f"{context.config} tokens" if context.config else "not stated"
    if context.default != context.config:
        text += f", vLLM takes {context.default}"
    if context.tokenizer and context.tokenizer < context.config:
        text += f", tokenizer_config.json says {context.tokenizer}"
    if rope and rope.type != "default":
        text += f", rope {rope.type}"
        text += f" x {rope.factor:g}" if rope.factor else ""
        text += f" over {rope.original_length}" if rope.original_length else ""
    return text


def _tp_table(report: CheckpointReport) -> Table:
    table = Table(title="weights per rank", title_justify="left")
    for column in ("TP", "query heads", "KV heads", "KV copies", "stored", "decoded", "clean"):
        table.add_column(column, justify="right")
    for size in report.tp_sizes:
        table.add_row(
            str(size.tp), str(size.query_heads), str(size.kv_heads), str(size.kv_replicas),
            _bytes(size.stored_bytes), _bytes(size.decoded_bytes),
            f"no: see --tp {size.tp}" if size.findings else "yes",
        )  # fmt: skip
    return table


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _bytes(count: int) -> str:
    size, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):  # noqa: B007 (used after the loop)
        if size < 1024:
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.2f} {unit}"
