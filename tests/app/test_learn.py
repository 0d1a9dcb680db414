"""Learn: the small worlds answer to the address and the controls; the lesson stands in every state of a project."""

from __future__ import annotations

import json
import shutil
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from core import toys
from core.project import Project
from core.toys import KINDS, Edit
from pages.ui import session, toy
from tests.app.conftest import CLASSES, IMG, World, another_run, button, labels, says, sound, words


@pytest.fixture(autouse=True)
def loaded() -> None:
    """The forest's code, so that no page has to wait for it."""
    toys.warm().join()


def data_of(at: AppTest, key: str) -> Any:
    """What the page sends to a component, with its parts put together."""
    (found,) = [each for each in at.get("bidi_component") if each.proto.id.endswith(f"-{key}")]
    return json.loads(found.proto.json)


def kept(project: Project) -> None:
    """Give the hand-made project what a run keeps of the last layer: the suspects' labels are not what it says."""
    found = project.findings()
    folder = project.folder / "stages" / "features-0"
    folder.mkdir()
    np.save(folder / "logits.npy", np.log(found.head_probabilities))
    np.save(folder / "inputs.npy", np.random.default_rng(0).random((len(found), 40), dtype=np.float32))
    (folder / "run.json").write_text("{}")
    scores = project.folder / "stages" / "scores-0" / "findings.json"
    facts = json.loads(scores.read_text())
    facts["run"]["stages"] = {"features": "0", "scores": "0"}
    scores.write_text(json.dumps(facts))


def test_the_worlds_need_no_project(world: World) -> None:
    at = world.page("learn")
    assert says(at, "The idea in five minutes")
    assert says(at, "150 points of two kinds; 10 carry the wrong label.")
    assert says(at, "Open a project to see one of its images taken apart")
    shown = data_of(at, "toy")
    assert len(shown["xy"]) == 150
    assert len(shown["wrong"]) == 10
    assert shown["border"]
    assert shown["after"] is None
    views = data_of(at, "toy-views")["views"]
    assert [each["name"] for each in views] == ["loss", "push", "harm", "unlike"]
    assert all(len(each["heat"]) == 150 for each in views)
    assert "correlation" in views[2]["text"]
    assert button(at, "Open a project").click().run().query_params.get("project") is None


def test_no_word_of_the_trade_at_first_sight(world: World, scored: Project) -> None:
    kept(scored)
    at = world.page("learn", scored)
    folded = {each.value for expander in at.expander for each in expander.markdown}
    first = " ".join(text for text in words(at) if text not in folded)
    first += json.dumps([data_of(at, key)[part] for key, part in (("toy-views", "views"), ("toy", "names"))])
    for word in ("gradient", "influence", "logit", "Hessian", "loss ", "softmax", "outlier", "epoch", "hyperparameter"):
        assert word not in first, word
    assert any("influence" in text for text in folded)


def test_the_address_chooses_the_world(world: World) -> None:
    at = world.page("learn", world="moons", seed=3, width=4, take=20, by="unlike", moved="12f~30_1234_-500")
    assert not at.warning
    assert says(at, "250 points of two kinds;")
    shown = data_of(at, "toy")
    assert shown["owner"] == "moons-3"
    assert shown["edits"] == [[12, 1], [30, 0, 1.234, -0.5]]
    assert shown["xy"][30] == [1.234, -0.5]
    assert len(shown["taken"]) == 20
    assert shown["after"]
    assert says(at, "of the 20 points taken away had a wrong label.")
    assert says(at, "Counted on 2,000 fresh points")
    (table,) = [str(each.proto.body) for each in at.get("html") if "<table" in each.proto.body]
    assert "as many at random" in table
    assert says(at, "A well-known figure has it that on half-moons")


@pytest.mark.parametrize("query", [{"world": "spiral"}, {"seed": "1000"}, {"seed": "-1"}, {"width": "3"},
                                   {"take": "7"}, {"by": "**x**"}, {"take": "9" * 40}])  # fmt: skip
def test_what_there_is_not_is_said_and_falls_back(world: World, query: dict[str, str]) -> None:
    at = world.page("learn", **query)
    assert len(at.warning) == 1
    assert says(at, "which there is not")
    assert says(at, "150 points of two kinds")


@pytest.mark.parametrize("moved", ["x", "999f", "1_2", "3f~3f", "0_99999_0", "~" * 50, "-1f", "²f"])
def test_any_text_of_moved_points_can_be_opened(world: World, moved: str) -> None:
    at = world.page("learn", moved=moved)
    assert not at.error
    assert says(at, "150 points of two kinds")


def test_the_controls_write_the_address(world: World) -> None:
    at = world.page("learn", moved="3f")
    at = sound(at.segmented_control(key="l-world").set_value("moons").run())
    assert at.query_params["world"] == "moons"
    assert "moved" not in at.query_params
    assert says(at, "250 points of two kinds")
    at = sound(at.select_slider(key="l-width").set_value(2).run())
    assert at.query_params["width"] == "2"
    at = sound(button(at, "New points").click().run())
    assert at.query_params["seed"] == "16"
    at = sound(at.slider(key="l-take").set_value(20).run())
    at = sound(at.selectbox(key="l-by").set_value("harm").run())
    assert (at.query_params["take"], at.query_params["by"]) == ("20", "harm")
    assert says(at, "of the 20 points taken away")


def test_points_can_be_put_back(world: World) -> None:
    at = world.page("learn", moved="3f")
    at = sound(button(at, "Put the points back").click().run())
    assert "moved" not in at.query_params
    assert "Put the points back" not in labels(at)


def test_rings_can_be_taken_off(world: World) -> None:
    at = world.page("learn")
    assert data_of(at, "toy")["rings"]
    at = sound(at.toggle(key="l-rings").set_value(False).run())
    assert not data_of(at, "toy")["rings"]
    assert not data_of(at, "toy-views")["rings"]


def test_before_the_forest_is_loaded_the_rest_is_there(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toys, "ready", lambda: False)
    views = data_of(world.page("learn"), "toy-views")["views"]
    assert [each["heat"] is None for each in views] == [False, False, False, True]
    assert views[3]["text"] == "This one is being loaded; it appears in a moment."


# What the browser sends.


def hears(monkeypatch: pytest.MonkeyPatch, said: object) -> toy.Heard:
    state: dict[str, Any] = {"toy": {"said": said}}
    monkeypatch.setattr(session, "kept", lambda name, default=None: state.get(name, default))
    monkeypatch.setattr(session, "keep", state.__setitem__)
    first = toy.sent("toy", "line-0", 150)
    assert toy.sent("toy", "line-0", 150).edits is None, "what was heard is not heard again"
    return first


def test_a_message_is_heard_once(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"owner": "line-0", "nonce": "n1", "live": True, "edits": [[3, 1], [4, 0, 1.23456, -2]]}
    assert hears(monkeypatch, said) == toy.Heard((Edit(3, True), Edit(4, False, (1.235, -2.0))), "n1", True)


@pytest.mark.parametrize("said", [
    None, "x", [], {}, {"owner": "moons-0", "nonce": "n", "edits": [[1, 1]]},
    {"owner": "line-0", "nonce": "", "edits": []}, {"owner": "line-0", "nonce": "n" * 41, "edits": []},
    {"owner": "line-0", "nonce": 7, "edits": []},
    {"owner": "line-0", "nonce": "n", "edits": "many"},
])  # fmt: skip
def test_what_is_no_message_is_dropped(monkeypatch: pytest.MonkeyPatch, said: object) -> None:
    assert hears(monkeypatch, said).edits is None


@pytest.mark.parametrize("edit", [
    None, 3, [], [1], [1, 1, 2], [1, 1, 2, 3, 4], [-1, 1], [150, 1], [1.5, 1], ["1", 1], [1, 0, float("nan"), 0],
    [1, 0, float("inf"), 0], [1, 0, 1e9, 0], [1, 0, "0", 0],
])  # fmt: skip
def test_what_is_no_edit_is_left_out(monkeypatch: pytest.MonkeyPatch, edit: object) -> None:
    said = {"owner": "line-0", "nonce": "n", "edits": [edit, [2, 1]]}
    assert hears(monkeypatch, said).edits == (Edit(2, True),)


# The lesson.


def test_one_image_is_taken_apart(world: World, scored: Project) -> None:
    kept(scored)
    at = world.page("learn", scored)
    assert not at.error
    shown = data_of(at, "lesson")
    suspect, ordinary = shown["looks"]
    assert suspect["given"] == ordinary["given"]
    assert suspect["suggested"] != suspect["given"]
    assert suspect["wants"][0][0] == suspect["given"]
    assert suspect["wants"][0][1] == pytest.approx(-0.9, abs=0.01)
    assert abs(ordinary["wants"][0][1]) < abs(suspect["wants"][0][1])
    assert suspect["length"] == pytest.approx(suspect["error_norm"] * suspect["input_norm"], rel=1e-5)
    assert len(suspect["saw"]) == 24
    assert suspect["src"].startswith("data:image/")
    assert len(shown["dots"]) == 135
    assert "Look at it in the review" in labels(at)


def test_another_image_is_one_click_away(world: World, scored: Project) -> None:
    kept(scored)
    at = world.page("learn", scored)
    first = data_of(at, "lesson")["looks"][0]["id"]
    at = sound(button(at, "Another one (1 of 12)").click().run())
    second = data_of(at, "lesson")["looks"][0]["id"]
    assert second != first
    assert at.query_params["id"] == second
    assert "Another one (2 of 12)" in labels(at)


def test_an_image_that_the_project_does_not_have(world: World, scored: Project) -> None:
    kept(scored)
    at = world.page("learn", scored, id=IMG)
    assert len(at.warning) == 1
    assert says(at, f"{IMG!r}, which this project does not have")
    assert data_of(at, "lesson")


def test_a_run_that_kept_nothing_is_told(world: World, scored: Project) -> None:
    at = world.page("learn", scored)
    assert not at.error
    assert says(at, "The last run kept no outputs of a network")
    assert says(at, "150 points of two kinds")


def test_before_the_first_run(world: World, unscored: Project) -> None:
    at = world.page("learn", unscored)
    assert says(at, "This project has no scores yet.")
    assert says(at, "150 points of two kinds")
    with another_run(unscored.folder):
        assert not world.page("learn", unscored).error


def test_a_damaged_run_leaves_the_worlds(world: World, scored: Project) -> None:
    kept(scored)
    shutil.rmtree(scored.folder / "stages" / "scores-0")
    at = world.page("learn", scored)
    assert len(at.error) == 1
    assert says(at, "150 points of two kinds")


@pytest.mark.parametrize("alone", [False, True])
def test_in_the_dark_and_alone(world: World, scored: Project, alone: bool) -> None:
    kept(scored)
    at = world.page("learn", scored, alone=alone)
    at.context["theme"] = "dark"
    at = sound(at.run())
    assert not at.error
    assert data_of(at, "toy")["dark"]
    assert data_of(at, "lesson")["dark"]


def test_names_stay_text(world: World, scored: Project) -> None:
    kept(scored)
    told = json.dumps(data_of(world.page("learn", scored), "lesson"))
    assert any(name in json.loads(told)["looks"][0]["given"] for name in CLASSES)
    assert set(KINDS) == {"line", "moons"}
