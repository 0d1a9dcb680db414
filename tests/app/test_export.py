"""Export: what would change, the confirmation before it, the files after it, and the report."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from core.project import Project
from core.review.decisions import Review
from tests.app.conftest import CLASSES, IMG, MARK, World, button, downloads, labels, read, says, sound, words

CAT = CLASSES[2]


def training(project: Project, label: str) -> list[str]:
    """The training images of a class."""
    rows = project.manifest().rows
    return [str(each) for each in rows.loc[(rows["split"] == "train") & (rows["given_label"] == label), "sample_id"]]


def decide(project: Project) -> None:
    """Twelve of IMG out, two of MARK to cat, one kept, one unsure."""
    review = Review(project, reviewer="ann")
    review.decide(training(project, IMG)[:12], "exclude")
    review.decide(training(project, MARK)[:2], "relabel", label=CAT)
    review.decide(training(project, CAT)[:1], "keep")
    review.decide(training(project, CAT)[1:2], "unsure")


@pytest.fixture
def decided(scored: Project) -> Project:
    decide(scored)
    return scored


def test_every_change_is_counted(world: World, decided: Project) -> None:
    at = world.page("export", decided)
    assert says(at, "138 of 150 images stay")
    figures = {each.label: each.value for each in at.metric}
    assert figures == {"Excluded": "12", "Relabelled": "2", "Kept": "1", "Unsure, stay in": "1", "Not looked at": "134"}
    table = at.dataframe[0].value.set_index("name")
    assert table.loc[IMG, "excluded"] == 12
    assert (table.loc[MARK, "moved_out"], table.loc[CAT, "moved_in"]) == (2, 2)
    assert at.dataframe[1].value.to_dict("records") == [{"from": MARK, "to": CAT, "count": 2}]
    strips = [str(each.proto.body) for each in at.get("html") if "gs-cards" in each.proto.body]
    assert [text.count("<figure") for text in strips] == [12, 2]
    assert "&lt;img src=x onerror=alert(1)&gt;" in strips[0]


def test_a_class_that_loses_a_fifth_is_warned_of(world: World, decided: Project) -> None:
    before = len(training(decided, IMG))
    at = world.page("export", decided)
    assert [read(each.value) for each in at.warning] == [
        f"{IMG} loses 12 of {before} training images ({12 / before:.0%}".replace("%", " %")
        + "), more than the stated 20 %."
    ]


def test_no_decision_is_valid_too(world: World, scored: Project) -> None:
    at = world.page("export", scored)
    assert not at.warning
    assert not at.checkbox
    assert "Export" in labels(at)
    at = sound(button(at, "Export").click().run())
    assert says(at, "150 of 150 samples are listed in")


def confirmed(world: World, project: Project) -> AppTest:
    """The page with its confirmation given."""
    at = world.page("export", project)
    return sound(at.checkbox[0].check().run())


def test_nothing_leaves_before_a_person_agrees(world: World, decided: Project) -> None:
    at = world.page("export", decided)
    assert button(at, "Export").disabled
    assert says(at, "Waits for your confirmation.")
    assert at.checkbox[0].label == "Leave out 12 and relabel 2: each was decided by a person."
    at = sound(at.checkbox[0].check().run())
    assert not button(at, "Export").disabled
    at = sound(at.multiselect(key="formats").set_value([]).run())
    assert button(at, "Export").disabled
    assert says(at, "Waits for a format.")
    assert not list(decided.exports.iterdir())


def test_an_export_is_written_listed_and_can_be_loaded(world: World, decided: Project) -> None:
    at = confirmed(world, decided)
    at = at.multiselect(key="formats").set_value(["csv", "parquet"]).run()
    at = sound(button(at, "Export").click().run())
    folder = next(decided.exports.iterdir())
    assert says(at, f"138 of 150 samples are listed in {folder}")
    names = {each.name for each in folder.iterdir()}
    assert names == {
        "manifest.csv", "cleaned.csv", "manifest.parquet", "cleaned.parquet", "decisions.jsonl", "run.json",
    }  # fmt: skip
    codes = [each.value for each in at.code]
    for name in names:
        assert name in [each.value for each in at.text]
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() in codes
    assert downloads(at).count("Download") == len(names)
    assert [each.label for each in at.tabs] == ["pandas", "torch", "gradsift"]
    code = next(each for each in codes if each.startswith("import pandas"))
    assert str(folder / "cleaned.parquet") in code
    cleaned = pd.read_parquet(folder / "cleaned.parquet")
    assert len(cleaned) == 138
    assert not set(training(decided, IMG)[:12]) & set(cleaned["sample_id"])
    assert json.loads((folder / "run.json").read_text())["classes"] == list(CLASSES)
    again = sound(at.run())  # still listed, and a second export goes elsewhere and asks again
    assert says(again, f"138 of 150 samples are listed in {folder}")
    assert not again.checkbox[0].value
    assert again.text_input[0].value != str(folder)


def test_who_agreed_to_some_changes_did_not_agree_to_more(world: World, decided: Project) -> None:
    at = confirmed(world, decided)
    Review(decided, reviewer="bo").decide(training(decided, CAT)[5:6], "exclude")
    at = sound(at.run())
    assert at.checkbox[0].label == "Leave out 13 and relabel 2: each was decided by a person."
    assert not at.checkbox[0].value
    assert button(at, "Export").disabled


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("/etc/gradsift", "/etc/gradsift is outside the folders this app may read"),
        ("../../x", "is outside the folders this app may read"),
        ("", "No path was given."),
        ("~root/x", "another's home directory"),
    ],
)
def test_an_export_goes_into_the_roots_only(world: World, decided: Project, place: str, told: str) -> None:
    at = confirmed(world, decided)
    at.text_input[0].set_value(place)
    at = sound(button(at, "Export").click().run())
    assert any(told in read(each.value) for each in at.error), words(at)
    assert says(at, "A report to hand over"), "the rest of the page stays"
    assert not list(decided.exports.iterdir())


def test_a_folder_that_is_in_use_is_left_alone(world: World, decided: Project) -> None:
    used = world.root / "used"
    used.mkdir()
    (used / "mine.txt").write_text("mine")
    at = confirmed(world, decided)
    at.text_input[0].set_value(str(used))
    at = sound(button(at, "Export").click().run())
    assert at.error
    assert [each.name for each in used.iterdir()] == ["mine.txt"]


def test_a_relative_place_lies_in_the_first_root(world: World, decided: Project) -> None:
    at = confirmed(world, decided)
    at.text_input[0].set_value("out/of here")
    at = sound(button(at, "Export").click().run())
    assert not at.error
    assert (world.root / "out" / "of here" / "cleaned.csv").is_file()


def test_what_was_written_is_shown_for_its_own_project_only(world: World, decided: Project, made: Project) -> None:
    other = world.root / "other"
    shutil.copytree(made.folder, other)
    at = sound(button(confirmed(world, decided), "Export").click().run())
    assert says(at, "138 of 150 samples are listed in")
    at.query_params["project"] = str(other)
    at = sound(at.run())
    assert says(at, "150 of 150 images stay")
    assert not says(at, "samples are listed in")
    assert at.text_input[0].value.startswith(str(other))


def test_a_file_that_is_gone_again_is_no_failure(world: World, decided: Project) -> None:
    at = sound(button(confirmed(world, decided), "Export").click().run())
    folder = next(decided.exports.iterdir())
    for path in folder.iterdir():
        path.unlink()
    at = sound(at.run())
    assert not [each for each in words(at) if "Something went wrong" in each]
    assert downloads(at).count("Download") == 0


def test_the_report_is_made_and_offered(world: World, decided: Project) -> None:
    at = world.page("export", decided)
    assert not downloads(at)
    at = sound(button(at, "Make the report").click().run())
    assert len(downloads(at)) == 1
    assert downloads(at)[0].startswith("Download (")
    report = at.session_state["report"].read_bytes()
    assert report.lower().startswith(b"<!doctype html")
    assert IMG.encode() not in report
    Review(decided, reviewer="bo").decide(training(decided, CAT)[5:6], "keep")
    assert not downloads(sound(at.run())), "a report of an earlier state is not offered"


def test_the_presentation_comes_back_here(world: World, decided: Project) -> None:
    at = sound(button(world.page("export", decided), "Present it").click().run())
    assert at.query_params["from"] == "export"
    assert not at.error


def test_a_disk_that_refuses_leaves_nothing(world: World, decided: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_self: Path, *_args: object, **_more: object) -> int:
        raise OSError(28, "No space left on device")

    at = confirmed(world, decided)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        at = sound(button(at, "Export").click().run())
    assert says(at, "No space left on device")
    assert not [each for each in decided.exports.iterdir() if not each.name.startswith(".")]
