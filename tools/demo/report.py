# SPDX-License-Identifier: Apache-2.0
"""The demo's report: ``report.json`` always, ``report.html`` where jinja2 is installed."""

import json
from importlib.util import find_spec
from pathlib import Path

from vllm_ascend_bringup.tools.demo import DemoReport

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>bringup demo</title>
<style>
 body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
 table { border-collapse: collapse } td, th { padding: .2rem .8rem; text-align: left }
 tr { border-bottom: 1px solid #ccc } code { overflow-wrap: anywhere }
 .right { color: #06682b } .wrong { color: #b00020 }
</style>
<h1>bringup demo: {{ "passed" if report.passed else "failed" }}</h1>
<p>vllm-ascend-bringup {{ report.project_version }}, vLLM {{ report.vllm_version }},
 on {{ report.platform }}; ready after {{ report.seconds_to_ready }} s,
 {{ report.seconds_total }} s in all.</p>
<p><code>{{ report.serve_command }}</code></p>
{% for line in report.decoding %}<p>{{ line }}</p>{% endfor %}
<table><tr><th>question<th>answer<th>
{% for a in report.answers %}
<tr><td>{{ a.question }}<td>{{ a.text }}
 <td class="{{ 'right' if a.right else 'wrong' }}">{{
 "right" if a.right else "wrong, expected " + a.expected }}
{% endfor %}
</table>
"""


def write_report(report: DemoReport, folder: Path) -> list[Path]:
    """Write the report into ``folder``; returns the files."""
    files = [folder / "report.json"]
    files[0].write_text(json.dumps(report.to_json(), indent=2, ensure_ascii=False) + "\n")
    if find_spec("jinja2") is not None:
        from jinja2 import Environment

        files.append(folder / "report.html")
        page = Environment(autoescape=True).from_string(_PAGE).render(report=report)
        files[1].write_text(page, encoding="utf-8")
    return files
