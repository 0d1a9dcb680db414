"""Every page alone and through the router, in every state a project can be in."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from core.models.specs import Permissions
from core.project import Project
from core.review.decisions import Review
from core.serve import AppOptions
from pages.ui import cached, session
from pages.ui.notices import plain
from tests.app.conftest import (
    CLASSES,
    IMG,
    MARK,
    PAGES,
    ROOT,
    World,
    another_run,
    button,
    labels,
    read,
    says,
    sound,
    words,
)
from tests.helpers import tree_digest

NEED_PROJECT = ("score", "map", "review", "verify", "export", "present")
NEED_SCORES = ("map", "review", "verify", "present")
LESSON = "The idea in five minutes"  # what `learn` says, whatever is open
ALONE = pytest.mark.parametrize("alone", [False, True], ids=["router", "alone"])


def test_every_page_of_the_menu_is_tried_here() -> None:
    assert set(session.PAGES) == set(PAGES)


@ALONE
@pytest.mark.parametrize("name", PAGES)
def test_without_a_project(world: World, name: str, alone: bool) -> None:
    at = world.page(name, alone=alone)
    assert not at.error
    if name in NEED_PROJECT:
        assert says(at, "No project is open.")
        assert labels(at) == ["Open a project"]
    elif name == "learn":
        assert says(at, LESSON)
    else:
        assert says(at, "Find the training images that hurt your model")
        assert labels(at) == ["Open the pictograms demo (drawn)", "Open the digits demo (real)"]


@pytest.mark.parametrize("name", NEED_PROJECT)
def test_the_first_step_leads_to_load(world: World, name: str) -> None:
    at = button(world.page(name), "Open a project").click().run()
    assert says(at, "New project from your own data")


@ALONE
@pytest.mark.parametrize("name", PAGES)
def test_before_the_first_run(world: World, unscored: Project, name: str, alone: bool) -> None:
    at = world.page(name, unscored, alone=alone)
    assert not at.error
    if name in NEED_SCORES:
        assert says(at, "No scores yet.")
        assert says(at, "Score the 150 images first.")
        assert labels(at) == ["Score 150 images"]
    elif name == "score":
        assert labels(at) == ["Score 150 images (about 1 min 00 s)"]
        assert at.subheader[0].value == plain("scored: 150 images of 3 classes")
        assert [each.value for each in at.metric] == ["about 1 min 00 s", "1,234 MB", "56 MB", "cpu"]
    elif name == "export":
        assert says(at, "150 of 150 images stay")
        assert says(at, "No decision was made yet")
        assert says(at, "Waits for scores.")
    elif name == "learn":
        assert says(at, LESSON)
    else:
        assert says(at, "150 images, 3 classes, not scored yet, 0 decided")


def test_scoring_is_one_click_from_an_empty_review(world: World, unscored: Project) -> None:
    at = button(world.page("review", unscored), "Score 150 images").click().run()
    assert says(at, "scored: 150 images of 3 classes")
    assert at.query_params["project"] == str(unscored.folder)


@pytest.mark.parametrize("name", PAGES)
def test_while_a_run_is_on(world: World, unscored: Project, name: str) -> None:
    with another_run(unscored.folder):
        at = world.page(name, unscored)
    assert not at.error
    if name in NEED_SCORES:
        assert says(at, "The 150 images are being scored. This page opens by itself.")
    elif name == "score":
        assert labels(at) == ["Stop"]
        assert says(at, "close this tab, or the app, and it goes on")
    elif name == "load":
        assert says(at, "150 images, 3 classes, being scored, 0 decided")


@pytest.mark.parametrize("name", ["map", "review", "score", "verify"])
def test_a_scored_project_that_runs_again_can_be_looked_at(world: World, scored: Project, name: str) -> None:
    with another_run(scored.folder):
        at = world.page(name, scored)
    assert not at.error
    assert "Stop" in labels(at)
    assert says(at, "training images are flagged") == (name == "map")
    assert says(at, "0 of 7 reviewed") == (name == "review")


@ALONE
@pytest.mark.parametrize("name", PAGES)
def test_scored(world: World, scored: Project, name: str, alone: bool) -> None:
    at = world.page(name, scored, alone=alone)
    assert not at.error
    assert not at.warning
    assert at.query_params["project"] == str(scored.folder)
    expected: dict[str, Callable[[], bool]] = {
        "load": lambda: says(at, "150 images, 3 classes, scored, 0 decided") and says(at, "scored (open)"),
        "score": lambda: labels(at)[:2] == ["Review the suspects", "See the map"],
        "map": lambda: says(at, "7 of 135 training images are flagged") and "Review these 7" in labels(at),
        "review": lambda: says(at, "0 of 7 reviewed") and says(at, "1 to 7 of 7"),
        "verify": lambda: says(at, "Did the cleaning help?") and labels(at) == ["Review the suspects", "Add"],
        "export": lambda: says(at, "150 of 150 images stay") and "Make the report" in labels(at),
        "learn": lambda: says(at, LESSON),
        "present": lambda: not labels(at),
    }
    assert expected[name](), words(at)


@pytest.mark.parametrize("name", ["map", "export", "present"])
def test_in_the_dark(world: World, scored: Project, name: str) -> None:
    at = world.page(name, scored)
    at.context["theme"] = "dark"
    assert not sound(at.run()).error


def damaged_toml(project: Project, world: World) -> str:
    (project.folder / "project.toml").write_text("format = [")
    return "cannot be read"


def newer_format(project: Project, world: World) -> str:
    (project.folder / "project.toml").write_text("format = 99\n")
    return "is of format 99"


def unknown(project: Project, world: World) -> str:
    shutil.rmtree(project.folder)
    return "is no project: it has no project.toml"


def outside(project: Project, world: World) -> str:
    (world.root / "elsewhere").mkdir()
    world.told(world.root / "elsewhere")
    return "outside the folders this app may read"


@pytest.mark.parametrize("spoil", [damaged_toml, newer_format, unknown, outside])
@pytest.mark.parametrize("name", PAGES)
def test_a_project_that_cannot_be_opened(
    world: World, scored: Project, name: str, spoil: Callable[[Project, World], str]
) -> None:
    told = spoil(scored, world)
    at = world.page(name, scored)
    assert len(at.error) == 1
    assert says(at, told), words(at)
    assert not [text for text in words(at) if "Traceback" in text]
    if name == "load":  # the way out
        assert says(at, "New project from your own data") or says(at, "Find the training images")


@pytest.mark.parametrize(
    "path", ["/etc", "../../..", "~root/x", "a\0b", "x" * 5000, "http://example.org/p", "  ", "é/ü"]
)
@pytest.mark.parametrize("name", ["load", "review"])
def test_an_address_with_any_project(world: World, name: str, path: str) -> None:
    at = world.page(name, path)
    assert len(at.error) == 1 or says(at, "No project is open.")


def damaged_latest(project: Project) -> str:
    (project.folder / "stages" / "latest.json").write_text("{")
    return "latest.json is damaged. Run `gradsift sift"


def lost_table(project: Project) -> str:
    (project.folder / "stages" / "scores-0" / "samples.parquet").write_bytes(b"PAR1")
    return "Delete that folder and run `gradsift sift` again."


def lost_array(project: Project) -> str:
    (project.folder / "stages" / "scores-0" / "head_probabilities.npy").write_bytes(b"")
    return "Delete that folder and run `gradsift sift` again."


def lost_manifest(project: Project) -> str:
    (project.folder / "manifest.parquet").unlink()
    return "manifest.parquet cannot be read: no such file"


def damaged_log(project: Project) -> str:
    project.review_path.write_bytes(b"no database, but long enough to be read as one" * 100)
    return "review.sqlite"


@pytest.mark.parametrize("spoil", [damaged_latest, lost_table, lost_array, lost_manifest, damaged_log])
@pytest.mark.parametrize("name", ["map", "review", "verify", "export", "present"])
def test_a_damaged_project_is_told(world: World, scored: Project, name: str, spoil: Callable[[Project], str]) -> None:
    told = spoil(scored)
    at = world.page(name, scored)
    assert len(at.error) == 1
    assert says(at, told), words(at)


@pytest.mark.parametrize("name", PAGES)
def test_without_the_source_everything_but_the_originals_is_there(world: World, scored: Project, name: str) -> None:
    toml = scored.folder / "project.toml"
    toml.write_text(toml.read_text().replace("rows.csv", "gone.csv"))
    at = world.page(name, scored)
    assert not at.error
    if name == "review":
        assert says(at, "0 of 7 reviewed")


@pytest.mark.parametrize("name", PAGES)
def test_read_only_leaves_no_trace_and_offers_no_change(world: World, scored: Project, name: str) -> None:
    Review(scored, reviewer="ann").decide([first_flagged(scored)], "exclude")
    world.told(*session_roots(), read_only=True)
    shutil.rmtree(scored.folder / "thumbs")
    before = tree_digest(world.root)
    at = world.page(name, scored)
    if name in ("map", "review", "export", "present"):
        assert cached.pictures(scored).wait(30)
        assert cached.pictures(scored).ready == 1, "thumbnails are made elsewhere"
    assert tree_digest(world.root) == before
    assert says(at, "Read-only: the app was started with --read-only.")
    assert not at.error
    writing = ("Open the", "Use this", "Score", "Go on", "Export", "Stop", "Check", "Retrain")
    assert not [label for label in labels(at) if label.startswith(writing)], labels(at)
    if name in ("load", "score", "verify", "export"):
        reason = "Not now: the app was started with --read-only."
        assert says(at, reason) == (name != "score" or any(b.label.startswith("Score") for b in at.button))


def test_a_disabled_start_says_why(world: World, unscored: Project) -> None:
    world.told(*session_roots(), read_only=True)
    at = world.page("score", unscored)
    assert button(at, "Score 150").disabled
    assert says(at, "Not now: the app was started with --read-only.")


def test_a_run_cannot_be_stopped_where_the_app_is_read_only(world: World, unscored: Project) -> None:
    world.told(*session_roots(), read_only=True)
    with another_run(unscored.folder):
        assert labels(world.page("score", unscored)) == []


def session_roots() -> tuple[Path, ...]:
    """The roots the app has been told."""
    return AppOptions.from_environment().roots


def first_flagged(project: Project) -> str:
    """The training image that is flagged first."""
    samples = project.findings().samples
    return str(samples.loc[samples["split"] == "train", "suspicion"].idxmax())


def test_the_app_opens_with_the_project_it_was_started_with(world: World, scored: Project) -> None:
    world.told(*session_roots(), project=scored.folder)
    at = world.page("review")
    assert at.query_params["project"] == str(scored.folder)
    assert says(at, "0 of 7 reviewed")


def test_the_start_page_leads_to_load(world: World) -> None:
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=30).run()
    assert not at.exception
    assert says(at, "Find the training images that hurt your model")


@pytest.mark.parametrize(
    "text",
    [
        IMG, MARK, "a -> b", "x--y", "<-", ">=", "http://example.org", "www.a.org", "me@a.org", ":red[x]", "`c`",
        "1. a",
        ":material/home:", ":smile:", "a_b_c", "back\\slash", "| a | b |", "# no heading", "&amp;",
    ],
)  # fmt: skip
def test_plain_text_loses_nothing_and_escapes_every_sign(text: str) -> None:
    said = plain(text)
    assert read(said) == text
    free = re.sub(r"(?<!\\)`[^`]*`", "", said).replace("\\", "")  # what is code is shown as it stands
    assert not [sign for sign in (":material/", "->", "--", "://") if sign in free]


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ({"score": "nope"}, "'nope'"),
        ({"space": "**x**"}, "'**x**'"),
        ({"colour": "nope"}, "'nope'"),
        ({"budget": "many"}, "'many'"),
        ({"lasso": "gradients~0.0,zz"}, "The selection of the link cannot be read. The flagged images are shown."),
    ],
)
def test_a_map_that_there_is_not_is_said_and_falls_back(
    world: World, scored: Project, query: dict[str, str], text: str
) -> None:
    at = world.page("map", scored, **query)
    assert not at.error
    assert len(at.warning) == 1
    assert says(at, text), words(at)
    assert says(at, "7 of 135 training images are flagged")


@pytest.mark.parametrize("slide", ["0", "-1", "x", "9" * 30, "²"])
def test_a_slide_that_there_is_not(world: World, scored: Project, slide: str) -> None:
    assert not world.page("present", scored, slide=slide).error


@pytest.mark.parametrize("name", ["map", "review", "export"])
def test_names_that_try_to_be_markup_stay_text(world: World, scored: Project, name: str) -> None:
    samples = scored.findings().samples
    train = samples[samples["split"] == "train"]
    review = Review(scored, reviewer=IMG)
    for label in CLASSES[:2]:
        ids = [str(each) for each in train.index[train["given_label"] == label][:12]]
        review.decide(ids, "exclude", note=MARK)
    world.cookies[session.COOKIE] = MARK
    at = world.page(name, scored, **{"class": IMG, "q": MARK})
    if name == "export":
        assert says(at, f"{IMG} loses 12 of")
        assert says(at, f"{MARK} loses 12 of")


def test_the_runs_of_an_app_that_was_told_nothing_are_held_to_its_folder(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`streamlit run app.py` sets no variables: the processes that it starts must not take themselves for a person."""
    for name in AppOptions((Path("x"),)).environment():
        monkeypatch.setenv(name, "")  # so that it is put back afterwards
        monkeypatch.delenv(name)
    cached.options.clear()
    told = cached.options()
    assert not told.allow_code
    permissions = Permissions.from_environment()
    assert not permissions.code
    assert permissions.roots
    cached.options.clear()
