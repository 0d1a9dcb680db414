"""What the tests of the whole app share: the app on real projects, and the way a person's hands go through it."""

from __future__ import annotations

import io
import shutil
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image

from core.project import Project
from core.review.log import DecisionLog
from tests.helpers import ROOT, drawn_folder, gradsift

SLOW = 60_000  # ms: a first page on a busy machine
RUN = 180_000  # ms: a quick run on a busy machine
QUICK = ("--epochs", "3", "--trees", "20", "--image-size", "8", "--device", "cpu")
# What a page says while its server is away on purpose.
LOST = r"WebSocket|ERR_CONNECTION_REFUSED|Failed to fetch|disconnected from server|not responding"
SIGNS = {"keep": "✓ kept", "exclude": "✕ out", "unsure": "? unsure"}


def started(serve: Callable[..., Any], *roots: Path, project: Path | None = None, read_only: bool = False) -> Any:
    """The app, allowed to read `roots`."""
    told = {"GRADSIFT_ROOTS": ":".join(map(str, roots)), "GRADSIFT_PROJECT": str(project or "")}
    return serve(ROOT / "app.py", env=told | {"GRADSIFT_READ_ONLY": "1" if read_only else ""})


def scored(folder: Path, source: Path) -> Path:
    """Make a project of a folder of images and score it quickly, maps included."""
    for arguments in (("new", folder, "--source", f"folder:{source}"), ("sift", folder, *QUICK)):
        done = gradsift(*arguments, cwd=folder.parent, timeout=300)
        assert done.returncode == 0, done.stderr
    return folder


@cache
def _prepared(base: Path) -> Path:
    root = base / "prepared"
    drawn_folder(root / "images", 120)
    return scored(root / "project", root / "images")


def prepared(factory: Any, name: str) -> Path:
    """A scored project of 120 drawn images without decisions: made once, copied for each who asks.

    Returns its folder; its images lie in `../../prepared/images` of the same root, see `base`.
    """
    target = base(factory) / "copies" / name
    shutil.copytree(_prepared(base(factory)), target)
    return cast("Path", target)


def base(factory: Any) -> Path:
    """The root that holds what `prepared` makes."""
    return cast("Path", factory.getbasetemp())


def until(true: Callable[[], bool], seconds: float = 30) -> None:
    """Wait for what no page can be asked about."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


# The review page.


def grid(page: Any) -> None:
    """Wait until the gallery stands and takes keys."""
    page.locator(".card").first.wait_for(timeout=SLOW)
    page.locator(".status.saved, .status:text-is('read-only')").first.wait_for(timeout=SLOW)
    idle(page)


def idle(page: Any) -> None:
    """Wait until the server has answered all that was asked."""
    page.wait_for_function("() => document.querySelector('[data-test-script-state=notRunning]')", timeout=SLOW)


def ids(page: Any) -> list[str]:
    return cast("list[str]", page.locator(".card").evaluate_all("nodes => nodes.map((node) => node.dataset.id)"))


def badges(page: Any) -> list[str]:
    return cast("list[str]", page.locator(".badge").all_inner_texts())


def press(page: Any, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def saved(page: Any) -> None:
    """Wait until nothing is in the outbox."""
    page.wait_for_function("() => Object.keys(localStorage).every((key) => !key.startsWith('gradsift.outbox'))")
    page.locator(".status.saved").first.wait_for()


def held(project: Path) -> dict[str, tuple[str, str | None]]:
    """The decisions in effect: id to action and label."""
    return {row["sample_id"]: (row["action"], row["label"]) for row in _log(project).current()}


def events(project: Path) -> list[dict[str, Any]]:
    return _log(project).events()


def _log(project: Path) -> DecisionLog:
    return DecisionLog(Project.open(project).review_path)


# The map.

TO_PIXELS = """([x, y]) => {
  const plot = document.querySelector('.st-key-map .js-plotly-plot'), {xaxis, yaxis, _size} = plot._fullLayout
  const box = document.querySelector('.gs-map-over').getBoundingClientRect()
  return [box.left + _size.l + xaxis.d2p(x), box.top + _size.t + yaxis.d2p(y)]
}"""


def pixel(page: Any, at: list[float]) -> list[float]:
    """Where a place of the map lies on the screen."""
    return cast("list[float]", page.evaluate(TO_PIXELS, at))


def drag(page: Any, corners: list[list[float]]) -> None:
    """Draw along corners that are given in the map's coordinates."""
    first, *rest = [pixel(page, corner) for corner in corners]
    page.mouse.move(*first)
    page.mouse.down()
    for at in rest:
        page.mouse.move(*at, steps=6)
    page.mouse.up()


def left_part(project: Path) -> tuple[list[list[float]], set[str]]:
    """Corners around the left part of the map of gradients, its edge in the widest gap near the middle, and what it
    holds: the ids of the training images."""
    findings = Project.open(project).findings()
    xy = np.asarray(findings.maps["gradients"], float)
    train = (findings.samples["split"] == "train").to_numpy(bool)
    xs = np.sort(xy[train, 0])
    middle = range(len(xs) // 3, 2 * len(xs) // 3)
    gap = max(middle, key=lambda row: xs[row + 1] - xs[row])
    edge = float(xs[gap] + xs[gap + 1]) / 2
    (left, low), (right, high) = xy.min(axis=0) - 0.15, xy.max(axis=0) + 0.15
    assert right > edge
    corners = [[left, low], [left, high], [edge, high], [edge, low]]
    inside = train & (xy[:, 0] < edge)
    return [[float(x), float(y)] for x, y in corners], set(findings.samples.index[inside])


# Pictures.


def jpeg(pixels: np.ndarray, quality: int = 80) -> bytes:
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, format="JPEG", quality=quality)
    return target.getvalue()
