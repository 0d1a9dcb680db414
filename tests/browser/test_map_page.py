"""The map page on a project: its lasso, its gallery and its card, over a change of project and a new run."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.data.thumbs import make_thumbs
from core.project import Project
from tests import reported
from tests.browser import driving
from tests.browser.driving import SLOW, held, ids, press, until
from tests.reported import IMG, PLAIN, reported_project

NOT_READ = "The selection of the link cannot be read."
EARLIER = "The selection was drawn on an earlier map. Draw it again."


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("maps")


@pytest.fixture(scope="module")
def app(serve: Callable[..., Any], root: Path) -> Any:
    return driving.started(serve, root)


def made(folder: Path, *, maps: bool = True) -> Project:
    project = reported_project(folder, maps=maps, decided=False)
    make_thumbs(project.manifest(), project.folder / "thumbs")
    return project


@pytest.fixture
def project(root: Path, request: pytest.FixtureRequest) -> Project:
    return made(root / re.sub(r"\W", "-", request.node.name))


def opened(page: Any, app: Any, project: Project, query: str = "") -> None:
    page.goto(f"{app}/map?project={project.folder}{query}")
    ready(page)


def ready(page: Any) -> None:
    page.wait_for_selector(".gs-map-tools", timeout=SLOW)
    page.locator(".card").first.wait_for(timeout=SLOW)
    driving.idle(page)


def shows(page: Any, names: list[str]) -> None:
    """The gallery holds these images, in this order."""
    until(lambda: ids(page) == names)


def place(project: Project, sample: str) -> list[float]:
    findings = project.findings()
    return [float(x) for x in findings.maps["gradients"][findings.samples.index.get_loc(sample)]]


def pointed(page: Any, project: Project, sample: str) -> Any:
    """The card of an image, the pointer on its point."""
    at = driving.pixel(page, place(project, sample))
    page.mouse.move(at[0] - 40, at[1] - 40)
    page.mouse.move(*at, steps=3)
    card = page.locator(".gs-card:not([hidden])")
    card.wait_for(timeout=SLOW)
    page.wait_for_function("id => document.querySelector('.gs-card').dataset.id === id", arg=sample)
    return card


def ranked(project: Project, among: set[str] | None = None) -> list[str]:
    return [name for name in reported.suspects(project) if among is None or name in among]


def left_part(project: Project) -> tuple[list[list[float]], set[str]]:
    """Corners around the training images in the left half of the map, and their ids."""
    findings = project.findings()
    train = (findings.samples["split"] == "train").to_numpy(bool)
    xy = np.asarray(findings.maps["gradients"], float)[train]
    (left, low), (_, high) = xy.min(axis=0) - 0.05, xy.max(axis=0) + 0.05
    xs = np.sort(xy[:, 0])
    middle = range(len(xs) // 3, 2 * len(xs) // 3)
    gap = max(middle, key=lambda row: xs[row + 1] - xs[row])
    edge = float(xs[gap] + xs[gap + 1]) / 2
    corners = [[left, low], [left, high], [edge, high], [edge, low]]
    return [[float(x), float(y)] for x, y in corners], set(findings.samples.index[train][xy[:, 0] < edge])


def rerun(project: Project, stage: int) -> None:
    """Another run, whose ranking and whose maps are the first one's the other way round."""
    found = project.findings()
    samples = found.samples.assign(suspicion=101 - found.samples["suspicion"])
    scores, maps = (project.folder / "stages" / f"{name}-{stage}" for name in ("scores", "map"))
    scores.mkdir()
    maps.mkdir()
    replace(found, samples=samples).save_scores(scores)
    for space, xy in found.maps.items():
        np.save(maps / f"{space}.npy", np.asarray(xy)[::-1])
    project.remember({"scores": scores, "map": maps})


def test_a_lasso_fills_the_gallery_and_review_shows_the_same(page: Any, app: Any, project: Project) -> None:
    opened(page, app, project)
    corners, inside = left_part(project)
    wanted = ranked(project, inside)
    assert 5 < len(wanted) < 30
    driving.drag(page, corners)
    shows(page, wanted)
    page.get_by_text(re.compile(rf"^{len(wanted)} images, \d+ flagged")).first.wait_for()
    driving.idle(page)
    page.locator(".card").nth(2).click()
    page.locator(".gs-panel").wait_for()
    driving.idle(page)
    press(page, "x")
    until(lambda: held(project.folder) == {wanted[2]: ("exclude", None)})
    page.wait_for_function("() => document.querySelector('.gs-map-marks').getAttribute('d').split('M').length === 2")
    page.get_by_role("button", name=f"Review these {len(wanted)}").click()
    page.wait_for_url("**/review*lasso=*")
    driving.grid(page)
    shows(page, wanted)
    assert page.get_by_text(f"Only the {len(wanted)} images that were chosen on the map.").count() == 1


def test_names_stay_text_on_the_card_and_in_the_panel(page: Any, app: Any, project: Project) -> None:
    opened(page, app, project)
    page.on("dialog", lambda box: pytest.fail(box.message))
    first = ranked(project)[0]
    card = pointed(page, project, first)
    assert card.locator(".gs-card-title").inner_text() == f"{IMG} → {PLAIN}?"
    assert card.locator(".gs-card-id").inner_text() == first
    assert card.locator("img:not([hidden])").get_attribute("src").startswith("data:image/")
    page.mouse.down()
    page.mouse.up()
    panel = page.locator(".gs-panel")
    panel.wait_for()
    assert panel.locator("strong").inner_text() == f"{IMG} → {PLAIN}?"
    assert first in panel.inner_text()
    assert page.locator("img[onerror], svg[onload]").count() == 0
    assert page.locator(".gs-chip .gs-name").all_inner_texts()[-3:] == list(reported.CLASSES)


def test_the_same_card_opens_again_after_it_was_closed(page: Any, app: Any, project: Project) -> None:
    opened(page, app, project)
    panel = page.locator(".gs-panel")
    for _ in range(2):
        page.locator(".card").nth(1).click()
        panel.wait_for()
        driving.idle(page)
        page.get_by_role("button", name="Close", exact=True).click()
        panel.wait_for(state="detached")
        driving.idle(page)


@pytest.mark.parametrize("own", [True, False], ids=["an-id-of-the-first", "an-id-of-both"])
def test_the_map_lives_on_over_a_change_of_project(
    page: Any, app: Any, root: Path, own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = made(root / f"one-{own}")
    monkeypatch.setattr(reported, "FILE", "other.png")
    two = made(root / f"two-{own}")
    # not the first of the second project: the gallery there puts its focus, and with it the ring, on that one
    chosen = next(name for name in ranked(one) if (name in ranked(two)) != own and name != ranked(two)[0])
    opened(page, app, one)
    pointed(page, one, chosen)
    page.mouse.down()
    page.mouse.up()
    page.locator(".gs-panel").wait_for()
    page.wait_for_function("() => document.querySelector('.gs-map-ring').style.display !== 'none'")
    driving.idle(page)
    # the browser's own way back: another address, the same session
    page.evaluate("to => { history.pushState({}, '', to); history.pushState({}, '', '#'); history.back() }",
                  f"/map?project={two.folder}")  # fmt: skip
    page.locator(f'.gs-project[title="{two.folder}"]').wait_for(timeout=SLOW)
    ready(page)
    shows(page, ranked(two)[:7])
    assert not own or chosen not in ids(page)
    ring = page.locator(".gs-map-ring").bounding_box()  # none, or around the image that has the focus now, the first
    at = driving.pixel(page, place(two, chosen)) if not own else [0.0, 0.0]
    assert ring is None or np.hypot(ring["x"] + ring["width"] / 2 - at[0], ring["y"] + ring["height"] / 2 - at[1]) > 12
    assert page.locator("[data-testid=stAlert]").all_inner_texts() == []
    corners, inside = left_part(two)
    driving.drag(page, corners)
    shows(page, ranked(two, inside))


def test_after_a_new_run_the_page_shows_the_new_one(page: Any, app: Any, project: Project) -> None:
    opened(page, app, project)
    corners, inside = left_part(project)
    driving.drag(page, corners)
    shows(page, ranked(project, inside))
    driving.idle(page)
    rerun(project, 1)
    page.get_by_role("button", name="Clear").last.click()
    shows(page, ranked(project)[:7])
    driving.idle(page)
    shown = page.evaluate("document.querySelector('.st-key-map .js-plotly-plot')._fullData.map(each => [...each.x])")
    train = (project.findings().samples["split"] == "train").to_numpy(bool)
    there = np.sort(np.asarray(project.findings().maps["gradients"])[train, 0])
    assert np.sort(np.concatenate([np.array(each, float) for each in shown]))[-len(there) :] == pytest.approx(there)


@pytest.mark.parametrize("kind", ["unreadable", "earlier"])
def test_a_selection_that_cannot_be_had_is_said(page: Any, app: Any, project: Project, kind: str) -> None:
    if kind == "earlier":
        opened(page, app, project)
        driving.drag(page, left_part(project)[0])
        page.wait_for_url("**lasso=*")
        lasso, said = re.findall("lasso=([^&]+)", page.url)[0], EARLIER
        rerun(project, 1)
    else:
        lasso, said = "g_1,2_3", NOT_READ
    opened(page, app, project, f"&lasso={lasso}")
    page.get_by_text(f"{said} The flagged images are shown.").wait_for()
    shows(page, ranked(project)[:7])
    page.get_by_role("button", name="Review these 7").click()
    page.wait_for_url("**/review*")
    driving.grid(page)
    assert "lasso" not in page.url
    page.goto(f"{app}/review?project={project.folder}&flagged=0&lasso={lasso}")
    driving.grid(page)
    page.get_by_text(f"{said} Images of the whole map are shown.").wait_for()
    assert page.get_by_text("that were chosen on the map").count() == 0
    assert ids(page) == ranked(project)


def test_without_maps_the_page_says_so(page: Any, app: Any, root: Path) -> None:
    project = made(root / "none", maps=False)
    page.goto(f"{app}/map?project={project.folder}")
    page.get_by_text("The last run drew no map.").wait_for(timeout=SLOW)
    page.get_by_role("button", name="Run with maps").click()
    page.wait_for_url("**/score*maps=1*")
