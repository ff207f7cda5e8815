"""The report in a real browser: every figure is drawn, its numbers are those of the data, nothing is fetched."""

from __future__ import annotations

import base64
import json
import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import Browser, chromium
from tests.support.reports import HOSTILE, small_data, small_model, small_samples
from tinygen import api, bundle, pipeline
from tinygen.boards import load_board
from tinygen.budgets import Budgets
from tinygen.project import write_project
from tinygen.report import comparison, layer_time, memory, page, pruned, room, rounding, traffic
from tinygen.report.data import Data

pytestmark = pytest.mark.chromium

CHARTS = (
    "time", "budgets", "memory-scale", "memory-used", "arena", "graph", "traffic", "snr", "histograms",
    "tradeoff-cycles", "tradeoff-sram", "tradeoff-macs", "channels", "ladder-0", "comparison", "history",
)  # fmt: skip

SYMBOLS = '[role="graphics-symbol"]:not(.role-axis):not(.role-legend)'
MARKS = """Object.fromEntries([...document.querySelectorAll(".chart")].map(c => {
    const svg = c.querySelector("svg"), box = svg ? svg.getBoundingClientRect() : {width: 0, height: 0};
    const marks = [...c.querySelectorAll(SYMBOLS)].filter(m => {
        const b = m.getBoundingClientRect(); return b.width > 0 && b.height > 0; });
    return [c.id.slice(6), [box.width, box.height, marks.length, box.right]];
}))"""
MARKS = MARKS.replace("SYMBOLS", f"'{SYMBOLS}'")
LABELS = f"[...document.querySelectorAll('#chart-{{}} {SYMBOLS}')].map(m => m.getAttribute('aria-label'))"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def data() -> Data:
    return small_data(budgets=Budgets(ms=0.1))


@pytest.fixture(scope="module")
def report(data: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report with spaces.html"
    path.write_text(page.render(data))
    return path


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_figure_is_drawn_and_nothing_overflows(
    browser: Browser, report: Path, width: int, scheme: str
) -> None:
    browser.complaints(), browser.requested()
    browser.open(report, width, scheme)
    assert browser.complaints() == []
    marks = browser.js(MARKS)
    assert set(marks) == set(CHARTS)
    for chart, (wide, tall, count, right) in marks.items():
        assert wide > 100 and tall > 50 and count > 0 and right <= width, (chart, wide, tall, count, right)
    assert browser.js("document.documentElement.scrollWidth") <= width
    assert all(url.startswith(("file:", "data:", "blob:")) for url in browser.requested())
    assert (
        browser.js("performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:')).length")
        == 0
    )


def test_light_and_dark_differ_and_are_readable(browser: Browser, report: Path) -> None:
    """Contrast of text and of axis labels against what they stand on: at least 4.5 to 1, as WCAG AA asks."""
    seen = []
    for scheme in ("light", "dark"):
        browser.open(report, 1280, scheme)
        style = "getComputedStyle(document.querySelector('{}')).{}"
        card = colour(browser.js(style.format("section", "backgroundColor")))
        texts = [
            style.format("h2", "color"),
            style.format(".says", "color"),
            style.format("summary", "color"),
        ]
        texts += [
            style.format(f"#chart-time .{part} text", "fill")
            for part in ("role-axis-label", "role-legend-label")
        ]
        assert all(contrast(colour(browser.js(text)), card) >= 4.5 for text in texts), scheme
        seen.append(card)
    assert seen[0] != seen[1]


def colour(text: str) -> tuple[float, ...]:
    return tuple(int(part) / 255 for part in re.findall(r"\d+", text)[:3])


def contrast(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    def luminance(rgb: tuple[float, ...]) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_marks_say_the_numbers_of_the_data(browser: Browser, report: Path, data: Data) -> None:
    """What a mark tells those who hear the page is every number that went into the figure, and no other."""
    browser.open(report)
    tensors = rounding.shown_tensors(data)
    parts = memory.rows(data)
    before, log = data.before, data.pruning
    assert before is not None and data.profile is not None and log is not None
    from tinygen.profile_json import comparison as compared

    expected = {
        "time": layer_time.rows(data),
        "traffic": traffic.rows(data),
        "budgets": room.rows(data),
        "memory-scale": parts,
        "memory-used": [p for p in parts if p["kind"] not in memory.EMPTY],
        "snr": rounding.snr_rows(tensors) + rounding.channel_rows(tensors),
        "histograms": rounding.histogram_rows(tensors),
        "comparison": comparison.rows(compared(before, data.profile)),
        "tradeoff-cycles": pruned.rows(log, "cycles"),
        "tradeoff-sram": pruned.rows(log, "sram"),
        "tradeoff-macs": pruned.rows(log, "macs"),
        "channels": pruned.channels(log),
    }
    for chart, rows in expected.items():
        shown = Counter(browser.js(LABELS.format(chart)))
        assert shown == Counter(row["says"] for row in rows), chart


def test_bars_are_as_long_as_their_numbers(browser: Browser, report: Path, data: Data) -> None:
    """Pixels of the bars of time, over all layers, in proportion to the profile's cycles."""
    browser.open(report)
    lengths: Counter[str] = Counter()
    rows: dict[str, tuple[float, float]] = {}
    code = """[...document.querySelectorAll('#chart-time path[role="graphics-symbol"]')].map(
        m => { const b = m.getBoundingClientRect();
               return [m.getAttribute("aria-label").split(",")[0], b.width, b.top, b.bottom]; })"""
    for layer, width, top, bottom in browser.js(code):
        lengths[layer] += width
        rows[layer] = (top, bottom)
    edges = sorted(rows.values())
    assert all(above[1] + 1 < below[0] for above, below in pairwise(edges)), "there is a gap between rows"
    costs = {cost["name"]: cost["cycles"] for cost in data.costs()}
    longest = max(costs, key=lambda name: costs[name])
    for name, cycles in costs.items():
        assert lengths[name] / lengths[longest] == pytest.approx(cycles / costs[longest], abs=0.01), name


def test_tables_hold_the_profile(browser: Browser, report: Path, data: Data) -> None:
    browser.open(report)
    code = "[...document.querySelectorAll('#time tbody tr')].map(r => [...r.cells].map(c => c.textContent))"
    rows = {row[0]: row for row in browser.js(code)}
    keys = ("macs", "instructions", "cycles", "zero_wait_cycles", "fetch_stalls", "data_stalls")
    assert data.profile is not None
    for cost in (*data.costs(), {"name": "sum", **data.profile["totals"]}):
        assert [int(cell.replace(",", "")) for cell in rows[cost["name"]][2:8]] == [cost[k] for k in keys]
    cards = browser.js(
        "Object.fromEntries([...document.querySelectorAll('.card')].map(c => [c.id, c.querySelector('b').textContent]))"
    )
    assert cards["card-cycles"] == f"{data.profile['totals']['cycles']:,}"
    assert cards["card-arena"] == f"{data.layers['arena']['bytes']:,} bytes"


def test_tooltips_and_tables_open(browser: Browser, report: Path) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    browser.open(report)
    bar = browser.driver.find_element(By.CSS_SELECTOR, "#chart-time [aria-label^='body, compute']")
    browser.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", bar)
    ActionChains(browser.driver).move_to_element(bar).perform()
    tip = WebDriverWait(browser.driver, 10).until(
        lambda d: d.execute_script("return document.querySelector('#vg-tooltip-element.visible')?.innerText")
    )
    assert "body" in tip and "tg_conv2d_s8" in tip and " ms" in tip
    assert not browser.js("document.querySelector('#time details').open")
    browser.driver.find_element(By.CSS_SELECTOR, "#time summary").click()
    assert browser.js("document.querySelector('#time table').getBoundingClientRect().height") > 100


def test_paper_has_charts_and_tables(browser: Browser, report: Path) -> None:
    """Printing opens every table, and closes them again."""
    browser.open(report, 1280, "dark")
    pdf = base64.b64decode(browser.driver.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert pdf.startswith(b"%PDF") and len(re.findall(rb"/Type\s*/Page\b", pdf)) >= 4
    browser.driver.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert browser.js("document.querySelectorAll('details:not([open])').length") == 0
    browser.driver.execute_script("dispatchEvent(new Event('afterprint'))")
    assert browser.js("document.querySelectorAll('details[open]').length") == 1, "the graph's table"
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    style = "getComputedStyle(document.querySelector('h2')).color"
    assert contrast(colour(browser.js(style)), (1.0, 1.0, 1.0)) > 10, (
        "ink is dark on paper, whatever the screen is"
    )


def test_hostile_names_do_nothing(browser: Browser, tmp_path: Path) -> None:
    """Layers named like markup, scripts and templates: shown as they are, at both widths."""
    path = tmp_path / "hostile.html"
    path.write_text(page.render(small_data(hostile=True)))
    for width in (1280, 390):
        browser.complaints()
        browser.open(path, width)
        assert browser.complaints() == []
        assert browser.js(
            "window.pwned === undefined && document.querySelectorAll('main img, main script').length === 0"
        )
        assert browser.js("document.documentElement.scrollWidth") <= width
    names = browser.js("[...document.querySelectorAll('#model tbody tr')].map(r => r.cells[1].textContent)")
    assert names == [HOSTILE[n] for n in ("stem", "body", "join", "flat", "head", "scores")]
    labels = browser.js(LABELS.format("time"))
    assert any(label.startswith(HOSTILE["body"]) for label in labels)
    for name in ("stem", "body", "join"):
        hover(browser, HOSTILE[name])
    assert browser.js("window.pwned === undefined && document.querySelectorAll('img').length === 0")


def hover(browser: Browser, layer: str) -> None:
    """Show the tooltip of a layer's first bar; its text must hold the name as it is."""
    from selenium.webdriver import ActionChains
    from selenium.webdriver.support.ui import WebDriverWait

    bar = browser.driver.execute_script(
        """return [...document.querySelectorAll('#chart-time path[role="graphics-symbol"]')]
           .find(m => m.getAttribute("aria-label").startsWith(arguments[0]))""",
        layer,
    )
    browser.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", bar)
    ActionChains(browser.driver).move_to_element(bar).perform()
    said = "return document.querySelector('#vg-tooltip-element.visible')?.textContent.includes(arguments[0])"
    WebDriverWait(browser.driver, 10).until(lambda d: d.execute_script(said, layer))
    left, right = browser.js(
        "(b => [b.left, b.right])(document.querySelector('#vg-tooltip-element').getBoundingClientRect())"
    )
    assert 0 <= left < right <= browser.js("innerWidth")


@pytest.mark.arm
def test_project_to_page(browser: Browser, tmp_path: Path) -> None:
    """A real image, profiled: the page's totals are those of the profile."""
    board, options = load_board("nucleo_l4r5zi"), pipeline.Options("small")
    manifest = bundle.manifest_of(Path(__file__), None, [board], options, bundle.SampleOptions())
    made = bundle.make_project([small_model(hostile=True)], [board], manifest, small_samples(), options)
    write_project(made, tmp_path / "fw")
    from tinygen import profile_json

    profile: dict[str, Any] = profile_json.to_json(api.profile(tmp_path / "fw"))
    (tmp_path / "p.json").write_text(json.dumps(profile))
    api.report(tmp_path / "fw", tmp_path / "r.html", profile=tmp_path / "p.json")
    browser.open(tmp_path / "r.html")
    assert (
        browser.js("document.querySelector('#card-cycles b').textContent")
        == f"{profile['totals']['cycles']:,}"
    )
    rows = "[...document.querySelectorAll('#memory tbody tr')]"
    cells = rows + ".map(r => Number(r.cells[3].textContent.replace(/,/g, '')))"
    assert browser.js(cells) == [p["bytes"] for r in profile["memory"]["regions"] for p in r["parts"]]
