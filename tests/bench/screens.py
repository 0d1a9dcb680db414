"""How fast the app answers, in a real browser: `python tests/bench/screens.py PROJECT [--keys 200]`.

The project is copied first. On the review page: key to decision painted (an observer in the page), key to acknowledged
(written to disk and told to the browser), 60 keys at ten a second, the same with the server killed in between, the tab
closed right after a key, the next page of 60 cards. Then: a page change, a lasso on the map to its gallery, the
server's memory. The yardstick is one empty frame: what this machine and browser paint at best.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from core.project import Project
from core.review.log import DecisionLog
from core.serve import AppOptions, Server
from tests.browser.conftest import FLAGS
from tests.shots import WIDE, browser_path

PRESSED = (
    "window.pressed = null; window.addEventListener('keydown', () => { window.pressed ??= performance.now() }, true)"
)
PAINTS = """() => {
  window.paints = []
  const host = [...document.querySelectorAll("[data-testid=stBidiComponentIsolated]")]
    .find((node) => node.shadowRoot?.querySelector(".list"))
  new MutationObserver((changes) => {
    const badge = (node) => node.nodeType === 1 && node.matches(".badge")
    if (window.pressed === null || !changes.some((one) => badge(one.target))) return
    const from = window.pressed
    window.pressed = null
    requestAnimationFrame(() => setTimeout(() => window.paints.push(performance.now() - from)))
  }).observe(host.shadowRoot, { subtree: true, childList: true, attributes: true })
}"""
ACKS = """() => { window.acks = []; setInterval(() => {
  const waits = Object.keys(localStorage).some((key) => key.startsWith("gradsift.outbox"))
  if (window.pressed === null || waits) return
  window.acks.push(performance.now() - window.pressed); window.pressed = null }, 2) }"""
FRAME = """() => new Promise(done => { const from = performance.now()
  requestAnimationFrame(() => setTimeout(() => done(performance.now() - from))) })"""


BUTTON = (
    "() => [...document.querySelectorAll('button')].map((b) => b.innerText).find((t) => t.startsWith('Review these'))"
)
LOOK = 300  # ms that a person looks at an image at least


def spread(values: list[float]) -> str:
    """Median, 95th percentile and worst of some milliseconds."""
    ordered = sorted(values)
    tail = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    return f"median {statistics.median(ordered):.0f} ms, 95 % {tail:.0f}, worst {ordered[-1]:.0f} (n = {len(ordered)})"


def memory(server: Server) -> int:
    """Resident memory of the server, in MB."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) // 1024


def until(done: Callable[[], bool], seconds: float = 60) -> float:
    """Wait for something; return the milliseconds it took."""
    begin = time.perf_counter()
    while not done():
        if time.perf_counter() - begin > seconds:
            raise TimeoutError
        time.sleep(0.005)
    return 1000 * (time.perf_counter() - begin)


def opened(page: Page, server: Server, project: Path, who: str, query: str = "") -> None:
    """Open the review page and wait for its first evidence."""
    page.context.add_cookies([{"name": "gradsift-reviewer", "value": who, "url": server.url()}])
    page.goto(f"{server.url('review', project=str(project))}{query}")
    page.locator(".card").first.wait_for(timeout=60_000)
    page.locator(".more .trio").wait_for(timeout=60_000)


def count(project: Path, who: str) -> int:
    """How many decisions of a reviewer are on disk."""
    rows = DecisionLog(Project.open(project).review_path).events()
    return sum(row["reviewer"] == who and row["kind"] == "decide" for row in rows)


def keys_to_paint(page: Page, keys: int) -> list[float]:
    """Review `keys` images by keyboard, page after page, each as soon as the one before was looked at for 0.3 s."""
    found: list[float] = []
    page.evaluate(PAINTS)
    for number, key in enumerate(itertools.islice(itertools.cycle("kxuk"), keys)):
        if number and number % 60 == 0:
            page.locator(".st-key-page-on button").click()
            page.wait_for_function(f"() => document.body.innerText.includes('{number + 1:,} to')")
            page.locator(".list").focus()
            page.wait_for_timeout(500)
            found += page.evaluate("window.paints")
            page.evaluate(PAINTS)
        before = page.evaluate("window.paints.length")
        page.keyboard.press(key)
        page.wait_for_function(f"() => window.paints.length > {before}")
        page.wait_for_timeout(LOOK)
    return found + list(page.evaluate("window.paints"))


def at_a_rate(page: Page, keys: int, per_second: int = 10) -> None:
    """Press keys at a steady rate."""
    begin = time.monotonic()
    for number, key in enumerate(itertools.islice(itertools.cycle("kxu"), keys)):
        page.keyboard.press(key)
        page.wait_for_timeout(max(0.0, (begin + (number + 1) / per_second - time.monotonic()) * 1000))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("project", type=Path)
    parser.add_argument("--keys", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gradsift-screens-") as folder, sync_playwright() as driver:
        project = Path(shutil.copytree(options.project, Path(folder) / "project"))
        source = Path(Project.open(project).config.source_spec.partition(":")[2] or folder)
        told = AppOptions((Path(folder), source if source.is_dir() else source.parent), project=project)
        server = Server(told)
        server.wait_until_up()
        browser = driver.chromium.launch(executable_path=browser_path(), args=list(FLAGS))
        try:
            measure(browser.new_context(viewport=WIDE), server, told, project, options.keys)  # type: ignore[arg-type]
        finally:
            browser.close()
            server.end()


def measure(context: object, server: Server, told: AppOptions, project: Path, keys: int) -> None:
    """Take every figure and print it."""
    page: Page = context.new_page()  # type: ignore[attr-defined]
    page.add_init_script(PRESSED)
    begin = time.perf_counter()
    opened(page, server, project, "first", "&budget=50%25")
    print(f"first page of a fresh server, evidence included: {1000 * (time.perf_counter() - begin):.0f} ms")
    print(f"yardstick, an empty frame: {spread([page.evaluate(FRAME) for _ in range(50)])}")
    print(f"key to painted, {keys} images: {spread(keys_to_paint(page, keys))}")
    until(lambda: count(project, "first") == keys)

    opened(page, server, project, "second", "&budget=50%25")
    page.evaluate(ACKS)
    for number in range(20):
        page.keyboard.press("k")
        page.wait_for_function(f"() => window.acks.length === {number + 1}")
    print(f"key to disk and acknowledged: {spread(page.evaluate('window.acks'))}")

    opened(page, server, project, "third", "&budget=50%25")
    at_a_rate(page, 60)
    after = until(lambda: count(project, "third") == 60)
    print(f"60 keys at 10 a second: {count(project, 'third')} stored, the last {after:.0f} ms after its key")

    opened(page, server, project, "fourth", "&budget=50%25")
    at_a_rate(page, 20)
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait()
    at_a_rate(page, 20)
    again = Server(told, port=server.port)
    server.process = again.process
    server.wait_until_up()
    at_a_rate(page, 20)
    after = until(lambda: count(project, "fourth") == 60)
    print(f"60 keys, the server killed after 20 and back after 40: 60 stored, {after:.0f} ms after the last")

    opened(page, server, project, "fifth", "&budget=50%25")
    page.keyboard.press("x")
    page.close()
    page = context.new_page()  # type: ignore[attr-defined]
    opened(page, server, project, "fifth", "&budget=50%25")
    until(lambda: count(project, "fifth") == 1)
    print("tab closed right after a key: stored when the page was opened again")

    walks = []
    for number in range(2, 12):
        first = page.locator(".card").first.get_attribute("aria-label")
        begin = time.perf_counter()
        page.locator(".st-key-page-on button").click()
        page.wait_for_function(f"() => document.body.innerText.includes('{60 * (number - 1) + 1:,} to')")
        until(lambda was=first: page.locator(".card").first.get_attribute("aria-label") != was)
        walks.append(1000 * (time.perf_counter() - begin))
    print(f"next page of 60 cards: {spread(walks)}")

    changes = []
    for _ in range(6):
        for name, sign in (("Export", "images stay"), ("Review", "reviewed")):
            begin = time.perf_counter()
            page.get_by_role("link", name=name, exact=True).click()
            page.wait_for_function(f"() => document.body.innerText.includes('{sign}')")
            if name == "Review":
                page.locator(".card").first.wait_for()
            changes.append(1000 * (time.perf_counter() - begin))
    print(f"page change: {spread(changes)}")
    lasso(page, server, project)
    print(f"memory of the server: {memory(server)} MB")


def lasso(page: Page, server: Server, project: Path) -> None:
    """Draw a lasso on the map and wait for the gallery it fills."""
    begin = time.perf_counter()
    page.goto(server.url("map", project=str(project)))
    page.locator(".st-key-map .js-plotly-plot").first.wait_for(state="attached", timeout=60_000)
    page.locator(".card").first.wait_for()
    print(f"map, cold link to first cards: {1000 * (time.perf_counter() - begin):.0f} ms")
    page.wait_for_timeout(3000)
    box = page.locator(".st-key-map .js-plotly-plot").first.bounding_box()
    assert box
    found, sizes = [], []
    for shift in (0.0, 0.04, -0.04, 0.08, -0.08):
        corners = [(0.35, 0.35), (0.6, 0.33), (0.66, 0.55), (0.5, 0.68), (0.36, 0.6)]
        points = [(box["x"] + box["width"] * (x + shift), box["y"] + box["height"] * y) for x, y in corners]
        before = page.evaluate(BUTTON)
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point, steps=10)
        begin = time.perf_counter()
        page.mouse.up()
        page.wait_for_function(f"(was) => ({BUTTON})() !== was", arg=before, timeout=20_000)
        found.append(1000 * (time.perf_counter() - begin))
        sizes.append(page.evaluate(BUTTON))
    print(f"lasso to gallery: {spread(found)}; {sizes}")


if __name__ == "__main__":
    main()
