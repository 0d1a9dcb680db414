"""Two thousand photo-sized JPEGs: made a project, scored quickly, looked at and decided in the browser."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.browser import driving
from tests.browser.driving import SLOW, held, ids, press, saved, until
from tests.helpers import gradsift

COUNT, WIDE, HIGH = 2_000, 640, 480
CLASSES = ("bars", "disc", "frame", "field")
VARIANTS = 8  # encoded per class; the others are these with another comment in the file
FLAGS = ("--epochs", "1", "--trees", "10", "--image-size", "8", "--device", "cpu", "--no-maps")


def photo(kind: int, variant: int) -> bytes:
    """Noise with a shape in it, encoded as a camera would."""
    rng = np.random.default_rng([kind, variant])
    rows, columns = np.mgrid[:HIGH, :WIDE]
    x, y = rng.integers(200, 440), rng.integers(160, 320)
    shape = {
        0: (columns // 40) % 2 == 0,
        1: (columns - x) ** 2 + (rows - y) ** 2 < 120**2,
        2: (abs(columns - x) < 150) & (abs(rows - y) < 120) & ~((abs(columns - x) < 110) & (abs(rows - y) < 80)),
        3: rows > y,
    }[kind]
    ground = rng.integers(0, 60, (HIGH, WIDE, 3)) + rng.integers(20, 120, 3)
    return driving.jpeg((ground + shape[..., None] * rng.integers(40, 75, 3)).clip(0, 255).astype(np.uint8))


def commented(data: bytes, number: int) -> bytes:
    """The same picture as another file: a comment after the first marker."""
    words = f"photo {number}".encode()
    return data[:2] + b"\xff\xfe" + (len(words) + 2).to_bytes(2, "big") + words + data[2:]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    encoded = [[photo(kind, variant) for variant in range(VARIANTS)] for kind in range(len(CLASSES))]
    for number in range(COUNT):
        kind = number % len(CLASSES)
        folder = root / "images" / CLASSES[kind if number % 40 else (kind + 1) % len(CLASSES)]
        folder.mkdir(parents=True, exist_ok=True)
        data = commented(encoded[kind][number // len(CLASSES) % VARIANTS], number)
        (folder / f"{number:04d}.jpg").write_bytes(data)
    for arguments in (("new", "project", "--source", "folder:images"), ("sift", "project", *FLAGS)):
        done = gradsift(*arguments, cwd=root, timeout=600)
        assert done.returncode == 0, done.stderr
    return root / "project"


@pytest.fixture(scope="module")
def app(serve: Callable[..., Any], project: Path) -> Any:
    return driving.started(serve, project.parent, project=project)


def sizes(page: Any, selector: str) -> list[list[int]]:
    """Width and height of images once each of them is decoded; one that is not has none."""
    found = page.locator(selector).evaluate_all("nodes => nodes.map((one) => [one.naturalWidth, one.naturalHeight])")
    return [list(each) for each in found]


def test_the_gallery_shows_thumbnails_and_the_large_view_the_photo(page: Any, app: Any, project: Path) -> None:
    received: list[int] = []
    page.on("websocket", lambda ws: ws.on("framereceived", lambda frame: received.append(len(frame))))
    page.goto(f"{app}/review?flagged=0")
    driving.grid(page)
    until(lambda: sizes(page, ".card img") == [[96, 72]] * 60)
    until(lambda: sizes(page, ".panel .view img") == [[WIDE, HIGH]])
    page.locator(".file small", has_text=f"{WIDE} × {HIGH} pixels").wait_for()
    press(page, "Enter")
    page.locator("dialog.zoom[open] figure.self").wait_for()
    until(lambda: sizes(page, "dialog.zoom figure.self img") == [[WIDE, HIGH]])
    press(page, "Escape")
    assert sum(received) < 3_000_000  # sixty originals would be more


def test_page_on_through_all_and_decide(page: Any, app: Any, project: Path) -> None:
    page.goto(f"{app}/review?flagged=0")
    driving.grid(page)
    seen = [*ids(page)]
    for number in itertools.count(2):
        page.get_by_role("button", name=re.compile("Next 60")).click()
        page.wait_for_url(f"**page={number}*")
        until(lambda before=tuple(seen): not set(ids(page)) & set(before))
        seen += ids(page)
        if number == 4:
            break
    assert len(set(seen)) == len(seen) == 240
    until(lambda: sizes(page, ".card img") == [[96, 72]] * 60)
    press(page, *"kxu", "Shift+ArrowRight", "Shift+ArrowRight", "x")
    saved(page)
    here = seen[180:]
    actions = ["keep", "exclude", "unsure", "exclude", "exclude", "exclude"]
    assert held(project) == {name: (action, None) for name, action in zip(here, actions, strict=False)}
    page.goto(f"{app}/review?flagged=0&page=4")
    driving.grid(page)
    assert ids(page) == here


def test_the_last_page_and_one_beyond_it(page: Any, app: Any) -> None:
    page.goto(f"{app}/review?flagged=0&page=9999")
    driving.grid(page)
    assert page.get_by_role("button", name=re.compile("Next 60")).is_disabled()
    page.get_by_text(re.compile(r"1,741 to 1,800 of 1,800")).wait_for(timeout=SLOW)
