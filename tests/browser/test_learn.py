"""The learn page as a person's hands meet it: points are dragged, flipped and worked by keys, the border answers."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from core.toys import KINDS, Edit, read
from core.toys.worlds import draw
from tests.browser.driving import SLOW, base, idle, prepared, scored, started
from tests.helpers import drawn_folder

SEED = 15  # what the page begins with
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def project(tmp_path_factory: Any) -> Path:
    return prepared(tmp_path_factory, "learn")


@pytest.fixture(scope="module")
def app(serve: Callable[..., Any], tmp_path_factory: Any, project: Path) -> str:
    return str(started(serve, base(tmp_path_factory), project=project))


def opened(page: Any, app: str, query: str = "") -> None:
    page.goto(f"{app}/learn?{query}")
    page.locator(".stage .dot").first.wait_for(timeout=SLOW)
    page.locator("figure[data-view=unlike] .lines path").first.wait_for(timeout=SLOW)
    page.wait_for_function(
        "() => ![...document.querySelectorAll('.st-key-learn-body *')]"
        ".some(each => each.shadowRoot?.textContent.includes('being loaded'))"
    )
    idle(page)


def dot(page: Any, row: int) -> Any:
    return page.locator(f".stage .dot[data-row='{row}']")


def middle(page: Any, row: int) -> tuple[float, float]:
    box = dot(page, row).locator(".grip").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def border(page: Any) -> str:
    return str(page.locator(".stage .lines .new").first.get_attribute("d"))


def edits(page: Any) -> tuple[Edit, ...]:
    """What the address holds of the points."""
    return read(parse_qs(urlsplit(page.url).query).get("moved", [""])[0])


def alone(name: str) -> int:
    """The point that lies farthest from any other: nothing else is under the pointer."""
    xy = draw(name, SEED).xy
    near = ((xy[:, None] - xy[None]) ** 2).sum(axis=2) + 9.0 * (abs(xy[:, None] - xy[None]).sum(axis=2) == 0)
    return int(near.min(axis=1).argmax())


def until_changed(page: Any, before: str) -> None:
    page.wait_for_function(
        """before => [...document.querySelectorAll('.st-key-learn-body *')].map(each => each.shadowRoot)
          .filter(Boolean).some(root => { const d = root.querySelector('.stage .lines .new')?.getAttribute('d')
            return d && d !== before })""",
        arg=before,
    )


def test_a_dragged_point_moves_the_border_and_stays_after_a_reload(page: Any, app: str) -> None:
    opened(page, app)
    row = alone("line")
    before, (x, y) = border(page), middle(page, row)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 90, y + 60, steps=8)
    until_changed(page, before)  # while it is still in the hand
    assert edits(page) == ()
    page.mouse.up()
    page.wait_for_function("() => location.search.includes('moved=')")
    ((moved,),) = [edits(page)]
    assert moved.row == row
    assert not moved.flipped
    idle(page)
    there = middle(page, row)
    assert there == pytest.approx((x + 90, y + 60), abs=2)
    after = border(page)
    page.reload()
    opened(page, app, urlsplit(page.url).query)
    assert border(page) == after
    page.get_by_role("button", name="Put the points back").click()
    until_changed(page, after)
    assert border(page) == before
    assert edits(page) == ()


def test_a_click_turns_a_label_over_and_back(page: Any, app: str) -> None:
    opened(page, app, "world=moons")
    row = alone("moons")
    before, rings = border(page), page.locator(".stage .wrong").count()
    assert rings == 2 * KINDS["moons"].flips
    page.mouse.click(*middle(page, row))
    until_changed(page, before)
    page.wait_for_function("() => location.search.includes('moved=')")
    assert edits(page) == (Edit(row, flipped=True),)
    assert page.locator(".stage .wrong").count() in (rings - 1, rings + 1)
    idle(page)
    after = border(page)
    page.mouse.click(*middle(page, row))
    until_changed(page, after)
    page.wait_for_function("() => !location.search.includes('moved=')")
    assert border(page) == before


def test_keys_do_what_the_pointer_does(page: Any, app: str) -> None:
    opened(page, app)
    stage = page.locator(".stage")
    stage.focus()
    assert "Point 1, labelled" in page.locator("p.line").inner_text()
    page.keyboard.press("ArrowRight")
    chosen = int(re.findall(r"Point (\d+)", page.locator("p.line").inner_text())[0]) - 1
    assert chosen != 0
    before = border(page)
    page.keyboard.press("Enter")
    until_changed(page, before)
    page.wait_for_function("() => location.search.includes('moved=')")
    assert edits(page) == (Edit(chosen, flipped=True),)
    assert "is now labelled" in page.locator("p.live").text_content()
    idle(page)
    x, y = middle(page, chosen)
    for _ in range(3):
        page.keyboard.press("Shift+ArrowUp")
    page.wait_for_function("() => /moved=[0-9]+f_/.test(location.search)")
    idle(page)
    page.wait_for_timeout(300)
    ((moved,),) = [edits(page)]
    at = draw("line", SEED).xy[chosen]
    assert moved.at == pytest.approx((at[0], at[1] + 0.3), abs=0.002)
    assert middle(page, chosen)[1] < y - 20
    assert middle(page, chosen)[0] == pytest.approx(x, abs=2)
    assert stage.evaluate("node => node.getRootNode().activeElement === node"), "the focus stays"


def test_sixty_fast_keys_are_all_kept(page: Any, app: str) -> None:
    opened(page, app)
    page.locator(".stage").focus()
    row = int(re.findall(r"Point (\d+)", page.locator("p.line").inner_text())[0]) - 1
    for _ in range(60):
        page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    page.wait_for_function(f"() => location.search.includes('moved={row}f')")
    idle(page)
    assert edits(page) == (Edit(row, flipped=True),)


def test_a_point_is_ringed_in_every_picture(page: Any, app: str) -> None:
    opened(page, app)
    page.mouse.move(*middle(page, alone("line")))
    page.locator("figure[data-view=harm] .over .ring").wait_for(state="attached")
    assert page.locator(".over .ring").count() == 5
    assert f"Point {alone('line') + 1}, labelled" in page.locator("p.line").inner_text()
    assert re.search(r"\d+(st|nd|rd|th) by surprise", page.locator("p.line").inner_text())
    page.mouse.move(5, 5)
    page.wait_for_function(
        "() => [...document.querySelectorAll('.st-key-learn-body *')].map(each => each.shadowRoot).filter(Boolean)"
        ".every(root => !root.querySelector('.over .ring'))"
    )
    box = page.locator("figure[data-view=push] svg").bounding_box()
    x, y = draw("line", SEED).xy[alone("line")]
    page.mouse.move(box["x"] + (x + 2.8) / 5.6 * box["width"], box["y"] + (2.1 - y) / 4.2 * box["height"])
    page.locator(".stage .over .ring").wait_for(state="attached")
    assert f"Point {alone('line') + 1}, labelled" in page.locator("p.line").inner_text()


def test_taking_points_away_shows_both_borders(page: Any, app: str) -> None:
    opened(page, app, "world=moons&take=20&by=harm")
    assert page.locator(".stage .taken .cross").count() == 20
    assert page.locator(".stage .lines .old").count() >= 1
    page.get_by_text("of the 20 points taken away had a wrong label.").wait_for()
    page.locator("table.gs-errors").wait_for()


def test_the_first_click_on_a_cold_link_counts(new_page: Callable[..., Any], app: str) -> None:
    page = new_page()
    page.goto(f"{app}/learn?world=moons")
    page.get_by_text("Two clouds").click(timeout=SLOW)
    page.get_by_text("150 points of two kinds").wait_for(timeout=SLOW)
    page.wait_for_function("() => !location.search.includes('world=')")


def test_another_world_forgets_what_was_done_to_this_one(page: Any, app: str) -> None:
    opened(page, app)
    before = border(page)
    page.mouse.click(*middle(page, alone("line")))
    until_changed(page, before)
    page.wait_for_function("() => location.search.includes('moved=')")
    page.get_by_text("Half-moons").first.click()
    page.get_by_text("250 points of two kinds; 20 carry the wrong label.").wait_for()
    page.wait_for_function("() => !location.search.includes('moved=')")
    page.get_by_text("Two clouds").first.click()
    page.get_by_text("150 points of two kinds; 10 carry the wrong label.").wait_for()
    idle(page)
    assert border(page) == before


def test_the_lesson_stands_on_the_project(page: Any, app: str) -> None:
    opened(page, app)
    page.locator(".look.suspect img").first.wait_for(timeout=SLOW)
    assert page.locator(".look").count() == 3
    assert page.locator(".look .ring").count() == 2
    shown = page.locator(".look.suspect").get_attribute("data-id")
    page.get_by_role("button", name=re.compile("Another one")).click()
    page.wait_for_function("() => location.search.includes('id=')")
    page.locator(f".look.suspect:not([data-id='{shown}'])").wait_for()
    page.get_by_role("button", name="Look at it in the review").click()
    page.locator(".card").first.wait_for(timeout=SLOW)


def test_names_of_classes_are_text(
    page: Any, serve: Callable[..., Any], tmp_path_factory: Any, new_page: Callable[..., Any]
) -> None:
    root = tmp_path_factory.mktemp("hostile")
    drawn_folder(root / "images", 80, (HOSTILE, "**b** $x$"))
    project = scored(root / "project", root / "images")
    page.goto(f"{started(serve, root, project=project)}/learn")
    page.locator(".look.suspect").wait_for(timeout=SLOW)
    told = page.locator(".look.suspect").inner_text()
    assert HOSTILE in told
    assert "**b** $x$" in told
    assert page.locator(".look img[src='x']").count() == 0


def test_narrow_the_pictures_stand_below_each_other(new_page: Callable[..., Any], app: str) -> None:
    page = new_page()
    page.set_viewport_size({"width": 820, "height": 1100})
    opened(page, app)
    left, right = (page.locator(each).bounding_box() for each in (".stage", "figure[data-view=loss]"))
    assert right["y"] > left["y"] + left["height"]
    assert left["width"] > 600
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
