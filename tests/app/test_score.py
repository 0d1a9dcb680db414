"""Score: settings become arguments, a run is started, followed and stopped, and each way it ends has its words."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from core import jobs
from core.commands import new
from core.errors import ProjectError
from core.jobs import JobState
from core.project import Project
from core.settings import EXPLAINED
from pages.ui import cached, job_panel
from tests.app.conftest import World, another_run, button, labels, read, says, sound, words
from tests.helpers import QUICK, drawn_folder, gradsift

SHOWN = ("epochs", "image_size", "augment", "flip", "maps", "trees", "device", "seed")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The arguments of runs that were started; none runs."""
    calls: list[list[str]] = []
    monkeypatch.setattr(job_panel, "start", lambda _project, arguments, _command: calls.append(list(arguments)))
    monkeypatch.setattr(job_panel.time, "sleep", lambda _seconds: None)
    return calls


def test_every_setting_stands_with_its_reason(world: World, unscored: Project) -> None:
    at = world.page("score", unscored)
    kinds = (at.number_input, at.toggle, at.selectbox, at.text_input)
    controls = {each.key: each.label for kind in kinds for each in kind}
    assert controls == {f"s-{name}": EXPLAINED[name][0] for name in (*SHOWN, "backbone", "models", "grand")}
    for name in SHOWN:
        assert says(at, " ".join(EXPLAINED[name][1].split()))


@pytest.mark.parametrize(
    ("kind", "key", "value", "arguments"),
    [
        ("number_input", "epochs", 5, ["--epochs", "5"]),
        ("number_input", "image_size", 32, ["--image-size", "32"]),
        ("number_input", "trees", 50, ["--trees", "50"]),
        ("number_input", "seed", 7, ["--seed", "7"]),
        ("number_input", "seed", 0, []),
        ("toggle", "maps", False, ["--no-maps"]),
        ("toggle", "augment", False, ["--no-augment"]),
        ("selectbox", "flip", "Mirror", ["--flip"]),
        ("selectbox", "flip", "Do not mirror", ["--no-flip"]),
        ("selectbox", "device", "cpu", ["--device", "cpu"]),
        ("number_input", "models", 3, ["--models", "3"]),
        ("text_input", "grand", "last, 5", ["--grand", "last", "5"]),
        ("text_input", "backbone", "timm:vit@DEFAULT", ["--backbone", "timm:vit@DEFAULT"]),
    ],
)
def test_a_change_becomes_an_argument(
    world: World, unscored: Project, started: list[list[str]], kind: str, key: str, value: Any, arguments: list[str]
) -> None:
    at = world.page("score", unscored)
    at = sound(getattr(at, kind)(key=f"s-{key}").set_value(value).run())
    assert world.asked[-1] == ["sift", str(unscored.folder), *arguments, "--dry-run", "--json"]
    sound(button(at, "Score 150 images").click().run())
    assert started == [arguments]


def test_a_finished_network_has_settings_of_its_own(world: World, unscored: Project, started: list[list[str]]) -> None:
    for name in ("w.pt", "a.pt", "b.pt"):
        (world.root / name).write_bytes(b"x")
    chosen = replace(QUICK, layer="fc", grand=("last",))
    unscored.with_config(model=f"torchvision:resnet18@{world.root}/w.pt", settings=chosen)
    at = world.page("score", unscored)
    assert says(at, f"Model: torchvision:resnet18@{world.root}/w.pt")
    assert at.text_input(key="s-layer").value == "fc"
    assert at.text_input(key="s-grand").value == "last"
    at.text_input(key="s-layer").set_value("")
    at.text_area(key="s-checkpoints").set_value(" a.pt \n\nb.pt")
    at = sound(at.toggle(key="s-reference").set_value(False).run())
    button(at, "Score 150 images").click().run()
    paths = [str(world.root / name) for name in ("a.pt", "b.pt")]
    assert started == [["--no-reference", "--checkpoints", *paths, "--layer", "auto"]]


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [("backbone", "resnet", "Unknown model 'resnet'"), ("backbone", "torchvision:resnet18@/etc/passwd", "outside")],
)
def test_a_setting_that_cannot_be_is_said_and_nothing_starts(
    world: World, unscored: Project, key: str, value: str, told: str
) -> None:
    at = sound(world.page("score", unscored).text_input(key=f"s-{key}").set_value(value).run())
    assert told in read(at.error[0].value)
    assert not [each for each in at.button if each.label.startswith("Score")]


def test_weights_are_fetched_only_where_that_is_allowed(
    world: World, unscored: Project, started: list[list[str]]
) -> None:
    unscored.with_config(model="torchvision:resnet18@DEFAULT")
    at = world.page("score", unscored)
    button(at, "Score 150 images").click().run()
    at = world.page("score", unscored)
    at = at.toggle(key="s-download").set_value(True).run()
    button(at, "Score 150 images").click().run()
    assert started == [[], ["--download"]]


def test_settings_of_the_project_are_no_change_and_can_be_changed_back(
    world: World, unscored: Project, started: list[list[str]]
) -> None:
    unscored.with_config(settings=QUICK)
    at = world.page("score", unscored)
    assert at.number_input(key="s-epochs").value == 2
    assert not at.toggle(key="s-maps").value
    at = at.toggle(key="s-maps").set_value(True).run()
    button(at, "Score 150 images").click().run()
    assert started == [["--maps"]]


def test_the_arguments_are_those_of_the_command_line(world: World, unscored: Project) -> None:
    said = gradsift("sift", "--help", cwd=world.root).stdout
    for name in SHOWN:
        flag = f"--{name.replace('_', '-')}"
        assert flag in said
        if name in ("maps", "augment", "flip"):
            assert f"--no-{name}" in said


def test_a_map_that_is_asked_for_is_switched_on(world: World, scored: Project) -> None:
    scored.with_config(settings=QUICK)
    at = world.page("score", scored, maps=1)
    assert [each.label for each in at.button][:2] == ["Review the suspects", "See the map"]
    assert at.toggle(key="s-maps").value, "the map's button leads here with maps=1"


def test_after_a_run_there_is_nothing_to_do_but_look(world: World, scored: Project) -> None:
    at = world.page("score", scored)
    assert labels(at) == ["Review the suspects", "See the map", "Run again"]
    assert not world.asked
    assert says(sound(button(at, "Review the suspects").click().run()), "0 of 7 reviewed")
    at = world.page("score", scored)
    assert says(sound(button(at, "See the map").click().run()), "training images are flagged")


def test_the_same_settings_can_be_run_again(world: World, scored: Project, started: list[list[str]]) -> None:
    at = world.page("score", scored)
    button(at, "Run again").click().run()
    assert started == [[]]
    world.told(scored.folder.parent, read_only=True)
    assert "Run again" not in labels(world.page("score", scored))


def test_another_setting_offers_to_score_again(world: World, scored: Project, started: list[list[str]]) -> None:
    at = world.page("score", scored)
    at = at.number_input(key="s-seed").set_value(3).run()
    button(at, "Score 150 images").click().run()
    assert started == [["--seed", "3"]]


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (None, "Measuring what the run will take"),
        ("No **space**.", "What the run will take could not be measured: No **space**."),
        ({"seconds": {}, "memory_mb": 1, "disk_mb": 1, "device": "cpu"}, "Everything is computed for these settings."),
    ],
)
def test_a_cost_that_is_not_there(world: World, unscored: Project, answer: Any, text: str) -> None:
    world.answer = answer
    at = world.page("score", unscored)
    assert says(at, text)
    assert "Score 150 images" in labels(at)


def test_a_start_that_is_refused_is_told(world: World, unscored: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ProjectError("Another run is working on **it**.")

    monkeypatch.setattr(job_panel, "start", refuse)
    at = sound(button(world.page("score", unscored), "Score 150").click().run())
    assert says(at, "Another run is working on **it**.")


def test_a_real_run_is_started_followed_and_ends(world: World) -> None:
    new(world.root / "pets", f"folder:{drawn_folder(world.root / 'images', 60)}")
    project = Project.open(world.root / "pets").with_config(settings=QUICK)
    at = sound(button(world.page("score", project), "Score 60 images").click().run())
    assert labels(at) == ["Stop"]
    limit = time.monotonic() + 60
    while jobs.state(project).running and time.monotonic() < limit:
        time.sleep(0.1)
    at = sound(at.run())
    assert not at.error, words(at)
    assert labels(at) == ["Review the suspects", "See the map", "Run again"]
    assert says(at, "Scored in")
    assert says(sound(button(at, "Review the suspects").click().run()), "0 of 3 reviewed")
    assert says(world.page("map", project), "The last run drew no map.")


def write_events(project: Project, *events: dict[str, Any]) -> None:
    """Put a run's record into the project."""
    project.job.mkdir(exist_ok=True)
    first = {"event": "started", "run": "r", "at": time.time() - 90, "kind": "sift", "tool": "0", "settings": {}}
    (project.job / "events.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in (first, *events)))


@pytest.mark.parametrize(
    ("end", "words_", "verb"),
    [
        ("stopped", "Stopped after 1 min 30 s. What was computed is kept; start again to go on from there.", "Go on"),
        ("failed", "The run failed: it *broke*", "Go on"),
        (None, "The run ended without a word. Its last words: **Killed**", "Go on"),
        ("finished", "Scored in 1 min 30 s.", "Score"),
    ],
)
def test_a_run_that_has_ended(world: World, unscored: Project, end: str | None, words_: str, verb: str) -> None:
    ends = [{"event": end, "at": time.time(), "message": "it *broke*"}] if end else []
    write_events(unscored, *ends)
    (unscored.job / "output.txt").write_text("**Killed**\n")
    at = world.page("score", unscored)
    assert says(at, words_), words(at)
    assert [label for label in labels(at) if label.startswith(f"{verb} ")]


def panel_of(now: JobState, compact: bool = False) -> AppTest:
    """One state of a run, drawn alone."""

    def script(now, compact, folder):  # type: ignore[no-untyped-def]  # Streamlit runs its text alone
        from pathlib import Path

        from core.project import Project, ProjectConfig
        from pages.ui import job_panel

        job_panel.draw(Project(Path(folder), ProjectConfig("digits")), now, compact)

    at = AppTest.from_function(
        script, default_timeout=30, kwargs={"now": now, "compact": compact, "folder": "/nowhere"}
    )
    return sound(at.run())


STAGES = (("pixels", "done", 2.0), ("features", "running", 5.0), ("scores", "waiting", None))
MANY_STAGES = (
    ("thumbs", "done", 1.0), ("pixels", "done", 2.0), ("features", "done", 5.0), ("network", "done", 3.0),
    ("backbone", "running", 1.0), ("neighbours", "waiting", None), ("scores", "waiting", None),
    ("map", "waiting", None),
)  # fmt: skip
CURVE = ({"epoch": 1, "loss": 2.0, "accuracy": 0.3}, {"epoch": 2, "loss": 1.0, "accuracy": 0.6})


@pytest.mark.parametrize(
    ("now", "told", "stop"),
    [
        (JobState(), [], None),
        (JobState("starting", run="r"), ["Starting: the first words come in some seconds"], True),
        (
            JobState("running", stage="training", done=3000, total=6000, unit="images", rate=1234.5, seconds_left=61.0),
            ["Training: 3,000 of 6,000 images · 1,234/s · 1 min 01 s left in this stage"],
            True,
        ),
        (
            JobState("running", stage="forest", done=1, total=8, unit="trees", rate=2.25),
            ["Isolation forest: 1 of 8 trees · 2.2/s"],
            True,
        ),
        (JobState("running", stage="<i>x", total=0), ["<i>x"], True),
        (JobState("running"), ["Working"], True),
        (
            JobState("running", stage="training", device="cpu", memory_mb=2048),
            ["on cpu, 2,048 MB of memory so far"],
            True,
        ),
        (JobState("running", stages=STAGES), ["Read the images, 2.0 s", "Train and record, 5.0 s", "Scores"], True),
        (JobState("running", stages=MANY_STAGES), ["Your model, 3.0 s", "Backbone", "Maps"], True),  # no trainings
        (JobState("stopping", stage="training"), ["Stopping at the end of this batch"], False),
        (JobState("finished", started_at=0.5, ended_at=61.5), ["Scored in 1 min 01 s."], None),
        (JobState("finished"), ["Scored."], None),
        (JobState("stopped"), ["Stopped. What was computed is kept; start again to go on from there."], None),
        (JobState("failed", message="No **space**."), ["The run failed: No **space**."], None),
        (
            JobState("died", message="It was killed."),
            ["ended without a word. It was killed. What was computed is kept"],
            None,
        ),
    ],
)
def test_each_phase_has_its_words(world: World, now: JobState, told: list[str], stop: bool | None) -> None:
    at = panel_of(now)
    for text in told:
        assert says(at, text), words(at)
    if not told:
        assert not words(at)
    assert [not each.disabled for each in at.button] == ([] if stop is None else [stop])
    assert bool(at.error) == (now.phase in ("failed", "died"))


def test_a_run_that_is_silent_is_told(world: World) -> None:
    silent = "No sign of life for 20 s: the machine slept, or the process is held."
    assert says(panel_of(JobState("running", stage="training", message=silent)), silent)


def test_notes_of_a_run_are_told(world: World) -> None:
    note = "Out of memory: the batch is **halved** to 32."
    assert says(panel_of(JobState("running", stage="training", notes=(note,))), note)


def test_curves_are_drawn_unless_there_is_one_line_for_all(world: World) -> None:
    assert len(panel_of(JobState("running", curve=CURVE)).get("plotly_chart")) == 1
    assert len(panel_of(JobState("running", curve=CURVE[:1])).get("plotly_chart")) == 0
    assert len(panel_of(JobState("running", curve=CURVE, stages=STAGES), compact=True).get("plotly_chart")) == 0


def test_stop_asks_the_run_to_stop(world: World, unscored: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[Path] = []
    monkeypatch.setattr(cached, "state", lambda _project: JobState("running", run="r", stage="training"))
    monkeypatch.setattr(job_panel, "stop", lambda project: stopped.append(project.folder))
    at = world.page("score", unscored)
    button(at, "Stop").click().run()
    assert stopped == [unscored.folder]


def test_a_stop_that_is_refused_is_told(world: World, unscored: Project) -> None:
    with another_run(unscored.folder):
        at = world.page("score", unscored)
        at = sound(button(at, "Stop").click().run())
    assert says(at, "started from Python code and has to be stopped there"), words(at)


def test_a_panel_that_waits_for_a_stage_reruns_the_page_when_it_is_there(
    world: World, unscored: Project, made: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached, "state", lambda _project: JobState("running", run="r", stage="training"))
    at = world.page("review", unscored)
    assert says(at, "are being scored")
    shutil.rmtree(unscored.folder / "stages")
    shutil.copytree(made.folder / "stages", unscored.folder / "stages")
    assert says(sound(at.run()), "0 of 7 reviewed")
