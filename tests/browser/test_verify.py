"""The verify page in a browser: a check from the button to its verdict, links, and a page that is silent afterwards."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from core.project import Project
from core.review.decisions import Review
from core.verify.record import Verification, latest, stored
from tests.browser import driving
from tests.browser.driving import RUN, SLOW

PERSON = "ann"


@pytest.fixture(scope="module")
def app(serve: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    return driving.started(serve, driving.base(tmp_path_factory))


@pytest.fixture
def project(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scored project whose first six training images were left out."""
    folder = driving.prepared(tmp_path_factory, re.sub(r"\W", "-", request.node.name))
    samples = Project.open(folder).findings().samples
    train = [str(each) for each in samples.index[(samples["split"] == "train").to_numpy(bool)]]
    Review(Project.open(folder), reviewer=PERSON).decide(train[:6], "exclude")
    return folder


def verdict(page: Any) -> str:
    """The headline, once a check has one."""
    found = page.get_by_role("heading", name=re.compile(r"(helps|has no clear effect|hurts)$"))
    found.wait_for(timeout=RUN)
    text = re.search(r"(The cleaning|This arm).*", str(found.inner_text()))  # before it stands an icon
    assert text
    return text.group()


def queried(page: Any) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.url).query)


def made(project: Path) -> Verification:
    found = latest(Project.open(project).verify)
    assert found is not None
    return found


def test_a_quick_check_from_its_button_to_its_verdict(page: Any, app: Any, project: Path) -> None:
    page.goto(f"{app}/verify?project={project}")
    page.get_by_text("with the decisions on 6 training images").wait_for(timeout=SLOW)
    page.get_by_role("button", name="Check in seconds").click()
    headline = verdict(page)
    assert headline.startswith("The cleaning")
    assert made(project).decisions["changed"] == 6
    page.locator(".st-key-differences .js-plotly-plot").wait_for(timeout=SLOW)
    page.get_by_text("Helps: the 95 % interval").wait_for()
    driving.idle(page)
    frames: list[object] = []
    page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: frames.append(frame)))
    page.reload()  # a state of its own: nothing but the project is needed
    assert verdict(page) == headline
    driving.idle(page)
    page.wait_for_timeout(1500)
    heard = len(frames)
    page.wait_for_timeout(2500)
    assert len(frames) == heard, "a finished check is not asked for any more"


def test_an_arm_is_added_checked_and_linked_to(
    page: Any, new_page: Callable[..., Any], app: Any, project: Path
) -> None:
    page.goto(f"{app}/verify?project={project}")
    page.get_by_text("Add what a score alone would do").click(timeout=SLOW)
    amount = page.get_by_role("textbox", name=re.compile("^How many"))
    amount.fill("10%")
    amount.press("Enter")
    driving.idle(page)
    page.get_by_role("button", name="Add", exact=True).click()
    page.get_by_text("Leave out 10%, the most suspicious").first.wait_for(timeout=SLOW)
    assert queried(page)["also"] == ["remove:suspicion:10%"]
    page.reload()
    page.get_by_text("Leave out 10%, the most suspicious").first.wait_for(timeout=SLOW)
    page.get_by_role("button", name="Check in seconds").click()
    verdict(page)
    assert made(project).arms == ("decided", "remove:suspicion:10%")
    other = new_page()
    other.goto(f"{app}/verify?project={project}&arm=remove:suspicion:10%25")
    assert verdict(other).startswith("This arm")


def test_retraining_says_what_it_takes_and_goes_on_over_a_reload(page: Any, app: Any, project: Path) -> None:
    page.goto(f"{app}/verify?project={project}")
    page.get_by_text("Full: retrain the whole network").click(timeout=SLOW)
    start = page.get_by_role("button", name=re.compile(r"Retrain 3 seeds × 3 arms, about"))
    start.wait_for(timeout=RUN)
    start.click()
    page.get_by_role("button", name="Stop").wait_for(timeout=SLOW)
    page.reload()
    assert verdict(page).startswith("The cleaning")
    found = made(project)
    assert (found.form, len(found.seeds)) == ("full", 3)
    page.get_by_text("Training, epoch by epoch.").wait_for(timeout=SLOW)
    assert page.get_by_role("button", name="Stop").count() == 0
    assert not page.get_by_text("Scored").count()


def test_a_cold_link_whose_first_click_counts(page: Any, app: Any, project: Path) -> None:
    app.kill()
    app.start()
    page.goto(f"{app}/verify?project={project}")
    page.get_by_role("button", name="Check in seconds").click(timeout=SLOW)
    assert verdict(page)
    assert len(stored(Project.open(project).verify)) == 1


def test_it_fits_a_narrow_screen(page: Any, app: Any, project: Path) -> None:
    page.set_viewport_size({"width": 820, "height": 1180})
    page.goto(f"{app}/verify?project={project}")
    page.get_by_role("button", name="Check in seconds").click(timeout=SLOW)
    verdict(page)
    driving.idle(page)
    assert page.evaluate("document.scrollingElement.scrollWidth <= window.innerWidth")
