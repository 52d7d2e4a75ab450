# SPDX-License-Identifier: Apache-2.0
"""The report of ``audit`` as text for a terminal."""

from rich.console import Console
from rich.markup import escape

from vllm_ascend_bringup.tools.audit.report import AuditReport, Finding

_SHOWN = 20


def render_audit(report: AuditReport, console: Console) -> None:
    """Print verdict, leftovers and what the audit cannot see."""

    def line(text: str, style: str | None = None) -> None:
        console.print(escape(text), style=style, highlight=False, soft_wrap=True)

    facts = {
        "checkpoint": report.path,
        "architecture": report.architecture,
        "served by": report.serving_class,
        "recipe": report.recipe or "none",
        "TP size": f"{report.tp}, weights in {report.dtype}",
        "matched": f"{report.matched} tensors, {report.left_out} left out on purpose",
    }
    if report.casts:
        casts = ", ".join(f"{count} from {cast}" for cast, count in report.casts.items())
        facts["other dtypes"] = casts
    if report.ties:
        facts["tied"] = ", ".join(f"{name} is {other}" for name, other in report.ties.items())
    for label, value in facts.items():
        line(f"{label + ':':24}{value}")
    groups = {
        "missing: parameters that nothing fills": report.missing,
        "unexpected: tensors that nothing takes": report.unexpected,
        "conflicts: tensors that do not fit their parameter": report.conflicts,
    }
    for title, findings in groups.items():
        if findings:
            line(f"\n{title}", "red")
            for finding in findings[:_SHOWN]:
                line(_text(finding))
            if len(findings) > _SHOWN:
                line(f"  and {len(findings) - _SHOWN} more (all of them with --json)")
    for warning in report.warnings:
        line(f"warning: {warning}", "yellow")
    if report.clean:
        line("\nevery tensor has its parameter, every parameter its tensors", "green")
    line("\nthis audit cannot see:")
    for spot in report.blind_spots:
        line(f"  - {spot}")


def _text(finding: Finding) -> str:
    times = f" x {finding.count}" if finding.count > 1 else ""
    near = f"; most like it: {', '.join(finding.nearest)}" if finding.nearest else ""
    return f"  {finding.names}{times}: {finding.detail}{near}"


def render_draft(
    recipe: str, files: tuple[str, ...], before: int, report: AuditReport, console: Console
) -> None:
    """Print a drafted recipe, where it was written, and the audit with it."""

    def line(text: str, style: str | None = None) -> None:
        console.print(escape(text), style=style, highlight=False, soft_wrap=True)

    line("drafted recipe:\n", "bold")
    line(recipe)
    line(
        "Names and shapes are all the evidence for its rules; the order of rows in a tensor "
        "(fused QKV, interleaved RoPE) is not. Compare its answers with a run you trust."
    )
    if files:
        line(f"\nwritten: {', '.join(files)}")
        line(f"serve:   VLLM_ASCEND_BRINGUP_RECIPES={files[0]} vllm serve {report.path}")
    line(f"\naudit with it ({before} leftovers without its rules):\n", "bold")
    render_audit(report, console)
