# SPDX-License-Identifier: Apache-2.0
"""A real browser for tests of pages: the Chromium or Chrome that is on PATH."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@contextmanager
def browser() -> Iterator[Any]:
    """playwright's Browser; skips by name where there is none."""
    executable = next(filter(None, map(shutil.which, NAMES)), None)
    if executable is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} on PATH")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield started
        started.close()


# Visible pieces of text with colours as drawn: [words, colour, background, size in px].
# A piece of a picture stands on the last shape before it that covers its middle.
DRAWN_TEXT = """() => {
  const solid = c => !/rgba\\(.*, 0\\)|transparent|none/.test(c)
  const behind = e => {
    for (let p = e; p; p = p.parentElement) {
      const c = getComputedStyle(p).backgroundColor
      if (solid(c)) return c
    }
  }
  const found = []
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
  for (let node; node = walk.nextNode();) {
    const e = node.parentElement, words = node.data.trim(), style = getComputedStyle(e)
    if (!words || !e.checkVisibility() || e.closest('title')) continue
    const svg = e.closest('svg'), size = parseFloat(style.fontSize)
    if (!svg) { found.push([words, style.color, behind(e), size]); continue }
    const t = e.getBoundingClientRect(), x = t.left + t.width / 2, y = t.top + t.height / 2
    let under = behind(svg)
    for (const r of svg.querySelectorAll('rect')) {
      const b = r.getBoundingClientRect(), fill = getComputedStyle(r).fill
      if (b.left <= x && x <= b.right && b.top <= y && y <= b.bottom && solid(fill)) under = fill
    }
    found.push([words, style.fill, under, size])
  }
  return found
}"""

# What is wrong with the pictures that are shown: shapes outside of them, words over words, or a
# shape without a colour of the scheme, which is black.
CLUTTER = """() => {
  const wrong = []
  for (const svg of document.querySelectorAll('svg')) {
    if (!svg.checkVisibility()) continue
    const frame = svg.getBoundingClientRect()
    const texts = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBBox()])
    const view = svg.viewBox.baseVal
    for (const shape of svg.querySelectorAll('text, rect, path, line')) {
      const b = shape.getBBox(), style = getComputedStyle(shape)
      const black = [style.fill, style.stroke].includes('rgb(0, 0, 0)')
      if (black && !(shape.tagName == 'line' && style.stroke != 'rgb(0, 0, 0)'))
        wrong.push(['black', shape.outerHTML])
      const right = b.x + b.width, bottom = b.y + b.height
      if (b.x < -1 || b.y < -1 || right > view.width + 1 || bottom > view.height + 1)
        wrong.push(['outside', shape.textContent || shape.outerHTML])
    }
    texts.forEach(([words, a], i) => texts.slice(i + 1).forEach(([other, b]) => {
      const across = Math.min(a.x + a.width, b.x + b.width) - Math.max(a.x, b.x)
      const down = Math.min(a.y + a.height, b.y + b.height) - Math.max(a.y, b.y)
      if (across > 0 && down > 2) wrong.push(['over each other', words, other])
    }))
    if (frame.width < 200 || frame.right > innerWidth) wrong.push(['picture', frame.width])
  }
  return wrong
}"""
