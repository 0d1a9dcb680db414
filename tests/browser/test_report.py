"""The report in a browser: whole without script, readable, printable; present mode, in the file and in the app."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from core import commands
from core.project import Project
from tests.helpers import ROOT
from tests.reported import NOTE, reported_project

# Contrast of every text with what lies behind it, by the formula of WCAG 2.
CONTRAST = """() => {
  const part = v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4
  const light = ([r, g, b]) => .2126 * part(r) + .7152 * part(g) + .0722 * part(b)
  const colour = text => text.match(/[\\d.]+/g).map(Number)
  const ground = node => {
    for (; node; node = node.parentElement) {
      const found = colour(getComputedStyle(node).backgroundColor)
      if (found.length < 4 || found[3] > 0) return found
    }
    return [255, 255, 255]
  }
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), poor = []
  let seen = 0
  while (walk.nextNode()) {
    const node = walk.currentNode.parentElement
    if (!walk.currentNode.data.trim() || /SCRIPT|STYLE/.test(node.tagName) || !node.checkVisibility()) continue
    const [a, b] = [light(colour(getComputedStyle(node).color)), light(ground(node))]
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05)
    seen += 1
    if (ratio < 4.5) poor.push([walk.currentNode.data.trim().slice(0, 40), ratio])
  }
  return {seen, poor}
}"""
COUNT = "#stage-bar span"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return reported_project(tmp_path_factory.mktemp("reported"), verified=True)


@pytest.fixture(scope="module")
def report(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "r.html"
    commands.report(project, path)
    return path


@pytest.fixture
def opened(page: Any, report: Path) -> Iterator[Any]:
    """The report in a page; a message box or a request fails the test."""
    asked: list[str] = []
    boxes: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("dialog", lambda box: (boxes.append(box.message), box.dismiss()))
    page.goto(report.as_uri())
    yield page
    assert boxes == []
    assert [url for url in asked if not url.startswith(("data:", report.as_uri()))] == []


def test_hostile_names_run_nothing_and_stay_text(opened: Any) -> None:
    assert NOTE in opened.inner_text("body")
    assert opened.locator("script").count() == 1
    assert opened.locator("svg[onload], img[onerror]").count() == 0


def test_every_image_is_there(opened: Any) -> None:
    sizes = opened.evaluate("[...document.images].map(image => [image.complete, image.naturalWidth])")
    assert len(sizes) > 10
    assert all(complete and width > 0 for complete, width in sizes)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out(opened: Any, scheme: str) -> None:
    opened.emulate_media(color_scheme=scheme)
    found = opened.evaluate(CONTRAST)
    assert found["seen"] > 50
    assert found["poor"] == []
    ground = opened.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 26)"}[scheme]


@pytest.mark.parametrize("width", [360, 768, 1440, 2560])
def test_nothing_is_wider_than_the_window(opened: Any, width: int) -> None:
    opened.set_viewport_size({"width": width, "height": 800})
    assert opened.evaluate("document.documentElement.scrollWidth") <= width


def test_on_paper_it_is_light_and_has_no_buttons(opened: Any) -> None:
    opened.emulate_media(media="print", color_scheme="dark")
    assert not opened.locator("#present").is_visible()
    assert not opened.locator("nav").is_visible()
    assert opened.evaluate("getComputedStyle(document.body).color") == "rgb(27, 31, 36)"
    assert opened.evaluate(CONTRAST)["poor"] == []


def test_it_prints_a_page_or_more_for_each_part(opened: Any) -> None:
    pages = len(re.findall(rb"/Type\s*/Page\b", opened.pdf(prefer_css_page_size=True)))
    assert 7 <= pages <= 14


def test_without_script_it_is_whole(chromium: Any, report: Path) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.locator("section.part").count() == 10
    assert page.get_by_text("Hard is not wrong.").is_visible()
    assert page.locator("#present").count() == 0
    context.close()


def test_present_by_keys(opened: Any) -> None:
    total = opened.locator(".slide").count()
    opened.keyboard.press("Tab")
    opened.get_by_role("button", name="Present").press("Enter")
    assert opened.inner_text(COUNT) == f"1 / {total}"
    for key, at in (
        ("ArrowLeft", 1), ("ArrowRight", 2), (" ", 3), ("Shift+ ", 2), ("PageDown", 3), ("ArrowLeft", 2),
        ("End", total), ("ArrowRight", total), ("Home", 1), ("ArrowRight", 2),
    ):  # fmt: skip
        opened.keyboard.press(key.replace(" ", "Space"))
        assert opened.inner_text(COUNT) == f"{at} / {total}", key
    assert opened.locator(".slide:visible").count() == 1
    assert not opened.locator("header").is_visible()
    assert opened.url.endswith("#slide=2")
    opened.keyboard.press("Escape")
    assert opened.locator("header").is_visible()
    assert opened.locator(".slide:visible").count() == total
    opened.keyboard.press("ArrowRight")
    assert "#" not in opened.url


def test_a_slide_in_the_address_opens_there(opened: Any, report: Path) -> None:
    opened.goto("about:blank")
    opened.goto(f"{report.as_uri()}#slide=3")
    assert opened.inner_text(COUNT).startswith("3 / ")


@pytest.mark.parametrize("size", [(1920, 1080), (1280, 720), (1024, 768)])
def test_every_slide_fits_the_screen(opened: Any, size: tuple[int, int]) -> None:
    opened.set_viewport_size({"width": size[0], "height": size[1]})
    opened.click("#present")
    for at in range(opened.locator(".slide").count()):
        now = opened.locator(".slide.now")
        over = now.evaluate("e => [e.scrollWidth - e.clientWidth, e.scrollHeight - e.clientHeight]")
        assert over == [0, 0], (at + 1, over)
        opened.keyboard.press("ArrowRight")


@pytest.fixture(scope="module")
def app(serve: Callable[..., str], project: Project) -> str:
    root = project.folder.parent
    return serve(ROOT / "app.py", env={"GRADSIFT_ROOTS": str(root), "GRADSIFT_PROJECT": str(project.folder)})


def test_present_in_the_app(page: Any, app: str) -> None:
    page.goto(f"{app}/present?slide=3")
    stage = page.locator("dialog[open]")
    stage.wait_for(timeout=60_000)
    count = page.locator(".bar-of-stage span")
    total = int(count.inner_text().split("/")[1])
    assert count.inner_text() == f"3 / {total}"
    box = stage.bounding_box()
    assert (box["x"], box["y"], box["width"], box["height"]) == (0, 0, 1440, 900)
    for key, at in (("ArrowRight", 4), ("Space", 5), ("ArrowLeft", 4), ("End", total), ("Home", 1), ("ArrowRight", 2)):
        page.keyboard.press(key)
        assert count.inner_text() == f"{at} / {total}", key
    assert "slide=2" in page.url
    page.reload()
    page.locator("dialog[open]").wait_for(timeout=60_000)
    assert count.inner_text() == f"2 / {total}"
    page.keyboard.press("Escape")
    page.wait_for_url("**/review**")
    assert page.locator("dialog[open]").count() == 0


def test_a_number_beyond_the_last_slide_shows_the_last(page: Any, app: str) -> None:
    page.goto(f"{app}/present?slide=99999")
    page.locator("dialog[open]").wait_for(timeout=60_000)
    at, total = page.locator(".bar-of-stage span").inner_text().split(" / ")
    assert at == total


@pytest.mark.parametrize("asked", ["abc", "0", "-2", "1e9", "%3Cimg%20src=x%20onerror=alert(1)%3E"])
def test_a_slide_that_is_no_number_shows_the_first(page: Any, app: str, asked: str) -> None:
    page.on("dialog", lambda box: pytest.fail(box.message))
    page.goto(f"{app}/present?slide={asked}")
    page.locator("dialog[open]").wait_for(timeout=60_000)
    assert page.locator(".bar-of-stage span").inner_text().startswith("1 / ")
