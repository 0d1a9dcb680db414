"""The whole app in a browser: from the start screen to an export, by links alone, and over a server that dies."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pandas as pd
import pytest

from core.project import Project
from tests.browser import driving
from tests.browser.driving import LOST, RUN, SIGNS, SLOW, badges, held, ids, press, saved, until
from tests.helpers import drawn_folder

MENU = ["Load", "Score", "Map", "Review", "Verify", "Export", "Learn", "Present"]
PAGES = [name.lower() for name in MENU]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images and no project."""
    root = tmp_path_factory.mktemp("home")
    drawn_folder(root / "animals", 120)
    return root


@pytest.fixture(scope="module")
def app(serve: Callable[..., Any], home: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return driving.started(serve, home, driving.base(tmp_path_factory))


@pytest.fixture
def project(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scored project of its own for a test."""
    return driving.prepared(tmp_path_factory, re.sub(r"\W", "-", request.node.name))


def number(page: Any, label: str, value: int) -> None:
    field = page.get_by_role("spinbutton", name=label)
    field.fill(str(value))
    field.press("Enter")
    driving.idle(page)


def to_page(page: Any, name: str) -> None:
    """By the menu."""
    page.get_by_role("link", name=name).first.click()
    page.wait_for_url(f"**/{name.lower()}*")


def test_from_the_start_screen_to_an_export(
    new_page: Callable[..., Any], serve: Callable[..., Any], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("empty")
    drawn_folder(root / "animals", 120)
    page = new_page()
    page.goto(driving.started(serve, root))
    page.get_by_role("heading", name="Find the training images that hurt your model").wait_for(timeout=SLOW)
    page.locator(".gs-class img").nth(30).wait_for(timeout=SLOW)  # the first screen is not empty
    project = made(page, root)
    run(page)
    selected = lassoed(page, project)
    assert ids(page) == selected
    decisions = decided(page, project)
    page.reload()
    driving.grid(page)
    assert badges(page)[:10] == [SIGNS.get(action) or f"⇄ {label}" for action, label in decisions.values()] + [""]
    other_tab(page, new_page(), project, decisions)
    folder = exported(page, project, decisions)
    report(page, new_page(), project, tmp_path)
    assert held(project) == decisions, folder  # nothing of this changed a decision


def made(page: Any, root: Path) -> Path:
    """A new project of the folder `animals`, checked as it is typed."""
    field = page.get_by_role("textbox", name="Folder", exact=True)
    field.fill(str(root / "elsewhere"))
    field.press("Enter")
    page.get_by_text("does not exist").wait_for()
    field.fill(str(root / "animals"))
    field.press("Enter")
    page.locator(".gs-class", has_text="left").locator("img").first.wait_for(timeout=SLOW)
    page.locator("[data-testid=stMetric]", has_text="Images").get_by_text("120").wait_for()
    page.get_by_role("button", name="Use this data").click()
    page.wait_for_url("**/score*", timeout=SLOW)
    page.get_by_role("heading", name="120 images of 2 classes").wait_for(timeout=SLOW)
    return Path(parse_qs(urlsplit(page.url).query)["project"][0])


def run(page: Any) -> None:
    """A quick run, watched to its end."""
    page.get_by_text("Settings, each with its reason").click()
    number(page, "Epochs", 3)
    number(page, "Trees of the forest", 20)
    number(page, "Image side", 8)
    page.get_by_role("button", name=re.compile("^Score 120 images")).click()
    page.get_by_role("button", name="Stop").wait_for(timeout=SLOW)
    page.get_by_text(re.compile("Train and record")).first.wait_for(timeout=RUN)  # the names of the stages
    page.get_by_role("button", name="Review the suspects").wait_for(timeout=RUN)
    page.get_by_text(re.compile("^Scored")).wait_for()
    assert page.get_by_role("button", name="Stop").count() == 0


def lassoed(page: Any, project: Path) -> list[str]:
    """A lasso around the left part of the map, taken to the review page; the ids there, worked out by hand."""
    page.get_by_role("button", name="See the map").click()
    page.wait_for_selector(".gs-map-tools", timeout=SLOW)
    corners, inside = driving.left_part(project)
    driving.drag(page, corners)
    page.get_by_text(re.compile(rf"^{len(inside)} images?, \d+ flagged")).first.wait_for(timeout=SLOW)
    page.get_by_role("button", name=f"Review these {len(inside)}").click()
    page.wait_for_url("**/review*lasso=*")
    driving.grid(page)
    table = Project.open(project).findings().samples
    ranked = table.loc[table.index.isin(inside)].sort_values("suspicion", ascending=False, kind="stable")
    return [str(sample) for sample in ranked.index[:60]]


def decided(page: Any, project: Path) -> dict[str, tuple[str, str | None]]:
    """Ten keys as fast as they can be pressed, and one undone; what the log then holds."""
    names = ids(page)
    given = dict(zip(names, page.locator(".card .given").all_inner_texts(), strict=True))
    press(page, *"kxu1kxu1kx", "z")
    other = {"left": "top", "top": "left"}
    each = [("keep", None), ("exclude", None), ("unsure", None), None] * 2 + [("keep", None)]
    want = {name: said or ("relabel", other[given[name]]) for name, said in zip(names, each, strict=False)}
    saved(page)
    assert held(project) == want
    assert len(driving.events(project)) == 11
    return want


def other_tab(page: Any, second: Any, project: Path, decisions: dict[str, tuple[str, str | None]]) -> None:
    """A second tab shows the same; both can decide."""
    second.goto(page.url)
    driving.grid(second)
    assert badges(second) == badges(page)
    names = ids(page)
    second.locator(".card").nth(10).click()
    press(second, "x")
    saved(second)
    page.bring_to_front()
    page.locator(".card").nth(11).click()
    press(page, "k")
    saved(page)
    until(lambda: badges(page)[9:12] == ["", "✕ out", "✓ kept"])
    decisions |= {names[10]: ("exclude", None), names[11]: ("keep", None)}
    assert held(project) == decisions
    second.close()


def exported(page: Any, project: Path, decisions: dict[str, tuple[str, str | None]]) -> Path:
    """Through the door: confirmed, written, opened, and compared with the screen and the log."""
    to_page(page, "Export")
    actions = [action for action, _ in decisions.values()]
    out, changed = actions.count("exclude"), actions.count("relabel")
    page.get_by_role("heading", name=f"{120 - out} of 120 images stay").wait_for(timeout=SLOW)
    for title, count in (("Excluded", out), ("Relabelled", changed), ("Kept", actions.count("keep"))):
        shown = page.locator("[data-testid=stMetric]", has_text=title).locator("[data-testid=stMetricValue]")
        assert shown.inner_text() == str(count)
    until(lambda: page.locator(".gs-out img").count() == out)
    write = page.get_by_role("button", name="Export", exact=True)
    assert write.is_disabled()
    page.get_by_text("Waits for your confirmation.").wait_for()
    page.get_by_text(f"Leave out {out} and relabel {changed}").click()
    page.locator("button:enabled", has_text=re.compile("^(ios_share)?\\s*Export$")).first.wait_for()
    write.click()
    page.get_by_text(re.compile(f"{120 - out} of 120 samples are listed in")).wait_for(timeout=SLOW)
    (folder,) = Project.open(project).exports.iterdir()
    table = pd.read_csv(folder / "manifest.csv", index_col="sample_id", dtype={"final_label": str})
    assert len(table) == 120
    done = table[table["action"] != "undecided"]
    written = {str(name): (str(row["action"]), _label(row["final_label"])) for name, row in done.iterrows()}
    assert written == decisions
    clean = pd.read_csv(folder / "cleaned.csv", index_col="sample_id")["label"]
    assert set(table.index) - set(clean.index) == {
        name for name, (action, _) in decisions.items() if action == "exclude"
    }
    labels = table["given_label"].to_dict() | {name: label for name, (_, label) in decisions.items() if label}
    assert clean.to_dict() == {name: labels[name] for name in clean.index}
    log = [json.loads(line) for line in (folder / "decisions.jsonl").read_text().splitlines()]
    assert [(each["kind"], each["event_id"]) for each in log] == [
        (each["kind"], each["event_id"]) for each in driving.events(project)
    ]
    with page.expect_download() as got:
        page.get_by_role("button", name="Download", exact=True).first.click()
    name = got.value.suggested_filename
    assert Path(got.value.path()).read_bytes() == (folder / name).read_bytes()
    return Path(folder)


def _label(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def report(page: Any, reader: Any, project: Path, folder: Path) -> None:
    """The report is made, fetched, opened as a file, and holds the decisions."""
    page.get_by_role("button", name="Make the report").click()
    with page.expect_download(timeout=SLOW) as got:
        page.get_by_role("button", name=re.compile(r"^(download)?\s*Download \(")).click(timeout=SLOW)
    path = folder / got.value.suggested_filename
    got.value.save_as(path)
    assert path.name == f"{project.name}-report.html"
    reader.goto(path.as_uri())
    text = reader.inner_text("body")
    for name, (action, _) in held(project).items():
        if action in ("exclude", "relabel"):
            assert name in text
    assert reader.evaluate("[...document.images].every(image => image.naturalWidth > 0)")


def test_the_demo_starts_by_one_click_and_can_be_stopped(
    page: Any, serve: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("demo")
    page.goto(driving.started(serve, root))
    page.get_by_role("button", name=re.compile("Open the pictograms demo")).click(timeout=SLOW)
    page.wait_for_url("**/review*", timeout=RUN)
    page.get_by_role("heading", name="No scores yet.").wait_for(timeout=SLOW)
    to_page(page, "Score")
    page.get_by_role("button", name="Stop").click(timeout=SLOW)
    page.get_by_text(re.compile("^Stopped after")).wait_for(timeout=RUN)
    page.get_by_role("button", name=re.compile("Go on scoring")).wait_for(timeout=SLOW)
    until(lambda: not Project.open(root / "gradsift-demo").busy)


def test_after_a_finished_run_the_wire_is_silent(page: Any, app: Any, project: Path) -> None:
    frames: list[Any] = []

    def note(frame: Any) -> None:
        frames.append(frame)

    page.on("websocket", lambda ws: (ws.on("framereceived", note), ws.on("framesent", note)))
    there = {"score": ".st-key-curves .main-svg", "review": ".more .trio", "map": ".gs-map-tools"}
    for name, sign in there.items():
        page.goto(f"{app}/{name}?project={project}")
        page.locator(sign).first.wait_for(timeout=SLOW)
        driving.idle(page)
        settled(page, frames)


def settled(page: Any, frames: list[Any]) -> None:
    """Three seconds without a message; a page that polls each second never has them."""
    for _ in range(10):
        before = len(frames)
        page.wait_for_timeout(3_000)
        if len(frames) == before:
            return
    pytest.fail(f"{len(frames) - before} messages in the last three seconds")


def first_click(page: Any, name: str) -> None:
    """Act once on a page that was just opened, and wait for what only Python can bring."""
    if name == "load":
        page.get_by_role("radio", name=re.compile("table", re.I)).first.click(force=True, timeout=SLOW)
        page.get_by_role("textbox", name="File", exact=True).wait_for()
    elif name == "score":
        page.get_by_role("button", name="See the map").click(timeout=SLOW)
        page.wait_for_url("**/map*")
    elif name == "map":
        page.get_by_role("radio", name="Features").or_(page.get_by_role("button", name="Features", exact=True)).click(
            timeout=SLOW
        )
        page.wait_for_url("**/map*space=features*")
    elif name == "review":
        page.get_by_role("button", name=re.compile("Next 60")).click(timeout=SLOW)
        page.wait_for_url("**/review*page=2*")
    elif name == "verify":
        page.get_by_role("button", name="Review the suspects").click(timeout=SLOW)
        page.wait_for_url("**/review*")
    elif name == "learn":
        page.get_by_role("button", name="New points").click(timeout=SLOW)
        page.wait_for_url("**/learn*seed=*")
    elif name == "export":
        page.get_by_role("button", name="Make the report").click(timeout=SLOW)
        page.get_by_role("button", name=re.compile(r"Download \(")).wait_for(timeout=SLOW)
    else:
        page.get_by_role("button", name=re.compile("Exit")).click(timeout=SLOW)
        page.wait_for_url("**/review*")


@pytest.mark.parametrize("name", PAGES)
def test_a_cold_link_on_a_fresh_server(page: Any, app: Any, project: Path, name: str) -> None:
    app.kill()
    app.start()
    page.goto(f"{app}/{name}?project={project}&flagged=0")
    first_click(page, name)
    driving.idle(page)
    assert parse_qs(urlsplit(page.url).query)["project"] == [str(project)]
    if name != "present":
        assert [link.split("\n")[-1].strip() for link in page.get_by_test_id("stTopNavLink").all_inner_texts()] == MENU
    assert page.get_by_test_id("stSidebarNav").count() == 0


@pytest.mark.parametrize("name", PAGES)
def test_without_a_project_every_page_says_what_to_do(page: Any, empty: Any, name: str) -> None:
    page.goto(f"{empty}/{name}")
    if name == "load":
        page.get_by_role("button", name=re.compile("Open the pictograms demo")).wait_for(timeout=SLOW)
        return
    if name == "learn":  # the idea needs none
        page.get_by_role("button", name="New points").wait_for(timeout=SLOW)
        return
    page.get_by_role("heading", name="No project is open.").wait_for(timeout=SLOW)
    page.get_by_role("button", name="Open a project").click()
    page.wait_for_url("**/load*")


@pytest.fixture(scope="module")
def empty(serve: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    return driving.started(serve, tmp_path_factory.mktemp("nothing"))


@pytest.mark.parametrize(
    ("name", "query", "words"),
    [
        ("review", "class=dgo", "The link asks for class 'dgo', which this project does not have."),
        ("review", "to=dgo", "'dgo'"),
        ("review", "score=beauty", "'beauty'"),
        ("review", "reason=because", "'because'"),
        ("review", "decision=maybe", "'maybe'"),
        ("review", "budget=lots", "'lots'"),
        ("review", "id=nobody.png", "'nobody.png'"),
        ("map", "colour=beauty", "'beauty'"),
        ("map", "space=time", "'time'"),
        ("map", "score=beauty", "'beauty'"),
        ("map", "lasso=round", "The selection of the link cannot be read."),
    ],
)  # fmt: skip
def test_a_link_that_asks_in_vain_says_so_and_shows_the_rest(
    page: Any, app: Any, project: Path, name: str, query: str, words: str
) -> None:
    page.goto(f"{app}/{name}?project={project}&{query}")
    page.get_by_text(words).first.wait_for(timeout=SLOW)
    page.locator(".card").first.wait_for(timeout=SLOW)


@pytest.mark.parametrize("name", PAGES)
def test_a_project_that_is_not_there(page: Any, app: Any, home: Path, name: str) -> None:
    page.goto(f"{app}/{name}?project={home / 'nowhere'}")
    said = page.get_by_test_id("stAlert").first
    said.wait_for(timeout=SLOW)
    assert str(home / "nowhere") in said.inner_text()
    assert "Traceback" not in page.inner_text("body")


def test_a_link_to_an_image_opens_it(page: Any, app: Any, project: Path) -> None:
    page.goto(f"{app}/review?project={project}&flagged=0")
    driving.grid(page)
    wanted = ids(page)[17]
    page.goto(f"{app}/review?project={project}&flagged=0&id={wanted}")
    driving.grid(page)
    page.locator(f'.panel[data-id="{wanted}"]').wait_for()
    page.locator(".more:not(.old) .trio").wait_for()


def test_keys_while_the_server_is_dead(page: Any, app: Any, project: Path, tolerated: list[str]) -> None:
    tolerated.append(LOST)
    page.goto(f"{app}/review?project={project}&flagged=0")
    driving.grid(page)
    names = ids(page)
    app.kill()
    press(page, *"kxukx")
    page.locator(".status.late").first.wait_for()
    assert held(project) == {}
    app.start()
    until(lambda: len(held(project)) == 5, 150)  # the browser tries again after ever longer pauses
    page.locator(".status.saved").first.wait_for(timeout=SLOW)
    actions = ["keep", "exclude", "unsure", "keep", "exclude"]
    assert held(project) == {name: (action, None) for name, action in zip(names, actions, strict=False)}
    assert badges(page)[:6] == [*(SIGNS[action] for action in actions), ""]
    assert len(driving.events(project)) == 5


@pytest.mark.parametrize("then", ["review", "export", "map"])
def test_a_tab_closed_right_after_a_key(new_page: Callable[..., Any], app: Any, project: Path, then: str) -> None:
    page = new_page()
    page.goto(f"{app}/review?project={project}&flagged=0")
    driving.grid(page)
    names = ids(page)
    press(page, *"xxx")
    page.close()
    again = new_page()
    again.goto(f"{app}/{then}?project={project}")
    until(lambda: held(project) == dict.fromkeys(names[:3], ("exclude", None)), 40)
    again.wait_for_function("() => Object.keys(localStorage).every((key) => !key.startsWith('gradsift.outbox'))")
    if then == "export":
        again.get_by_role("heading", name="117 of 120 images stay").wait_for()


def test_read_only_shows_all_and_changes_nothing(
    page: Any, serve: Callable[..., Any], project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    app = driving.started(serve, driving.base(tmp_path_factory), project=project, read_only=True)
    before = sorted(str(each) for each in project.rglob("*"))
    for name in PAGES[:-1]:
        page.goto(f"{app}/{name}?flagged=0")
        page.get_by_text("Everything is shown, nothing can be changed.").wait_for(timeout=SLOW)
        if name == "review":
            driving.grid(page)
            press(page, *"kx1")
            assert set(badges(page)) == {""}
        driving.idle(page)
    assert page.get_by_role("button", name="Export", exact=True).count() == 0
    assert sorted(str(each) for each in project.rglob("*")) == before
