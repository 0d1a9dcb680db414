"""The app by keyboard alone: no mouse from the first page to the written export."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.project import Project
from tests.browser import driving
from tests.browser.driving import SLOW, badges, held, ids, press, saved, until

FOCUSED = """() => {
  let node = document.activeElement
  while (node?.shadowRoot?.activeElement) node = node.shadowRoot.activeElement
  if (!/^(A|BUTTON|INPUT|SUMMARY)$/.test(node?.tagName)) return ''
  const label = node?.getAttribute?.('aria-label') ?? ''
  return (label + ' ' + (node?.innerText ?? '') + ' ' + (node?.closest?.('label')?.innerText ?? '')).trim()
}"""


@pytest.fixture
def project(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    return driving.prepared(tmp_path_factory, re.sub(r"\W", "-", request.node.name))


@pytest.fixture(scope="module")
def app(serve: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    return driving.started(serve, driving.base(tmp_path_factory))


def tab_to(page: Any, words: str, key: str = "Tab") -> None:
    """Press Tab until what has the focus says `words`."""
    seen = []
    for _ in range(60):
        page.keyboard.press(key)
        seen.append(page.evaluate(FOCUSED))
        if re.search(words, seen[-1]):
            return
    pytest.fail(f"{words} was not reached: {seen}")


def test_review_and_export_by_keyboard_alone(page: Any, app: Any, project: Path) -> None:
    page.goto(f"{app}/score?project={project}")
    page.get_by_role("button", name="Review the suspects").wait_for(timeout=SLOW)
    driving.idle(page)
    tab_to(page, r"Review$")
    press(page, "Enter")
    page.wait_for_url("**/review*")
    driving.grid(page)
    press(page, "Enter", "x", "ArrowRight", "k", "Escape", "Shift+ArrowRight", "u", "z")
    names = ids(page)
    saved(page)
    assert held(project) == {names[0]: ("exclude", None), names[2]: ("keep", None)}
    assert badges(page)[:3] == ["✕ out", "", "✓ kept"]
    tab_to(page, r"Export$")
    press(page, "Enter")
    page.wait_for_url("**/export*")
    page.get_by_role("heading", name="119 of 120 images stay").wait_for(timeout=SLOW)
    driving.idle(page)
    tab_to(page, "Leave out 1 and relabel 0")
    press(page, "Space")
    page.get_by_text("Waits for your confirmation.").wait_for(state="detached")
    driving.idle(page)
    tab_to(page, r"Export$")
    press(page, "Enter")
    page.get_by_text(re.compile("119 of 120 samples are listed in")).wait_for(timeout=SLOW)
    (folder,) = Project.open(project).exports.iterdir()
    assert len((folder / "cleaned.csv").read_text().splitlines()) == 120  # a line of names, and 119 images


def test_to_the_next_page_by_keyboard(page: Any, app: Any, project: Path) -> None:
    page.goto(f"{app}/review?project={project}&flagged=0")
    driving.grid(page)
    first = ids(page)
    press(page, "End", "x")
    saved(page)
    tab_to(page, "Next 60", "Shift+Tab")
    press(page, "Enter")
    page.wait_for_url("**page=2**")
    until(lambda: len(ids(page)) == 48 and not set(ids(page)) & set(first))
    driving.idle(page)
    press(page, "k")  # the gallery has the focus again
    saved(page)
    assert held(project) == {first[59]: ("exclude", None), ids(page)[0]: ("keep", None)}


def test_the_map_by_keyboard(page: Any, app: Any, project: Path) -> None:
    page.goto(f"{app}/map?project={project}")
    page.wait_for_selector(".gs-map-tools", timeout=SLOW)
    driving.idle(page)
    press(page, "b")
    assert page.locator(".gs-map-tools [aria-pressed=true]").get_attribute("data-tool") == "box"
    tab_to(page, "The .* flagged images as a table")
    press(page, "Enter")
    page.locator(".st-key-map-table [data-testid=stDataFrame]").wait_for()
