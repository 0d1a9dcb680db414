"""Verify: the verdict and what it rests on, the check that a person puts together, and every state in between."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from core import jobs
from core.commands import new
from core.errors import ProjectError
from core.jobs import JobState
from core.project import Project
from core.review.decisions import Review
from core.review.flags import TRAIN
from core.serve import AppOptions
from core.verify.arms import decisions_mark
from core.verify.record import TestSet, Verification, place, stored
from pages.ui import cached, job_panel
from tests.app.conftest import CLASSES, IMG, MARK, World, another_run, button, labels, read, says, sound, words
from tests.app.test_score import write_events
from tests.fake_verification import fake_quick, fake_verification
from tests.helpers import QUICK, drawn_folder, gradsift

SPEC = "remove:oga_l2:30"
TITLES = ["with the decisions", "30 most suspicious by oga_l2 removed"]
TAKES = {"form": "full", "arms": ["as given", "with the decisions"], "units": 9, "there": 0, "seconds": 540.0}
COMPARED = "Compared: the data as given, with the decisions on 2 training images, as many at random."


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str]]]:
    """The commands that were started, with their arguments; none runs."""
    calls: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(job_panel, "start", lambda _project, given, command: calls.append((command, list(given))))
    monkeypatch.setattr(job_panel.time, "sleep", lambda _seconds: None)
    return calls


def train_ids(project: Project) -> list[str]:
    rows = project.manifest().rows
    return [str(each) for each in rows.loc[rows["split"] == TRAIN, "sample_id"]]


@pytest.fixture
def decided(scored: Project) -> Project:
    """Two training images out, one kept."""
    review = Review(scored, reviewer="ann")
    review.decide(train_ids(scored)[:2], "exclude")
    review.decide(train_ids(scored)[2:3], "keep")
    return scored


def kept(project: Project, made: Verification, **more: Any) -> Verification:
    """Put a verification into a project, of its own held-out images and of the decisions in effect."""
    rows = project.manifest().rows
    ids = tuple(str(each) for each in rows.loc[rows["split"] != TRAIN, "sample_id"])
    mark = decisions_mark(Review(project, read_only=True).current(), train_ids(project))
    test = TestSet("val", ids, made.test.labels, known_noise=0.125, note="A note on it.")
    found = replace(made, **{"test": test, "decisions": mark, "notes": (f"A note: {MARK}",), **more})
    found.save(place(project.verify, found))
    return found


def fake(project: Project, form: str = "full", **more: Any) -> Verification:
    rows = project.manifest().rows
    count = int((rows["split"] != TRAIN).sum())
    made = fake_verification if form == "full" else fake_quick
    return made(m=count, **{"effect": 0.35, "noise": 0.0, "scored": True, **more})


@pytest.fixture
def proven(decided: Project) -> Project:
    """A project whose decisions helped, by a full check."""
    kept(decided, fake(decided))
    return decided


def header(at: AppTest) -> list[str]:
    return [read(each.value).split(": ", 1)[-1].split("] ")[-1] for each in at.header]


# The verdict and what it rests on.


@pytest.mark.parametrize("alone", [False, True], ids=["router", "alone"])
def test_the_verdict_is_the_headline(world: World, proven: Project, alone: bool) -> None:
    at = world.page("verify", proven, alone=alone)
    assert not at.error
    assert header(at) == ["The cleaning helps"]
    assert says(at, "With the decisions: accuracy +")
    assert says(
        at, "Measured on 15 images of the split val. A note on it. 12.5 % of their labels are known to be wrong."
    )
    assert says(at, "Helps: the 95 % interval of the difference in accuracy lies above 0"), "the rule stands there"
    assert [each.label for each in at.metric] == [
        "Accuracy as given", "Accuracy with the decisions", "Accuracy, as many at random", "Training images"
    ]  # fmt: skip
    assert at.metric[1].value == "100.0 %"
    assert says(at, f"A note: {MARK}")


@pytest.mark.parametrize(("effect", "said"), [(0.0, "The cleaning has no clear effect"), (-0.6, "The cleaning hurts")])
def test_each_verdict_has_its_words(world: World, decided: Project, effect: float, said: str) -> None:
    kept(decided, fake(decided, effect=effect))
    assert header(world.page("verify", decided)) == [said]


def test_figures_have_twins_as_tables(world: World, proven: Project) -> None:
    at = world.page("verify", proven)
    assert len(at.get("plotly_chart")) == 2 + 3, "differences, curves, and one for each grouping"
    arms = at.dataframe[0].value
    assert list(arms["arm"])[:2] == ["as given", "with the decisions"]
    assert len(arms) == 5
    assert list(arms["verdict"])[1] == "helps"
    values = at.dataframe[1].value
    assert set(values["name"]) == {"cat", "dog", "fox"}
    assert [each.label for each in at.tabs] == ["Class", "Group", "Cluster"]


def test_a_quick_check_has_no_curves(world: World, decided: Project) -> None:
    kept(decided, fake(decided, form="quick"))
    at = world.page("verify", decided)
    assert len(at.get("plotly_chart")) == 1 + 3
    assert says(at, "The full form retrains the whole network.")


def test_images_whose_prediction_changed_are_shown_both_ways(world: World, decided: Project) -> None:
    v = fake(decided)
    one = v.outcomes[1]
    predicted = one.predicted.copy()
    right = next(row for row in range(15) if (v.outcomes[0].predicted[:, row] == v.test.labels[row]).all())
    predicted[:, right] = (v.test.labels[right] + 1) % 3
    outcomes = (v.outcomes[0], replace(one, predicted=predicted), *v.outcomes[2:])
    classes = (IMG, MARK, "cat")
    kept(decided, replace(v, outcomes=outcomes, classes=classes))
    at = world.page("verify", decided)
    strips = [str(each.proto.body) for each in at.get("html") if 'class="gs-gain"' in each.proto.body]
    losses = [str(each.proto.body) for each in at.get("html") if 'class="gs-loss"' in each.proto.body]
    was, now = (classes[code] for code in (v.test.labels[right], (v.test.labels[right] + 1) % 3))
    assert says(at, "Now right: 6 test images")
    assert says(at, "Now wrong: 1 test image")
    assert strips[0].count("<figure") == 6
    assert losses[0].count("<img") == losses[0].count("<figure") == 1
    escaped = [each.replace("<", "&lt;").replace(">", "&gt;") for each in (was, now)]
    assert f"{escaped[0]} → <b>{escaped[1]}</b>" in losses[0]
    assert "in 3 of 3 trainings" in losses[0]


def test_who_pays_is_warned_of(world: World, decided: Project) -> None:
    v = fake(decided)
    cut = [replace(each, changed_per={"class": {"dog": 25, "cat": 5}}) for each in v.outcomes]
    kept(decided, v, outcomes=tuple(cut))
    at = world.page("verify", decided)
    told = [read(each.value) for each in at.warning]
    assert len(told) == 1
    assert told[0].startswith("dog gives up 25 of its 100 training images (25 %), 83 % of all that change")


def test_decisions_that_have_changed_since_make_it_stale(world: World, proven: Project) -> None:
    assert not [each for each in world.page("verify", proven).warning if "since" in each.value]
    Review(proven, reviewer="ann").decide(train_ids(proven)[5:6], "exclude")
    at = world.page("verify", proven)
    assert says(at, "Decisions have changed since: they change 3 training images now, 2 then. Check again.")
    assert header(at) == ["The cleaning helps"], "what was found is still shown"


def test_a_damaged_check_is_told_and_leaves_the_way_to_a_new_one(world: World, proven: Project) -> None:
    (folder,) = stored(proven.verify)
    (folder / "outcomes.npz").write_bytes(b"")
    at = world.page("verify", proven)
    assert len(at.error) == 1
    assert says(at, f"The verification in {folder} cannot be read")
    assert "Check in seconds" in labels(at)


# What the address holds.


def test_the_newest_check_is_shown_and_others_can_be_asked_for(world: World, proven: Project) -> None:
    kept(proven, fake(proven, form="quick", effect=0.0), made_at="2026-04-01T00:00:00+00:00")
    at = world.page("verify", proven)
    assert header(at) == ["The cleaning has no clear effect"]
    at = world.page("verify", proven, form="full")
    assert header(at) == ["The cleaning helps"]
    at = world.page("verify", proven, form="full", arm=SPEC)
    assert at.selectbox(key="arm-full").value == SPEC
    assert at.metric[1].label == "Accuracy of this arm"
    switch = next(each for each in at.get("button_group") if each.proto.label == "Form")
    at = sound(switch.set_value("quick").run())
    assert at.query_params["form"] == ["quick"] or at.query_params["form"] == "quick"


def test_an_arm_that_is_chosen_stands_in_the_address(world: World, proven: Project) -> None:
    at = world.page("verify", proven)
    at = sound(at.selectbox(key="arm-full").set_value(SPEC).run())
    assert at.query_params["arm"] in (SPEC, [SPEC])
    assert header(at) in (["This arm helps"], ["This arm has no clear effect"])


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ({"form": "**full**"}, "No check of the form '**full**' was made yet. The newest one is shown."),
        ({"arm": "nope"}, "There is no arm 'nope' in this check. Another one is shown."),
        ({"also": f"{IMG},remove:oga_l2:5%"}, f"The link names what is no arm and is left out: {IMG}"),
    ],
)
def test_what_there_is_not_is_said_and_falls_back(
    world: World, proven: Project, query: dict[str, str], text: str
) -> None:
    at = world.page("verify", proven, **query)
    assert says(at, text), words(at)
    assert header(at) == ["The cleaning helps"]


# The check that a person puts together.


def test_a_quick_check_is_one_click(world: World, decided: Project, started: list[Any]) -> None:
    at = world.page("verify", decided)
    assert says(at, "Did the cleaning help?")
    assert says(at, COMPARED)
    assert "Review the suspects" not in labels(at)
    button(at, "Check in seconds").click().run()
    assert started == [("verify", [])]
    assert not world.asked, "seconds need not be measured"


def test_without_a_decision_an_arm_of_a_score_can_be_compared(
    world: World, scored: Project, started: list[Any]
) -> None:
    at = world.page("verify", scored)
    assert says(at, "No decision changes a training image yet. Review first, or see what a score alone would do.")
    assert button(at, "Check in seconds").disabled
    assert says(at, "Waits for a decision that changes a training image, or for an arm of your choice.")
    at.selectbox(key="arm-what").set_value("upweight").run()
    at.text_input(key="arm-amount").set_value("20")
    at.selectbox(key="arm-score").set_value("oga_l2")
    at.number_input(key="arm-factor").set_value(2.5)
    at.checkbox(key="arm-share").check()
    at = sound(button(at, "Add").click().run())
    spec = "upweight:oga_l2:20:2.5:per-class"
    assert at.query_params["also"] in (spec, [spec])
    assert says(at, "No decision changes a training image yet")
    button(at, "Check in seconds").click().run()
    assert started == [("verify", ["--arm", spec])]


def test_review_is_one_click_away(world: World, scored: Project) -> None:
    at = button(world.page("verify", scored), "Review the suspects").click().run()
    assert says(at, "0 of 7 reviewed")


def test_an_amount_that_is_none_is_told(world: World, proven: Project) -> None:
    at = world.page("verify", proven)
    at.text_input(key="arm-amount").set_value("**many**")
    at = sound(button(at, "Add").click().run())
    assert says(at, "A budget of '**many**' cannot be read.")
    assert "also" not in at.query_params
    assert header(at) == ["The cleaning helps"]


def test_arms_of_the_address_are_compared_and_can_be_taken_out(
    world: World, decided: Project, started: list[Any]
) -> None:
    specs = ["remove:oga_l2:5%", "relabel:suspicion:9"]
    at = world.page("verify", decided, also=",".join(specs))
    assert at.multiselect[0].value == specs
    at = sound(at.multiselect[0].set_value(specs[1:]).run())
    assert at.query_params["also"] in (specs[1], specs[1:])
    button(at, "Check in seconds").click().run()
    assert started == [("verify", ["--arm", specs[1]])]


def test_retraining_says_beforehand_what_it_takes(world: World, decided: Project, started: list[Any]) -> None:
    world.answer = TAKES
    at = world.page("verify", decided)
    at = sound(at.radio(key="check-form").set_value("full").run())
    assert world.asked == [
        ["verify", str(decided.folder), "--full", "--seeds", "3", "--dry-run", "--json"]
    ]  # fmt: skip
    assert says(at, "To train: 9, one after another.")
    at = sound(button(at, "Retrain 3 seeds × 3 arms, about 9 min 00 s").click().run())
    assert started == [("verify", ["--full", "--seeds", "3"])]


def test_seeds_network_and_test_set_become_arguments(world: World, decided: Project, started: list[Any]) -> None:
    world.answer = TAKES | {"units": 6}
    at = world.page("verify", decided)
    at = at.radio(key="check-form").set_value("full").run()
    at.number_input(key="check-seeds").set_value(2)
    at = sound(at.text_input(key="check-network").set_value(" train:resnet18 ").run())
    button(at, "Retrain 2 seeds × 3 arms").click().run()
    assert started == [("verify", ["--full", "--seeds", "2", "--network", "train:resnet18"])]
    at = at.radio(key="check-form").set_value("quick").run()
    at = at.selectbox(key="test-quick").set_value("training").run()
    button(at, "Check in seconds").click().run()
    assert started[1:] == [("verify", ["--test", "training"])]


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (None, "Measuring what retraining takes on this machine"),
        ("No **space**.", "could not be measured: No **space**."),
    ],
)
def test_a_cost_that_is_not_there(world: World, decided: Project, answer: Any, text: str) -> None:
    world.answer = answer
    at = world.page("verify", decided)
    at = sound(at.radio(key="check-form").set_value("full").run())
    assert says(at, text)
    assert "Retrain" in labels(at)


def test_retraining_needs_held_out_images(world: World, decided: Project) -> None:
    path = decided.folder / "manifest.parquet"
    rows = decided.manifest()
    rows.rows["split"] = TRAIN
    rows.save(path)
    at = world.page("verify", decided)
    at = sound(at.radio(key="check-form").set_value("full").run())
    assert button(at, "Retrain").disabled
    assert says(at, "this project has none. The quick form works without.")
    assert not world.asked


def test_the_arguments_are_those_of_the_command_line(world: World) -> None:
    said = gradsift("verify", "--help", cwd=world.root).stdout
    for flag in ("--full", "--seeds", "--arm", "--test", "--network", "--dry-run", "--json"):
        assert flag in said


def test_a_start_that_is_refused_is_told(world: World, decided: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ProjectError("Another run is working on **it**.")

    monkeypatch.setattr(job_panel, "start", refuse)
    at = sound(button(world.page("verify", decided), "Check in").click().run())
    assert says(at, "Another run is working on **it**.")


# While a check is on, and after it.


def test_a_check_that_is_on_is_followed(world: World, proven: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    stages = tuple(
        (f"unit {row}", "done" if row < 3 else "running" if row == 3 else "waiting", 9.0) for row in range(9)
    )
    curve = ({"epoch": 1, "loss": 2.0, "accuracy": 0.3}, {"epoch": 2, "loss": 1.0, "accuracy": 0.6})
    now = JobState("running", kind="verify", run="r", stage="as given, seed 1", done=3, total=9, unit="images",
                   stages=stages, curve=curve)  # fmt: skip
    monkeypatch.setattr(cached, "state", lambda _project: now)
    at = world.page("verify", proven)
    assert says(at, "As given, seed 1: 3 of 9 images")
    assert says(at, "3 of 9 trainings done · about 45 s left in all")
    assert says(at, "The check is a process of its own")
    assert labels(at) == ["Stop"], "what was found before is shown, and nothing else can be started"
    assert header(at) == ["The cleaning helps"]
    assert not says(at, "Scored")


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (JobState("failed", kind="verify", message="No **space**."), "The check failed: No **space**."),
        (JobState("died", kind="verify", message="It was killed."), "The check ended without a word. It was killed."),
        (JobState("stopped", kind="verify"), "Stopped. What was computed is kept; start again to go on from there."),
    ],
)
def test_a_check_that_ended_without_a_result(
    world: World, decided: Project, monkeypatch: pytest.MonkeyPatch, now: JobState, said: str
) -> None:
    monkeypatch.setattr(cached, "state", lambda _project: now)
    at = world.page("verify", decided)
    assert says(at, said), words(at)
    assert "Check in seconds" in labels(at)


def test_a_finished_check_says_so_by_its_result(world: World, proven: Project) -> None:
    write_events(proven, {"event": "finished", "at": time.time(), "message": ""})
    path = proven.job / "events.jsonl"
    path.write_text(path.read_text().replace('"kind": "sift"', '"kind": "verify"'))
    assert not world.page("verify", proven).success
    at = world.page("score", proven)
    assert not says(at, "Checked"), "the score page is about scores"
    assert labels(at) == ["Review the suspects", "See the map", "Run again"]


def test_a_check_is_no_scoring(world: World, proven: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    now = JobState("running", kind="verify", run="r", stage="quick", done=3, total=9, unit="heads")
    monkeypatch.setattr(cached, "state", lambda _project: now)
    at = world.page("score", proven)
    assert says(at, "A check of the cleaning is running on this project. Scoring waits until it has ended.")
    assert labels(at) == ["Stop", "Go to the check"]
    assert not says(at, "are being scored")
    at = world.page("review", proven)
    assert says(at, "Checking: 3 of 9 heads")
    shutil.rmtree(proven.folder / "stages")
    (proven.folder / "stages").mkdir()
    at = world.page("verify", proven)
    assert says(at, "No scores yet.")
    assert not says(at, "are being scored")


def test_a_stopped_check_is_no_stopped_scoring(
    world: World, unscored: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached, "state", lambda _project: JobState("stopped", kind="verify"))
    assert "Score 150 images (about 1 min 00 s)" in labels(world.page("score", unscored)), "not: Go on scoring"


def test_another_run_is_named_in_one_line(world: World, proven: Project) -> None:
    with another_run(proven.folder):
        at = world.page("verify", proven)
    assert labels(at) == ["Stop"]
    assert header(at) == ["The cleaning helps"]


def test_read_only_shows_the_verdict_and_offers_no_check(world: World, proven: Project) -> None:
    world.told(*AppOptions.from_environment().roots, read_only=True)
    at = world.page("verify", proven)
    assert header(at) == ["The cleaning helps"]
    assert button(at, "Check in seconds").disabled
    assert says(at, "Not now: the app was started with --read-only.")


def test_a_real_check_is_started_followed_and_ends(world: World) -> None:
    new(world.root / "pets", f"folder:{drawn_folder(world.root / 'images', 60)}")
    project = Project.open(world.root / "pets").with_config(settings=QUICK)
    done = gradsift("sift", project.folder, cwd=world.root, timeout=300)
    assert done.returncode == 0, done.stderr
    at = world.page("verify", project, also="remove:suspicion:5%")
    at = sound(button(at, "Check in seconds").click().run())
    limit = time.monotonic() + 60
    while jobs.state(project).running and time.monotonic() < limit:
        time.sleep(0.1)
    at = sound(at.run())
    assert not at.error, words(at)
    assert header(at)[0].startswith("This arm ")
    (folder,) = stored(project.verify)
    assert json.loads((folder / "verification.json").read_text())["form"] == "quick"
    assert jobs.state(project).kind == "verify"


def test_names_that_try_to_be_markup_stay_text(world: World, decided: Project) -> None:
    v = fake(decided)
    names = dict(zip(("cat", "dog", "fox"), CLASSES, strict=True))
    groups = {name: tuple(names.get(value, value) for value in values) for name, values in v.groups.items()}
    groups[MARK] = groups.pop("cluster")
    sizes = {name: dict.fromkeys(values, 30) for name, values in groups.items()}
    removed = [replace(each, title=f"{each.title} {IMG}", changed_per={"class": {IMG: 29}}) for each in v.outcomes]
    kept(decided, v, groups=groups, group_sizes=sizes, outcomes=tuple(removed), network=MARK, tool=IMG)
    at = world.page("verify", decided)
    assert says(at, f"{IMG} gives up 29 of its 30 training images")
    assert says(at, MARK)
