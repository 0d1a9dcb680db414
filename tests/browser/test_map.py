"""The map in a browser: what a lasso encloses is what Python selects, after a zoom, a recolour or a page change too."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.browser.map_app import HOSTILE, points

HERE = Path(__file__).parent
COUNT = 1_600
PATIENCE = 20_000  # ms

TO_PIXELS = """([x, y]) => {
  const plot = document.querySelector('.st-key-map .js-plotly-plot'), {xaxis, yaxis, _size} = plot._fullLayout
  const box = document.querySelector('.gs-map-over').getBoundingClientRect()
  return [box.left + _size.l + xaxis.d2p(x), box.top + _size.t + yaxis.d2p(y)]
}"""


@pytest.fixture(scope="module")
def app(serve: Callable[..., str]) -> str:
    return serve(HERE / "map_app.py", str(COUNT))


@pytest.fixture
def shown(page: Any, app: str) -> Any:
    """The page with the map, listened on."""
    page.goto(app)
    page.wait_for_selector(".gs-map-tools", timeout=60_000)
    return page


def enclosed(outline: list[list[float]], count: int = COUNT) -> list[int]:
    """The slow twin: one point at a time, crossings of a ray to the right."""
    found = []
    for row, (px, py) in enumerate(points(count).xy.astype(float)):
        odd = False
        for (ax, ay), (bx, by) in zip(outline, [*outline[1:], outline[0]], strict=True):
            if (ay > py) != (by > py) and px < (bx - ax) * (py - ay) / (by - ay) + ax:
                odd = not odd
        if odd:
            found.append(row)
    return found


def drag(page: Any, corners: list[list[float]], steps: int = 6) -> None:
    """Draw along corners that are given in the map's coordinates."""
    pixels = [page.evaluate(TO_PIXELS, corner) for corner in corners]
    page.mouse.move(*pixels[0])
    page.mouse.down()
    for pixel in pixels[1:]:
        page.mouse.move(*pixel, steps=steps)
    page.mouse.up()


def heard(page: Any, other_than: str = "outline None") -> tuple[list[int], list[list[float]]]:
    """Wait until Python heard of another outline; what it selected (count, sum of rows) and the outline."""
    page.wait_for_function(
        "gone => !(document.querySelector('.st-key-heard')?.innerText ?? gone).includes(gone)",
        arg=other_than,
        timeout=PATIENCE,
    )
    text = page.locator(".st-key-heard").inner_text()
    count, total = (int(each) for each in re.findall(r"selected (\d+) sum (\d+)", text)[0])
    return [count, total], json.loads(re.findall(r"outline (\[\[.*\]\])", text)[0])


def agrees(selected: list[int], outline: list[list[float]]) -> None:
    rows = enclosed(outline)
    assert selected == [len(rows), sum(rows)]
    assert len(rows) > 20


def near(outline: list[list[float]], corners: list[list[float]], page: Any) -> None:
    """Every corner drawn is a corner kept, to two pixels."""
    kept = np.array([page.evaluate(TO_PIXELS, corner) for corner in outline])
    for corner in corners:
        away = np.hypot(*(kept - np.array(page.evaluate(TO_PIXELS, corner))).T)
        assert away.min() < 2.5


LASSO = [[-6.0, 1.0], [-1.0, 4.0], [6.0, 6.0], [7.0, 1.0], [-3.0, -4.0]]


def test_a_lasso_selects_what_it_encloses_also_after_a_recolour(shown: Any) -> None:
    drag(shown, LASSO)
    selected, outline = heard(shown)
    agrees(selected, outline)
    near(outline, LASSO, shown)
    shown.get_by_role("radio", name="class").or_(shown.get_by_role("button", name="class", exact=True)).click()
    shown.wait_for_function(
        "() => document.querySelector('.st-key-map .js-plotly-plot')?._fullLayout?.coloraxis?.colorbar === undefined"
        " || document.querySelector('.st-key-map .js-plotly-plot')._fullData[0].marker.cmax < 5"
    )
    shown.wait_for_selector(".gs-map-tools")
    assert heard(shown) == (selected, outline)  # the recolour took nothing away
    other = [[-8.0, -3.0], [-2.0, -3.0], [-2.0, -6.0], [-8.0, -6.0]]
    drag(shown, other)
    selected, outline = heard(shown, f"outline {outline}")
    agrees(selected, outline)
    near(outline, other, shown)


def test_a_box_selects_what_it_encloses(shown: Any) -> None:
    shown.keyboard.press("b")
    drag(shown, [[-5.0, 5.0], [5.0, -5.0]])
    selected, outline = heard(shown)
    assert len(outline) == 4
    agrees(selected, outline)
    near(outline, [[-5.0, 5.0], [5.0, 5.0], [5.0, -5.0], [-5.0, -5.0]], shown)


def test_zoom_then_lasso(shown: Any) -> None:
    before = shown.evaluate("document.querySelector('.st-key-map .js-plotly-plot')._fullLayout.xaxis.range[1]")
    shown.mouse.move(*shown.evaluate(TO_PIXELS, [0.0, 0.0]))
    for _ in range(4):
        shown.mouse.wheel(0, -200)  # over the overlay: the wheel is handed on to Plotly
    shown.wait_for_function(
        "before => document.querySelector('.st-key-map .js-plotly-plot')._fullLayout.xaxis.range[1] < before * 0.8",
        arg=before,
    )
    shown.wait_for_timeout(400)  # Plotly ends a wheel zoom by a timer of its own
    corners = [[-2.0, -1.5], [-2.0, 1.5], [2.0, 1.5], [2.0, -1.5]]
    drag(shown, corners)
    selected, outline = heard(shown)
    agrees(selected, outline)
    near(outline, corners, shown)


def test_the_card_shows_the_image_under_the_pointer_as_text(shown: Any) -> None:
    at = shown.evaluate(TO_PIXELS, [20.0, 0.0])
    shown.mouse.move(at[0] - 60, at[1])
    shown.mouse.move(*at, steps=3)
    card = shown.locator(".gs-card:not([hidden])")
    card.wait_for(timeout=PATIENCE)
    assert card.locator(".gs-card-title").inner_text() == f"{HOSTILE} → dog?"
    assert card.locator(".gs-card-id").inner_text() == "<b>00000</b>.png"
    assert card.locator("img").count() == 1  # the card's own, and none of the label's
    assert shown.locator(".gs-chip .gs-name").inner_text() == HOSTILE
    assert shown.title() != "owned"
    shown.mouse.move(at[0] - 200, at[1] - 150)
    shown.wait_for_selector(".gs-card[hidden]", state="attached")


def test_a_card_without_its_picture_is_asked_for_again(shown: Any) -> None:
    at = shown.evaluate(TO_PIXELS, [20.0, 0.0])
    for picture in (False, True, True):
        shown.mouse.move(at[0] - 60, at[1])
        shown.mouse.move(*at, steps=3)
        shown.locator(f".gs-card:not([hidden]) img{':not([hidden])[src]' if picture else '[hidden]'}").wait_for(
            timeout=PATIENCE, state="visible" if picture else "attached"
        )
        assert shown.locator(".gs-card-none").is_hidden() == picture
        shown.mouse.move(at[0] - 200, at[1] - 150)
        shown.wait_for_selector(".gs-card[hidden]", state="attached")


@pytest.mark.parametrize("tool", ["lasso", "move"])
def test_a_click_names_the_image_and_rings_it(shown: Any, tool: str) -> None:
    if tool == "move":
        shown.keyboard.press("l")
    at = shown.evaluate(TO_PIXELS, [20.0, 0.0])
    shown.mouse.move(at[0] - 60, at[1])
    shown.mouse.move(*at, steps=3)
    shown.locator(".gs-card:not([hidden])").wait_for(timeout=PATIENCE)
    shown.mouse.down()
    shown.mouse.up()
    shown.wait_for_function("document.querySelector('.st-key-heard').innerText.includes('clicked <b>00000</b>.png')")
    ring = shown.locator(".gs-map-ring")
    shown.wait_for_function("document.querySelector('.gs-map-ring').style.display !== 'none'")
    box = ring.bounding_box()
    assert (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2) == pytest.approx(at, abs=1)
    shown.keyboard.press("l") if tool == "lasso" else None  # to Move
    shown.mouse.move(at[0] - 300, at[1])
    shown.mouse.down()
    shown.mouse.move(at[0] - 350, at[1] + 40, steps=4)
    shown.mouse.up()  # panned: the ring goes with its point
    there = shown.evaluate(TO_PIXELS, [20.0, 0.0])
    assert there == pytest.approx([at[0] - 50, at[1] + 40], abs=2)
    shown.wait_for_function(
        "([x, y]) => { const b = document.querySelector('.gs-map-ring').getBoundingClientRect();"
        " return Math.hypot(b.x + b.width / 2 - x, b.y + b.height / 2 - y) < 1.5 }",
        arg=there,
    )


def test_escape_clears_and_letters_in_a_field_are_letters(shown: Any) -> None:
    drag(shown, LASSO)
    heard(shown)
    field = shown.get_by_role("textbox", name="word")
    field.click()
    field.press_sequentially("lb")
    assert field.input_value() == "lb"
    assert shown.locator(".gs-map-tools [data-tool=lasso]").get_attribute("aria-pressed") == "true"
    shown.locator(".gs-map-tools [data-tool=lasso]").focus()
    shown.keyboard.press("Escape")
    shown.wait_for_function("document.querySelector('.st-key-heard').innerText.includes('outline None')")
    assert shown.locator(".gs-map-tools [data-tool=clear]").is_hidden()


def test_the_tools_say_what_is_on_and_print_their_keys(shown: Any) -> None:
    tools = shown.locator(".gs-map-tools button")
    seen = [tools.nth(row).inner_text().split() for row in range(tools.count()) if tools.nth(row).is_visible()]
    assert seen == [["Lasso"], ["Box", "B"], ["Move", "L"]]
    shown.keyboard.press("l")
    pressed = shown.locator(".gs-map-tools [aria-pressed=true]")
    assert pressed.get_attribute("data-tool") == "move"
    shown.keyboard.press("b")
    assert pressed.get_attribute("data-tool") == "box"


def test_a_page_change_and_back_binds_again(shown: Any) -> None:
    drag(shown, LASSO)
    _, before = heard(shown)
    shown.get_by_role("link", name="Other").click()
    shown.get_by_text("another page").wait_for()
    shown.get_by_role("link", name="Map").click()
    shown.wait_for_selector(".gs-map-tools", timeout=PATIENCE)
    drag(shown, [[-8.0, -3.0], [-2.0, -3.0], [-2.0, -6.0], [-8.0, -6.0]])
    selected, outline = heard(shown, f"outline {before}")
    agrees(selected, outline)
    assert shown.locator(".gs-map").count() == 1


def test_a_chip_can_be_pressed(shown: Any) -> None:
    shown.locator(".gs-chip").click()
    shown.get_by_text("pressed c1").wait_for()


NO_OUTLINES = (
    "x", 5, {"length": 5}, [], [[1, 2]], [[0, 0], [1, 1], ["a", 2]], [[0, 0], [1, 1], [1e300, 2]], [[0, 0]] * 2001,
)  # fmt: skip


def test_what_is_no_outline_selects_nothing(shown: Any) -> None:
    for row, sent in enumerate(NO_OUTLINES):
        drag(shown, LASSO)
        heard(shown)
        shown.evaluate(
            "([points, nonce]) => document.querySelector('.gs-map').gradsift.parts.setStateValue('drawn',"
            " {nonce, points})",
            [sent, f"bad-{row}"],
        )
        shown.wait_for_function("document.querySelector('.st-key-heard').innerText.includes('outline None')")


def test_without_webgl_the_points_are_drawn_all_the_same(page: Any, app: str) -> None:
    page.add_init_script(
        "const get = HTMLCanvasElement.prototype.getContext; HTMLCanvasElement.prototype.getContext ="
        " function (kind, ...rest) { return /webgl/.test(kind) ? null : get.call(this, kind, ...rest) }"
    )
    page.goto(app)
    page.wait_for_function(
        "count => document.querySelectorAll('.st-key-map .scatterlayer path.point').length === count",
        arg=COUNT,
        timeout=60_000,
    )
    drag(page, LASSO)
    agrees(*heard(page))


def test_how_long_a_lasso_and_a_card_take(page: Any, serve: Callable[..., str]) -> None:
    """Prints times (-s); fails only where nothing arrives."""
    for count in (COUNT, 50_000):
        page.goto(serve(HERE / "map_app.py", str(count)))
        start = time.perf_counter()
        page.wait_for_selector(".gs-map-tools", timeout=120_000)
        took = {"bound": time.perf_counter() - start}
        for corners in (LASSO, LASSO[:4]):
            before = page.locator(".st-key-heard").inner_text()
            drag(page, corners)
            start = time.perf_counter()
            page.wait_for_function(
                "was => document.querySelector('.st-key-heard').innerText !== was", arg=before, timeout=60_000
            )
            took["lasso"] = time.perf_counter() - start
        at = page.evaluate(TO_PIXELS, [20.0, 0.0])
        page.mouse.move(at[0] - 60, at[1])
        page.mouse.move(*at)
        start = time.perf_counter()
        page.locator(".gs-card:not([hidden])").wait_for(timeout=60_000)
        took["card"] = time.perf_counter() - start
        print(f"\n{count:,} points: " + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in took.items()))
