"""Take pictures of every page: `python tests/shots.py FOLDER [--project PROJECT] [--assets]`.

Without a project the pictograms demo is made and scored in FOLDER. For the pages that come after the review, one who
knows the truth then decides on the first fifth of its ranking, and everything is retrained with five seeds. Each page
is taken in light and dark at 1440 pixels and in light at 820, and the empty start screen; `--assets` also writes the
pictures that the README shows.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from core import opening
from core.progress import Progress
from core.project import Project
from core.proving import verify
from core.retrain.run import VerifyOptions
from core.review.decisions import Review
from core.review.points import flagged_ids
from core.serve import AppOptions, Server
from core.verify.record import FULL
from tests.browser.conftest import FLAGS, NAMES

ROOT = Path(__file__).parents[1]
QUIET = 3_000  # ms without a change: a busy machine draws late
STILL = """(quiet) => {
  if (!window.changedAt) {
    window.changedAt = performance.now();
    const look = () => (window.changedAt = performance.now());
    new MutationObserver(look).observe(document.body, { subtree: true, childList: true, characterData: true });
  }
  const signs = ["stSkeleton", "stStatusWidget", "stSpinner"];
  if (signs.some((sign) => document.querySelector(`[data-testid=${sign}]`))) window.changedAt = performance.now();
  return performance.now() - window.changedAt > quiet;
}"""
WIDE, NARROW = {"width": 1440, "height": 900}, {"width": 820, "height": 1180}


def browser_path() -> str:
    """Return where the browser is, as the browser tests find it."""
    found = os.environ.get("GRADSIFT_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if not found:
        raise SystemExit(f"No browser among {', '.join(NAMES)}; name one in GRADSIFT_CHROMIUM.")
    return str(found)


def settled(page: Page) -> None:
    """Wait until nothing runs and nothing is loading."""
    page.wait_for_selector("[data-testid=stAppViewContainer]")
    page.wait_for_function(STILL, arg=QUIET, timeout=120_000, polling=200)
    page.wait_for_timeout(900)  # fonts, and Plotly's first drawing


def lasso(page: Page) -> None:
    """Draw a lasso around the middle of the map."""
    plot = page.locator(".st-key-map .js-plotly-plot").first
    plot.wait_for()
    page.wait_for_timeout(1500)
    box = plot.bounding_box()
    assert box
    corners = [(0.30, 0.30), (0.52, 0.24), (0.66, 0.42), (0.58, 0.66), (0.36, 0.62), (0.30, 0.30)]
    points = [(box["x"] + box["width"] * x, box["y"] + box["height"] * y) for x, y in corners]
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point, steps=6)
    page.mouse.up()
    page.wait_for_timeout(2500)


def gallery(page: Page) -> None:
    """Wait for the pictures of the gallery and of the large view."""
    page.locator(".card img").nth(20).wait_for(timeout=60_000)
    page.locator(".panel img").first.wait_for(timeout=60_000)
    page.wait_for_timeout(1500)


def nothing(_page: Page) -> None:
    """Leave the page as it is."""


PAGES: dict[str, tuple[str, Callable[[Page], None]]] = {
    "load": ("load", nothing), "score": ("score", nothing), "map": ("map", lasso), "review": ("review", gallery),
    "verify": ("verify", nothing), "export": ("export", nothing), "learn": ("learn", nothing),
    "present": ("present", nothing),
}  # fmt: skip


AFTER = ("verify", "export", "present")  # pages that show what was decided
README = ("review", "map", "verify", "learn")
BUDGET, SEEDS = "20%", 5


def proven(folder: Path) -> None:
    """Decide as somebody who knows the truth, junk excluded, and retrain."""
    project = Project.open(folder)
    rows, review = project.manifest().rows.set_index("sample_id"), Review(project, reviewer="ann")
    if len(review.current()):
        return
    first = rows.loc[flagged_ids(project.findings().samples, budget=BUDGET)]
    junk, wrong = first["planted"] == "junk", first["given_label"] != first["true_label"]
    review.decide(list(first.index[junk]), "exclude")
    review.decide(list(first.index[~junk & ~wrong]), "keep")
    for label, some in first[~junk & wrong].groupby("true_label"):
        review.decide(list(some.index), "relabel", label=str(label))
    verify(project, VerifyOptions(FULL, seeds=SEEDS), Progress())


def shoot(browser: Browser, server: Server, folder: Path, project: Path, names: Iterable[str]) -> None:
    """Take pages in light and dark, and narrow."""
    for scheme, size, suffix in (("light", WIDE, "light"), ("dark", WIDE, "dark"), ("light", NARROW, "narrow")):
        for name in names:
            path, act = PAGES[name]
            page = browser.new_page(viewport=size, color_scheme=scheme)  # type: ignore[arg-type]
            page.goto(server.url(path, project=str(project)))
            settled(page)
            act(page)
            page.screenshot(path=folder / f"{name}-{suffix}.png")
            page.close()
            print(folder / f"{name}-{suffix}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--project", type=Path)
    parser.add_argument("--assets", action="store_true")
    options = parser.parse_args()
    folder = options.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    project = options.project
    if project is None:
        project = folder / "gradsift-demo"
        opening.counted(project, "pictograms", Progress())
    project = project.absolute()
    (folder / "empty").mkdir(exist_ok=True)
    full = Server(AppOptions((folder, project.parent), project=project))
    full.wait_until_up()  # before the next one looks for a free port
    empty = Server(AppOptions((folder / "empty",)))
    try:
        empty.wait_until_up()
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=browser_path(), args=list(FLAGS))
            page = browser.new_page(viewport=WIDE)  # type: ignore[arg-type]
            page.goto(empty.url())
            settled(page)
            page.screenshot(path=folder / "start-light.png")
            shoot(browser, full, folder, project, [name for name in PAGES if name not in AFTER])
            if options.project is None:
                proven(project)
            shoot(browser, full, folder, project, AFTER)
            if options.assets:
                for scheme in ("light", "dark"):
                    for name in README:
                        (ROOT / "assets" / f"{name}-{scheme}.png").write_bytes(
                            (folder / f"{name}-{scheme}.png").read_bytes()
                        )
    finally:
        full.end()
        empty.end()


if __name__ == "__main__":
    main()
