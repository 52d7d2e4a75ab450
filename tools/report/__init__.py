# SPDX-License-Identifier: Apache-2.0
"""What a validation found out, as files that a team reads, prints and archives.

``report.html`` is one page that needs nothing else; ``report.md`` says the same for a review or an
issue; ``report.json`` is what ``bringup validate --json`` prints, every text in both languages.
"""

import json
from importlib.util import find_spec
from pathlib import Path

import typer

from vllm_ascend_bringup.language import Language, Text, said
from vllm_ascend_bringup.tools.report.markdown import to_markdown
from vllm_ascend_bringup.tools.report.whole import whole_report
from vllm_ascend_bringup.tools.validate.results import Validation

_NO_PAGE = Text(
    "report.html was not written: that needs jinja2 (pip install 'vllm-ascend-bringup[report]')",
    "未生成 report.html：需要 jinja2（pip install 'vllm-ascend-bringup[report]'）",
)


def write_report(validation: Validation, folder: Path, language: Language) -> list[Path]:
    """Write the report into ``folder``, creating it; returns the files.

    Without jinja2 there is no page, and a line on standard error says so.
    """
    folder.mkdir(parents=True, exist_ok=True)
    report = whole_report(validation)
    content = json.dumps(validation.to_json(), indent=2, ensure_ascii=False) + "\n"
    texts = {"report.json": content, "report.md": to_markdown(report, language)}
    if find_spec("jinja2") is None:
        typer.echo(said(_NO_PAGE, language), err=True)
    else:
        from vllm_ascend_bringup.tools.report.page import to_page

        texts["report.html"] = to_page(report, language)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in texts]
