# SPDX-License-Identifier: Apache-2.0
"""The report's three files: what they say, in which language, and that none of it is markup."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import validations
from markdown_it import MarkdownIt

from vllm_ascend_bringup.language import Language, Text, said
from vllm_ascend_bringup.tools.report import write_report
from vllm_ascend_bringup.tools.report.blocks import Code, Heading, Table
from vllm_ascend_bringup.tools.report.sections import (
    capacity,
    deliverables,
    ladder,
    logs,
    memory,
    stages,
    startup,
)
from vllm_ascend_bringup.tools.report.sections.catalog import SECTIONS
from vllm_ascend_bringup.tools.report.sections.facts import rows
from vllm_ascend_bringup.tools.report.sections.false_ready import is_false_ready
from vllm_ascend_bringup.tools.report.sections.model import TITLES
from vllm_ascend_bringup.tools.report.sections.plan import section as plan_section
from vllm_ascend_bringup.tools.report.whole import whole_report
from vllm_ascend_bringup.tools.report.words import duration, shell_lines, size
from vllm_ascend_bringup.tools.validate.results import Trial, Validation

ROOT = Path(__file__).resolve().parents[2]
STYLE = (ROOT / "tools/report/style.jinja").read_text()
EVERY = pytest.mark.parametrize("name", validations.ALL)
LANGUAGES = pytest.mark.parametrize("language", ["en", "zh"])
HAN = re.compile("[\u4e00-\u9fff]")


def written(name: str, folder: Path, language: Language) -> dict[str, str]:
    files = write_report(validations.ALL[name], folder / "new" / "folder", language)
    return {file.name: file.read_text(encoding="utf-8") for file in files}


@EVERY
def test_three_files_and_json_is_that_of_validate(name: str, tmp_path: Path) -> None:
    texts = written(name, tmp_path, "zh")
    assert sorted(texts) == ["report.html", "report.json", "report.md"]
    whole = json.dumps(validations.ALL[name].to_json())
    assert json.loads(texts["report.json"]) == json.loads(whole)
    assert json.loads(texts["report.json"])["summary"]["en"] == validations.ALL[name].summary.en


@EVERY
@LANGUAGES
def test_page_and_markdown_have_the_same_words(
    name: str, language: Language, tmp_path: Path
) -> None:
    """Every cell and line of every section is in both, in this language."""
    texts = written(name, tmp_path, language)
    page = re.sub(r"\s+", " ", html_text(texts["report.html"]))
    markdown = re.sub(r"\s+", " ", html_text(rendered(texts["report.md"])))
    report = whole_report(validations.ALL[name])
    wanted = [report.title, report.verdict.words, report.summary, report.label or ""]
    for section in report.sections:
        wanted.append(section.title)
        for block in section.blocks:
            for value in vars(block).values():
                wanted += words_of(value)
    for text in wanted:
        for line in str(said(text, language)).splitlines():
            line = re.sub(r"\s+", " ", line).strip()
            assert line in page
            assert line in markdown


def words_of(value: object) -> list[Text | str]:
    """Texts and strings within a block; pictures apart, which have none outside of the page."""
    if isinstance(value, Text | str):
        return [] if "<svg" in str(value) else [value]
    if isinstance(value, tuple):
        return [words for item in value for words in words_of(item)]
    if hasattr(value, "words") or hasattr(value, "text"):
        return words_of(getattr(value, "words", getattr(value, "text", "")))
    return []


def rendered(markdown: str) -> str:
    return str(MarkdownIt("commonmark").enable("table").render(markdown))


def html_text(page: str) -> str:
    """What a reader sees, near enough: tags off, entities resolved."""
    from html.parser import HTMLParser

    pieces: list[str] = []

    class Reader(HTMLParser):
        def handle_data(self, data: str) -> None:
            pieces.append(data)

        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            pieces.extend(value or "" for key, value in attributes if key == "aria-label")

    Reader().feed(re.sub("<style>.*?</style>", "", page, flags=re.DOTALL))
    return "".join(pieces).replace("\xa0", " ")


def test_what_a_server_says_is_never_markup(tmp_path: Path) -> None:
    plan = {"memory": json.loads(json.dumps(validations.memory()).replace("weights", "<b>"))}
    hostile = replace(
        validations.LADDER, plan=plan, label="<script>x</script>", started_at="# [a](b) <i>",
        environment={"*a*|": "_b_ | <img src=x>"}, summary=Text("- <b>", "1. <b>"),
        model={"architecture": '"><script>', "<u>": "&amp;"},
    )  # fmt: skip
    files = {file.suffix: file.read_text() for file in write_report(hostile, tmp_path, "en")}
    for page in (files[".html"], rendered(files[".md"])):
        assert not re.search(r"<(script|img|i|b|u)\b", page)
        text = html_text(page)
        for said_by_others in (validations.HOSTILE, "_b_ | <img src=x>", "# [a](b) <i>", "- <b>"):
            assert said_by_others in text
    tables = [line for line in files[".md"].splitlines() if line.startswith("| ")]
    cells = {len(re.findall(r"(?<!\\)\|", line)) for line in tables if "img" in line}
    assert cells == {3}


def test_code_spans_and_fences_hold_any_backticks(tmp_path: Path) -> None:
    odd = "``` `` `"
    log = tmp_path / "server.log"
    log.write_text(odd + "\n")
    start = replace(validations.PASSED.stages[0], log=str(log), command=("vllm", odd))
    files = write_report(replace(validations.PASSED, stages=(start,)), tmp_path, "en")
    assert f'<code class="language-text">1  {odd}\n</code>' in rendered(files[1].read_text())


@EVERY
def test_chinese_report_has_no_english_of_ours(name: str, tmp_path: Path) -> None:
    """Every text of ours that has words at all has Chinese ones."""
    for section in whole_report(validations.ALL[name]).sections:
        for value in (section.title, *(w for b in section.blocks for v in vars(b).values()
                                       for w in words_of(v))):  # fmt: skip
            if isinstance(value, Text) and value.en != value.zh:
                assert HAN.search(value.zh), value.zh
                assert not HAN.search(value.en), value.en


def test_without_jinja2_there_is_no_page_and_a_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("vllm_ascend_bringup.tools.report.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    files = write_report(validations.PASSED, tmp_path, "en")
    assert [file.name for file in files] == ["report.json", "report.md"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["report.json", "report.md"]
    assert capsys.readouterr().err.count("pip install 'vllm-ascend-bringup[report]'") == 1


def test_every_section_file_is_in_the_catalogue_and_every_id_is_unique() -> None:
    files = {file.stem for file in (ROOT / "tools/report/sections").glob("*.py")}
    listed = {section.__module__.rpartition(".")[2] for section in SECTIONS}
    assert listed == files - {"__init__", "catalog", "facts"}
    ids = [section(validations.PASSED).id for section in SECTIONS]
    assert len(set(ids)) == len(ids) == len(SECTIONS)


@EVERY
def test_every_link_leads_to_a_section(name: str, tmp_path: Path) -> None:
    texts = written(name, tmp_path, "en")
    for text, links in ((texts["report.html"], r'href="#([^"]+)"'),
                        (texts["report.md"], r"\]\(#([^)]+)\)")):  # fmt: skip
        targets = re.findall(links, text)
        assert len(targets) >= 9
        assert set(targets) <= set(re.findall(r'id="([^"]+)"', text))


@pytest.mark.parametrize(("lines", "first"), [(1, 1), (60, 1), (61, 2), (1000, 941)])
def test_logs_are_shown_to_their_last_line(lines: int, first: int, tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_bytes(b"".join(b"%d \xff\n" % n for n in range(1, lines + 1)))
    starts = (replace(validations.PASSED.stages[0], log=str(log)),
              replace(validations.PASSED.stages[1], log=str(tmp_path / "gone.log")))  # fmt: skip
    table, heading, excerpt = logs.section(replace(validations.PASSED, stages=starts)).blocks
    assert isinstance(table, Table)
    assert len(table.rows) == 2
    assert isinstance(heading, Heading)
    assert isinstance(excerpt, Code)
    assert excerpt.numbers == tuple(range(first, lines + 1))
    assert excerpt.lines[0] == f"{first} \ufffd"


def test_plan_has_its_command_and_each_reason(tmp_path: Path) -> None:
    plan = validations.PASSED.plan or {}
    page = write_report(validations.PASSED, tmp_path, "zh")[1].read_text()
    assert (
        "OMP_NUM_THREADS=1 \\\nvllm serve /m \\\n"
        '  --additional-config \'{"a": "b c"}\' \\\n  --node-ip "$IP" \\\n  --eager\n'
    ) in page
    assert page.count("规划的文字") == 3 + 1 + 1 + 2
    assert "显存不足" not in page
    quoted = plan_lines(
        replace(validations.PASSED, plan={**plan, "commands": ["a 'b'\"'\"'c' --x"]})
    )
    assert quoted[-1] == "a 'b'\"'\"'c' --x"


def plan_lines(validation: Validation) -> tuple[str, ...]:
    return next(b.lines for b in plan_section(validation).blocks if isinstance(b, Code))


def test_a_start_that_was_not_made_says_why() -> None:
    (_, table) = ladder.section(validations.LADDER).blocks
    assert isinstance(table, Table)
    assert str(table.rows[-1][-1]) == "it does not change what is computed"
    assert str(table.rows[-1][1]) == "–"
    not_run = replace(validations.LADDER.ladder[-1], stage="real")
    (_, both) = stages.section(
        replace(validations.PASSED, stages=(validations.PASSED.stages[0], not_run))
    ).blocks
    assert isinstance(both, Table)
    (why,) = [row for row in both.rows if str(row[0]) == "why"]
    assert [str(cell) for cell in why[1:]] == ["–", "it does not change what is computed"]


def test_markdown_escapes_no_more_than_it_must(tmp_path: Path) -> None:
    text = write_report(validations.PASSED, tmp_path, "zh")[1].read_text()
    assert "| 24.0 秒 |" in text
    assert "- 总用时：12 分 34 秒\n" in text
    assert "[特性矩阵](#features)" in text


def test_false_ready_is_a_server_that_was_ready() -> None:
    dead = validations.FALSE_READY.stages[1]
    assert is_false_ready(dead)
    assert is_false_ready(replace(dead, label=None))
    assert not is_false_ready(replace(dead, ready_after=None))
    assert not is_false_ready(validations.PASSED.stages[1])


def marks(validation: Validation, title: str) -> str:
    (table,) = deliverables.section(validation).blocks
    assert isinstance(table, Table)
    (row,) = [row for row in table.rows if str(row[0]) == title]
    return str(getattr(row[1], "words", row[1]))


def test_deliverables_say_what_is_here_and_what_is_not() -> None:
    assert marks(validations.PASSED, "feature matrix") == "in this report"
    assert marks(validations.FALSE_READY, "feature matrix") == "not in this run"
    assert marks(validations.LADDER, "evidence of fallbacks") == "in this report"
    assert marks(validations.FALSE_READY, "evidence of fallbacks") == "not in this run"
    assert marks(validations.BARE, "root causes") == "not in this run"
    assert marks(validations.LADDER, "dummy weights against real ones") == "not in this run"
    assert marks(validations.PASSED, "deployment page") == "to be written"


def rectangles(svg: str, style: str) -> list[tuple[float, float]]:
    """x and width of the rectangles of a class whose name begins so."""
    found = re.findall(rf'<rect class="{style}[^"]*" x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', svg)
    return [(float(x), float(width)) for x, width in found]


def figure(section: object) -> str:
    blocks = getattr(section, "blocks", ())
    (picture,) = [block for block in blocks if hasattr(block, "narrow")]
    return str(picture.wide.en)


def test_what_does_not_fit_is_said_with_how_much_is_lacking() -> None:
    first = memory.section(validations.LADDER).blocks[0]
    assert str(getattr(first, "words", "")) == "It does not fit: 5.87 GiB are lacking."
    assert not hasattr(memory.section(validations.PASSED).blocks[0], "words")


@pytest.mark.parametrize("validation", [validations.PASSED, validations.LADDER])
def test_memory_bar_is_to_scale(validation: Validation) -> None:
    plan = dict(validation.plan or {})
    sizes = [part["bytes"] for part in plan["memory"]["parts"]]
    bar = [(x, width) for x, width in rectangles(figure(memory.section(validation)), "part ")
           if width != 12]  # fmt: skip
    left = 0.0
    for nbytes, (x, width) in zip(sizes, bar, strict=True):
        share = 952 * nbytes / max(plan["memory"]["card_bytes"], sum(sizes))
        assert x == pytest.approx(left, abs=0.1)
        assert width == pytest.approx(share - 2, abs=0.1)
        left += share


def test_timeline_is_to_scale_and_begins_where_the_step_before_ended() -> None:
    drawn = rectangles(figure(startup.section(validations.PASSED)), "part ")
    dummy, real = drawn[0::2], drawn[1::2]
    last = sum(real[-1])
    for bars, stage in zip((dummy, real), validations.PASSED.stages, strict=True):
        before = 0.0
        for (x, width), event in zip(bars, stage.timeline, strict=True):
            assert x == pytest.approx(last * before / 85.1, abs=0.2)
            assert width == pytest.approx(max(2, last * (event.seconds - before) / 85.1), abs=0.2)
            before = event.seconds


def test_capacity_has_a_sign_per_trial_and_its_curve_the_longest_that_served() -> None:
    svg = figure(capacity.section(validations.PASSED))
    trials = validations.CAPACITY.trials
    served = sum(trial.served for trial in trials)
    # One more of each in the key.
    assert svg.count('class="served"') == served + 1
    assert svg.count('class="refused"') == len(trials) - served + 1
    (curve,) = re.findall(r'class="curve" d="M([^"]+)"', svg)
    points = [tuple(map(float, point.split())) for point in curve.split("L")]
    # 8 sequences: 32768; 32: 16384; 64: 8192. Fewer tokens lie further left, more sequences higher.
    assert len(points) == 3
    assert points[0][0] > points[1][0] > points[2][0]
    assert points[0][1] > points[1][1] > points[2][1]
    assert points[0][0] - points[1][0] == pytest.approx(points[1][0] - points[2][0], abs=0.2)


@pytest.mark.parametrize("trials", [(), validations.CAPACITY.trials[:1]])
def test_capacity_of_few_trials(trials: tuple[Trial, ...]) -> None:
    few = replace(validations.CAPACITY, trials=trials, theoretical_len=4096, practical_len=None,
                  estimated_len=None)  # fmt: skip
    section = capacity.section(replace(validations.PASSED, capacity=few))
    assert len(section.blocks) == (3 if trials else 1)


def test_facts_of_any_shape() -> None:
    facts = {
        "unknown": 3, "layers": 4, "empty": "", "none": None, "flag": True, "nested": {"a": {}},
        "stored_bytes": 2**31, "list": [1, 2], "both": {"en": "x", "zh": "甲"}, "counts": {"a": 1},
    }  # fmt: skip
    found = {str(getattr(row[0], "text", row[0])): str(row[1]) for row in rows(facts, TITLES)}
    assert found == {
        "layers": "4", "size as stored": "2.00 GiB", "unknown": "3", "flag": "yes", "list": "1, 2",
        "both": "x", "counts": "a: 1",
    }  # fmt: skip
    assert next(iter(found)) == str(TITLES["layers"])


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (2**40, "1.00 TiB"), (2**50, "1024.00 TiB")],
)
def test_sizes(nbytes: int, text: str) -> None:
    assert size(nbytes) == text


def test_durations_and_commands() -> None:
    assert (duration(119.94).en, duration(120).en) == ("119.9 s", "2 min 0 s")
    assert duration(3725).zh == "62 分 5 秒"
    assert shell_lines(("vllm", "serve", "a b", "--x", "1", "--y"), {"A": "b c"}) == (
        "A='b c' \\", "vllm serve 'a b' \\", "  --x 1 \\", "  --y",
    )  # fmt: skip
    assert shell_lines((), {}) == ("",)


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2 defines it."""
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_have_the_contrast_that_wcag_aa_asks_for(scheme: int) -> None:
    blocks = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
    colours = dict(re.findall(r"--(\w+): (#\w{6})", blocks[scheme]))
    assert len(blocks) == 2
    assert len(colours) == 18
    for ink in ("ink", "soft", "link", "good", "bad", "warn"):
        assert contrast(colours[ink], colours["paper"]) >= 4.5, ink
    for ink in ("ink", "soft"):
        assert contrast(colours[ink], colours["panel"]) >= 4.5, ink
    for part in range(8):
        assert contrast(colours["paper"], colours[f"part{part}"]) >= 4.5, part
