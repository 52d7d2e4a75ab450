# SPDX-License-Identifier: Apache-2.0
"""The page in a real browser: on a desk, on a phone, in the dark and on paper."""

import io
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import validations
from browser import CLUTTER, DRAWN_TEXT, browser
from PIL import Image

from vllm_ascend_bringup.tools.report import write_report
from vllm_ascend_bringup.tools.report.sections.catalog import SECTIONS
from vllm_ascend_bringup.tools.validate.results import Capacity, Trial

PAGES = [(name, language) for name in validations.ALL for language in ("en", "zh")]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    folder = tmp_path_factory.mktemp("report")
    made = {}
    for name, language in PAGES:
        # A log beside the report, so that excerpts are on the page.
        log = folder / f"{name}.log"
        log.write_text(f"{validations.HOSTILE}\n" * 60)
        validation = validations.with_logs(validations.ALL[name], log)
        files = write_report(validation, folder / f"{name}-{language}", language)  # type: ignore[arg-type]
        made[name, language] = files[-1]
    return made


def opened(chromium: Any, file: Path, width: int, **options: Any) -> Any:
    """The page; its ``requests`` and ``complaints`` are what the browser did and said."""
    page = chromium.new_page(viewport={"width": width, "height": 900}, **options)
    page.requests, page.complaints = [], []
    page.on("request", lambda request: page.requests.append(request.url))
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.goto(file.as_uri())
    return page


@pytest.mark.parametrize("width", [360, 390, 768, 1280])
@pytest.mark.parametrize(("name", "language"), PAGES)
def test_everything_is_there_and_nothing_sticks_out(
    chromium: Any, pages: dict[tuple[str, str], Path], name: str, language: str, width: int
) -> None:
    file = pages[name, language]
    page = opened(chromium, file, width)
    try:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.requests == [file.as_uri()]
        assert page.complaints == []
        assert page.evaluate("document.scripts.length") == 0
        assert page.evaluate(CLUTTER) == []
        heights = page.eval_on_selector_all(
            "section", "all => all.map(s => s.checkVisibility() ? s.offsetHeight : 0)"
        )
        assert len(heights) == len(SECTIONS)
        assert min(heights) > 60
        figures = page.eval_on_selector_all(
            "figure", "all => all.map(f => [...f.querySelectorAll('svg')]"
            ".filter(s => s.checkVisibility()).map(s => s.getAttribute('aria-label')))",
        )  # fmt: skip
        assert all(len(labels) == 1 and labels[0] for labels in figures)
        if name == "passed":
            assert len(figures) == 3
    finally:
        page.close()


def linear(channel: float) -> float:
    return channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4


def luminance(colour: str) -> float:
    """Of ``rgb(r, g, b)``, as WCAG 2 defines it."""
    numbers = re.fullmatch(r"rgb\((\d+), (\d+), (\d+)\)", colour)
    assert numbers, colour
    red, green, blue = (linear(int(number) / 255) for number in numbers.groups())
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_every_word_can_be_read(
    chromium: Any, pages: dict[tuple[str, str], Path], scheme: str, width: int
) -> None:
    seen = set()
    for (name, _), file in pages.items():
        page = opened(chromium, file, width, color_scheme=scheme)
        for words, colour, behind, size in page.evaluate(DRAWN_TEXT):
            low, high = sorted((luminance(colour), luminance(behind)))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (name, words, colour, behind)
            assert size >= 11, (name, words, size)
            seen.add((colour, behind))
        page.close()
    assert len(seen) >= 8


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_screen_is_not_blank(
    chromium: Any, pages: dict[tuple[str, str], Path], scheme: str, width: int
) -> None:
    page = opened(chromium, pages["passed", "zh"], width, color_scheme=scheme)
    shot = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
    page.close()
    counted = sorted(shot.getcolors(maxcolors=shot.width * shot.height) or [], reverse=True)
    (most, paper), total = counted[0], shot.width * shot.height
    assert paper == ((255, 255, 255) if scheme == "light" else (20, 23, 27))
    assert 0.5 < most / total < 0.97
    drawn = {colour for _, colour in counted}
    part0 = (0x2C, 0x5F, 0x9E) if scheme == "light" else (0x8A, 0xB6, 0xEA)
    assert part0 in drawn  # the pictures take the scheme's colours too


def test_paper_is_white_and_shows_everything(
    chromium: Any, pages: dict[tuple[str, str], Path]
) -> None:
    """A4 less its margins is 688 px wide."""
    page = opened(chromium, pages["ladder", "en"], 688, color_scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 688
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("document.querySelector('nav').checkVisibility()") is False
    assert page.evaluate(CLUTTER) == []
    hidden = "all => all.filter(e => !e.checkVisibility()).length"
    assert page.eval_on_selector_all("section, svg.wide, table thead", hidden) == 0
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.close()


def test_what_a_server_says_is_shown_and_not_run(
    chromium: Any, pages: dict[tuple[str, str], Path]
) -> None:
    page = opened(chromium, pages["false-ready", "en"], 1280)
    # 60 log lines, and what diagnoses, checks and the table of false starts quote.
    assert page.inner_text("main").count(validations.HOSTILE) >= 63
    page.close()


@pytest.mark.parametrize("width", [360, 1280])
def test_capacities_of_any_size_stay_in_the_picture(
    chromium: Any, tmp_path: Path, width: int
) -> None:
    """Limits that coincide, that lie at either end, and so many trials that labels must go."""
    lengths = [2**power + place for place, power in enumerate(range(9, 21))]
    trials = tuple(
        Trial(length, sequences, length < 2**15, None, 1.0)
        for length in lengths for sequences in (1, 2, 3, 256, 257)
    )  # fmt: skip
    for place, (theoretical, practical) in enumerate(((512, 512), (2**20, 513), (600, 2**21))):
        capacity = Capacity(theoretical, theoretical, None, practical, None, trials)
        made = write_report(
            replace(validations.PASSED, capacity=capacity), tmp_path / str(place), "zh"
        )
        page = opened(chromium, made[-1], width)
        assert page.evaluate(CLUTTER) == []
        page.close()
