"""Long work as a process: started, watched, stopped, killed, gone on with; and what its folder says, folded."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from core import jobs
from core.data.manifest import Manifest
from core.errors import ModelError, ProjectError, Stopped
from core.jobs import JobState, ask, fold, read_events, recorded, start, state, stop
from core.progress import Event, Progress
from core.project import Project
from core.shortage import ShortageError
from tests.helpers import command, drawn_folder, environment, gradsift

QUICK = ["--trees", "20", "--image-size", "8", "--no-maps", "--device", "cpu"]
LONG = [*QUICK, "--epochs", "400"]
KEYS = {"pixels": "k1", "features": "k2", "neighbours": "k3", "scores": "k4"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("jobs")
    Project.create(root / "p", Manifest.read(f"folder:{drawn_folder(root / 'images', 40)}"))
    return root / "p"


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Iterator[Project]:
    opened = Project.open(shutil.copytree(made, tmp_path / "p"))
    yield opened
    if state(opened).running:  # a test that failed leaves no process behind
        stop(opened)
        until(opened, lambda now: not now.running)


def until(project: Project, reached: Callable[[JobState], bool], seconds: float | int = 180) -> JobState:
    limit = time.monotonic() + seconds
    while not reached(now := state(project)):
        assert time.monotonic() < limit, now
        time.sleep(0.02)
    return now


def training(now: JobState) -> bool:
    assert now.phase in ("starting", "running"), now
    return now.phase == "running" and len(now.curve) >= 3


def process_of(project: Project) -> int:
    """The process that holds the job's lock, as the system tells it."""
    lock = (project.job / ".lock").stat().st_ino
    for line in Path("/proc/locks").read_text().splitlines():
        parts = line.split()
        if "->" not in parts and parts[5].endswith(f":{lock}") and parts[3] == "WRITE":
            return int(parts[4])
    raise AssertionError("no process holds the job")


def written(project: Project, *events: dict[str, Any], tail: str = "") -> None:
    project.job.mkdir(exist_ok=True)
    lines = "".join(json.dumps(event) + "\n" for event in events)
    (project.job / "events.jsonl").write_text(lines + tail)


ASKED = {"event": "asked", "run": "r", "at": 100.0}
STARTED = {"event": "started", "run": "r", "at": 101.0, "kind": "sift", "tool": "0.1.0", "settings": {"seed": 3}}
PLAN = {"event": "plan", "at": 102.0, "keys": KEYS, "done": []}
BEAT = {"run": "r", "at": 110.0, "stage": "training", "done": 30, "total": 90, "unit": "images", "rate": 4.0}


def ended(how: str, message: str = "") -> dict[str, Any]:
    return {"event": how, "at": 120.0, "message": message}


# --- folding ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("events", "now", "locked", "asked_to_stop", "phase"),
    [
        ([], 100, False, "", "none"),
        ([], 100, True, "", "none"),
        ([ASKED], 100.5, False, "", "starting"),
        ([ASKED], 129.9, False, "", "starting"),
        ([ASKED], 130.1, False, "", "died"),
        ([ASKED], 130.1, True, "", "starting"),
        ([ASKED], 101, False, "r", "stopping"),
        ([ASKED, ended("failed", "no")], 101, False, "", "failed"),
        ([STARTED], 101, True, "", "running"),
        ([STARTED], 1e9, True, "", "running"),
        ([STARTED], 101, True, "r", "stopping"),
        ([STARTED], 101, True, "of another run", "running"),
        ([STARTED], 101, False, "", "died"),
        ([STARTED], 101, False, "r", "died"),
        ([STARTED, PLAN, ended("finished")], 200, False, "", "finished"),
        ([STARTED, PLAN, ended("finished")], 200, True, "r", "finished"),
        ([STARTED, ended("stopped", "here")], 200, False, "r", "stopped"),
        ([STARTED, ended("failed", "why")], 200, True, "", "failed"),
    ],
)
def test_the_phase(
    events: list[dict[str, Any]], now: float, locked: bool, asked_to_stop: str, phase: str
) -> None:  # fmt: skip
    found = fold(events, now, locked, None, asked_to_stop)
    assert found.phase == phase
    assert found.running is (phase in ("starting", "running", "stopping"))


def test_a_running_run_says_where_it_is() -> None:
    events = [
        STARTED, {"event": "facts", "at": 101.5, "device": "cpu", "precision": "float32", "settings": {"seed": 4}},
        PLAN, {"event": "note", "text": "36 images"}, {"event": "stage", "at": 105.0, "name": "thumbs"},
        {"event": "stage", "at": 107.0, "name": "pixels"},
        {"event": "epoch", "epoch": 1, "loss": 1.5, "accuracy": 0.5},
        {"event": "epoch", "epoch": 2, "loss": 1.0, "accuracy": 0.6},
        {"event": "epoch", "epoch": 2, "loss": 0.9, "accuracy": 0.7},
    ]  # fmt: skip
    now = fold(events, 111.0, True, {**BEAT, "memory_mb": 700})
    assert (now.stage, now.done, now.total, now.unit, now.rate, now.seconds_left) == (
        "training",
        30,
        90,
        "images",
        4,
        15,
    )
    assert (now.device, now.precision, now.memory_mb, now.device_memory_mb) == ("cpu", "float32", 700, None)
    assert (now.started_at, now.ended_at, now.tool, now.settings) == (101.0, None, "0.1.0", {"seed": 4})
    assert now.notes == ("36 images",)
    assert now.curve == ({"epoch": 1, "loss": 1.5, "accuracy": 0.5}, {"epoch": 2, "loss": 0.9, "accuracy": 0.7})
    assert now.stages == (
        ("thumbs", "done", 3), ("pixels", "done", 2), ("features", "running", 4), ("neighbours", "waiting", None),
        ("scores", "waiting", None),
    )  # fmt: skip
    assert now.message == ""


def test_a_stage_found_finished_counts_as_done_and_took_no_time() -> None:
    found = fold([STARTED, {**PLAN, "done": ["pixels", "features"]}], 104.0, True)
    assert found.stages == (
        ("thumbs", "running", 2), ("pixels", "done", 0), ("features", "done", 0), ("neighbours", "waiting", None),
        ("scores", "waiting", None),
    )  # fmt: skip


@pytest.mark.parametrize(("events", "locked"), [([STARTED, PLAN], False), ([STARTED, PLAN, ended("stopped")], False)])
def test_what_ended_has_no_running_stage_no_rate_and_an_end(events: list[dict[str, Any]], locked: bool) -> None:
    found = fold(events, 500.0, locked, BEAT)
    assert {status for _, status, _ in found.stages} == {"waiting"}
    assert (found.rate, found.seconds_left, found.done) == (None, None, 30)
    assert found.ended_at == (120.0 if len(events) == 3 else 110.0)


def test_a_beat_of_another_run_is_not_believed() -> None:
    assert fold([STARTED], 111.0, True, {**BEAT, "run": "old"}).done == 0


def test_a_long_silence_is_told_and_is_not_an_end() -> None:
    now = fold([STARTED], 170.0, True, BEAT)
    assert now.phase == "running"
    assert now.message == "No sign of life for 1 min 00 s: the machine slept, or the process is held."


def test_between_two_reports_the_stage_is_the_one_that_runs() -> None:
    now = fold([STARTED, {**PLAN, "done": ["pixels"]}, {"event": "stage", "at": 103.0, "name": "thumbs"}], 111.0, True,
               {**BEAT, "stage": "", "done": 0, "total": 0, "rate": None})  # fmt: skip
    assert now.stage == "features"


def test_lines_that_are_no_events_are_left_out() -> None:
    good = json.dumps(STARTED)
    junk = ["", "{", "[]", "3", "null", '{"event": "moon"}', '{"event": ["a"]}', '{"event": "epoch", "epoch": "1"}',
            '{"event": "stage", "at": "now", "name": "pixels"}', "[" * 100_000, "\ufffd\x00"]  # fmt: skip
    assert read_events("\n".join([*junk, good, *junk, json.dumps(ended("finished"))[:-4]])) == [STARTED]


# --- reading a folder -------------------------------------------------------------------------------------------------


def test_a_project_that_never_ran(project: Project) -> None:
    assert state(project) == JobState()
    assert not project.job.exists()
    stop(project)
    assert not project.job.exists()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"{}\n[]\n", b'{"event": "started"}\n'])
def test_a_damaged_file_is_no_run(content: bytes, project: Project) -> None:
    project.job.mkdir()
    for name in ("events.jsonl", "beat.json", "stop", "output.txt"):
        (project.job / name).write_bytes(content)
    assert state(project).phase == "none"


def test_folders_where_files_belong(project: Project) -> None:
    for name in ("events.jsonl", "beat.json", "stop", "output.txt", ".lock"):
        (project.job / name).mkdir(parents=True)
    assert state(project).phase == "none"


def test_a_half_written_last_line_is_skipped(project: Project) -> None:
    written(project, STARTED, PLAN, tail='{"event": "finished", "at": 1')
    assert state(project).phase == "died"


def test_a_folder_that_cannot_be_written_to_can_be_read(project: Project) -> None:
    written(project, STARTED, ended("finished"))
    project.job.chmod(0o500)
    project.folder.chmod(0o500)
    try:
        assert state(project).phase == "finished"
    finally:
        project.folder.chmod(0o700)
        project.job.chmod(0o700)


def test_a_folder_that_refuses_is_told(project: Project) -> None:
    project.job.write_text("in the way")
    with pytest.raises(ProjectError, match="cannot be written to"):
        start(project, [])
    with pytest.raises(ProjectError, match="cannot be written to"), recorded(project, "sift", Progress()):
        pass


def test_the_last_words_of_a_dead_run_are_told_as_text(project: Project) -> None:
    written(project, STARTED)
    (project.job / "output.txt").write_bytes(b"x" * 5_000 + b"\nfirst\n\n\x1b[31msecond\n")
    found = state(project)
    assert found.message.endswith(r"first · \x1b[31msecond")
    assert len(found.message) < 800


def test_a_look_is_cheap(project: Project) -> None:
    epochs = [{"event": "epoch", "epoch": n, "loss": 0.1, "accuracy": 0.9} for n in range(60)]
    written(project, STARTED, PLAN, *epochs, ended("finished"))
    begin = time.perf_counter()
    for _ in range(20):
        assert len(state(project).curve) == 60
    assert (time.perf_counter() - begin) / 20 < 0.1  # 0.5 ms without the checks of the test run


def test_a_run_of_python_code_is_seen_and_not_stopped_from_here(project: Project) -> None:
    written(project, STARTED, ended("finished"))
    with project.lock():
        assert (state(project).phase, state(project).kind) == ("running", "python")
        with pytest.raises(ProjectError, match="Another run is working on"):
            start(project, [])
        with pytest.raises(ProjectError, match="started from Python code"):
            stop(project)
    assert state(project).phase == "finished"


# --- recording --------------------------------------------------------------------------------------------------------


def test_what_is_reported_is_written_down_and_passed_on(project: Project) -> None:
    heard, said = list[Event](), list[str]()
    with recorded(project, "sift", Progress(heard.append, note=said.append)) as run:
        assert state(project).phase == "running"
        run.tell(device="cpu", precision="float32")
        run.plan(KEYS)
        run.note("36 images")
        run.ended("thumbs")
        for epoch in (1, 2):
            for batch in (1, 2, 3):
                run.report("training", 30 * (epoch - 1) + 10 * batch, 60, "images", epoch=epoch, epochs=2,
                           loss=1 / epoch + batch, accuracy=0.25 * epoch)  # fmt: skip
        run.gauge(lambda: 77)
    assert [event.done for event in heard] == [10, 20, 30, 40, 50, 60]
    assert said == ["36 images"]
    found = state(project)
    assert (found.phase, found.kind, found.device, found.precision) == ("finished", "sift", "cpu", "float32")
    assert found.curve == ({"epoch": 1, "loss": 4.0, "accuracy": 0.25}, {"epoch": 2, "loss": 3.5, "accuracy": 0.5})
    assert found.notes == ("36 images",)
    assert (found.done, found.total, found.device_memory_mb) == (60, 60, 77)
    assert found.memory_mb is not None
    assert 10 < found.memory_mb < 100_000
    assert found.settings == project.config.settings.as_dict()
    assert found.started_at is not None
    assert found.ended_at is not None
    assert found.ended_at >= found.started_at
    assert not project.busy


def test_the_rate_is_of_this_run_and_of_this_stage(project: Project) -> None:
    with recorded(project, "sift", Progress()) as run:
        run.report("reading", 900, 1_000, "images")
        run.report("training", 500, 1_000, "images")  # a training that goes on does not start at 0
        time.sleep(1.1 * jobs.BEAT)
        run.report("training", 510, 1_000, "images")
        now = until(project, lambda now: now.rate is not None)
    assert now.rate is not None
    assert now.seconds_left is not None
    assert 0 < now.rate <= 10 / jobs.BEAT
    assert now.seconds_left == pytest.approx(490 / now.rate)


def test_an_accelerator_that_does_not_answer_is_left_out(project: Project) -> None:
    def broken() -> int:
        raise RuntimeError("driver")

    with recorded(project, "sift", Progress()) as run:
        run.gauge(broken)
    assert (state(project).phase, state(project).device_memory_mb) == ("finished", None)


def test_a_stage_is_done_when_its_folder_is_whole(project: Project) -> None:
    with recorded(project, "sift", Progress()) as run:
        run.plan(KEYS)
        run.ended("thumbs")
        with project.stages.write("pixels", "k1"):
            run.report("pixels", 5, 5, "images")
            assert [status for _, status, _ in state(project).stages[:3]] == ["done", "running", "waiting"]
        until(project, lambda now: [status for _, status, _ in now.stages[:3]] == ["done", "done", "running"])
        until(project, lambda now: now.stage == "features")  # no longer the pixels that were reported last
    with recorded(project, "sift", Progress()) as run:
        run.plan(KEYS)
        assert state(project).stages[1] == ("pixels", "done", 0)


@pytest.mark.parametrize(
    ("error", "phase", "message"),
    [
        (Stopped("Stopped during map."), "stopped", "Stopped during map."),
        (KeyboardInterrupt(), "stopped", "Stopped. What is on disk is whole."),
        (ModelError("Training gave\na loss of nan."), "failed", "Training gave a loss of nan."),
        (OSError(5, "Input/output error"), "failed",
         "[Errno 5] Input/output error. What is on disk is whole; mend the cause and run again."),
        (ZeroDivisionError("oh"), "failed", "Something went wrong inside GradSift (ZeroDivisionError: oh). "
         "See job/output.txt."),
    ],
)  # fmt: skip
def test_how_it_ended(error: BaseException, phase: str, message: str, project: Project) -> None:
    with pytest.raises(type(error)), recorded(project, "sift", Progress()):
        raise error
    assert (state(project).phase, state(project).message) == (phase, message)
    if isinstance(error, ZeroDivisionError):
        assert "raise error" in (project.job / "output.txt").read_text()
    with recorded(project, "sift", Progress()):
        assert state(project).phase == "running"
    assert (state(project).phase, state(project).message) == ("finished", "")
    assert not (project.job / "output.txt").exists()


def test_a_run_that_finds_no_room_says_so(project: Project) -> None:
    with pytest.raises(ShortageError), recorded(project, "sift", Progress()):
        raise OSError(28, "No space left")
    now = state(project)
    assert (now.phase, now.message.split(".")[0]) == ("failed", "The disk is full")
    assert "the same command goes on" in now.message


def test_the_stop_file_stops_this_run_and_no_other(project: Project) -> None:
    project.job.mkdir()
    (project.job / "stop").write_text("an old run")

    def work() -> None:
        with recorded(project, "sift", Progress()) as run:
            run.report("scores", 1, 3, "scores")
            stop(project)
            assert state(project).phase == "stopping"
            time.sleep(jobs.GLANCE)
            run.report("scores", 2, 3, "scores")

    with pytest.raises(Stopped, match="Stopped during scores at 2 of 3"):
        work()
    assert state(project).phase == "stopped"
    with recorded(project, "sift", Progress()) as run:
        run.report("scores", 3, 3, "scores")


def test_a_second_run_is_refused_and_leaves_the_first_ones_words_alone(project: Project) -> None:
    with recorded(project, "sift", Progress()) as run:
        run.note("mine")
        before = (project.job / "events.jsonl").read_bytes()
        with pytest.raises(ProjectError, match="Another run is working on"), recorded(project, "sift", Progress()):
            pass
        with pytest.raises(ProjectError, match="Another run is working on"):
            start(project, [])
        assert (project.job / "events.jsonl").read_bytes() == before
        assert state(project).phase == "running"


def test_the_curve_of_a_training_that_goes_on_is_kept_and_of_another_is_not(project: Project) -> None:
    def epochs_after(keys: dict[str, str], epoch: int) -> list[int]:
        with recorded(project, "sift", Progress()) as run:
            run.plan(keys)
            run.report("training", epoch * 10, 40, "images", epoch=epoch, epochs=4, loss=1.0, accuracy=0.5)
        return [int(entry["epoch"]) for entry in state(project).curve]

    assert epochs_after(KEYS, 1) == [1]
    assert epochs_after(KEYS, 2) == [1, 2]
    assert epochs_after({**KEYS, "scores": "other"}, 3) == [1, 2, 3]
    assert epochs_after({**KEYS, "features": "other"}, 1) == [1]


def test_stages_that_share_a_folders_name_are_known_by_their_titles(project: Project) -> None:
    keys = {"as given, seed 0": "k0", "as given, seed 1": "k1", "decided, seed 0": "k2"}
    (project.folder / "stages" / "retrain-k1").mkdir()
    with recorded(project, "verify", Progress()) as run:
        run.plan(keys, of="retrain", done=("as given, seed 0",))
        assert [status for _, status, _ in state(project).stages] == ["done", "done", "running"]
        (project.folder / "stages" / "retrain-k2").mkdir()
        run.report("something else", 1, 2, "images")
        assert [status for _, status, _ in state(project).stages] == ["done"] * 3
    assert [name for name, _, _ in state(project).stages] == list(keys)
    assert state(project).kind == "verify"


def test_the_curve_is_that_of_the_latest_training(project: Project) -> None:
    def train(title: str, epochs: int) -> None:
        for epoch in range(1, epochs + 1):
            run.report(title, epoch, 3, "images", epoch=epoch, epochs=3, loss=float(epoch), accuracy=0.5)

    with recorded(project, "verify", Progress()) as run:
        train("as given, seed 0", 3)
        assert [entry["epoch"] for entry in state(project).curve] == [1, 2, 3]
        train("decided, seed 0", 2)
        assert [entry["epoch"] for entry in state(project).curve] == [1, 2]
    told = read_events((project.job / "events.jsonl").read_text())
    assert [event["training"] for event in told if event["event"] == "epoch"] == [
        *["as given, seed 0"] * 3, *["decided, seed 0"] * 2
    ]  # fmt: skip


def test_another_command_is_started_watched_and_told_by_its_kind(project: Project) -> None:
    start(project, ["--full"], "verify")
    assert state(project).kind == "verify"
    now = until(project, lambda now: not now.running)
    assert (now.phase, now.kind) == ("failed", "verify")
    assert "Nothing to compare" in now.message


def test_handlers_and_threads_are_left_as_found(project: Project) -> None:
    before = (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGHUP), threading.active_count())
    with recorded(project, "sift", Progress()):
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGHUP), threading.active_count()) == before


def test_a_disk_that_refuses_words_does_not_end_the_work(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with recorded(project, "sift", Progress()) as run:
        monkeypatch.setattr("core.jobs.record.replace_file", full)
        for done in range(3):
            run.report("scores", done, 3, "scores")
            time.sleep(0.02)
    assert state(project).phase == "finished"


# --- processes --------------------------------------------------------------------------------------------------------


def test_start_watch_stop_within_a_batch_and_go_on(project: Project) -> None:
    start(project, LONG)
    assert state(project).phase == "starting"
    with pytest.raises(ProjectError, match="Another run is working on .*Wait for it, or stop it first"):
        start(project, LONG)
    now = until(project, training)
    assert now.device == "cpu"
    assert now.settings["epochs"] == 400
    assert {name: status for name, status, _ in now.stages}["features"] == "running"
    seen = json.loads(gradsift("status", project.folder, "--json", cwd=project.folder).stdout)
    assert (seen["running"], seen["run"]["phase"], seen["run"]["stage"]) == (True, "running", "training")
    assert process_of(project) != os.getpid()
    assert os.getsid(process_of(project)) == process_of(project)  # no signal to our group reaches it
    begin = time.monotonic()
    stop(project)
    stopped = until(project, lambda now: not now.running)
    assert time.monotonic() - begin < 10
    assert (stopped.phase, stopped.message.split(" at ")[0]) == ("stopped", "Stopped during training")
    assert not project.busy
    done = len(stopped.curve)
    start(project, LONG)
    again = until(project, lambda now: len(now.curve) > done)
    assert [entry["epoch"] for entry in again.curve] == list(range(1, len(again.curve) + 1))
    assert again.curve[: done - 1] == stopped.curve[: done - 1]


def test_killed_it_has_died_and_a_new_start_finishes(project: Project) -> None:
    flags = [*QUICK, "--epochs", "25"]
    start(project, flags)
    now = until(project, training)
    os.kill(process_of(project), signal.SIGKILL)
    died = until(project, lambda now: not now.running, seconds=5)
    assert (died.phase, died.run) == ("died", now.run)
    assert died.message.startswith("Its last words: ")
    start(project, flags)
    finished = until(project, lambda now: not now.running)
    assert finished.phase == "finished", finished
    assert [entry["epoch"] for entry in finished.curve] == list(range(1, 26))
    assert {status for _, status, _ in finished.stages} == {"done"}
    assert Project.open(project.folder).findings().curves.shape == (25, 40)
    assert "flagged" in (project.job / "output.txt").read_text()


def test_a_failed_run_says_what_the_command_line_says(project: Project) -> None:
    start(project, ["--image-size", "3"])
    failed = until(project, lambda now: not now.running)
    assert (failed.phase, failed.message) == ("failed", "image_size is 3; give a whole number from 8 to 512.")
    printed = (project.job / "output.txt").read_text()
    assert printed.splitlines()[-1] == f"gradsift: {failed.message}"


def test_a_process_that_cannot_begin_is_told_at_once(project: Project) -> None:
    start(project, ["--moon"])
    failed = until(project, lambda now: not now.running)
    assert failed.phase == "failed"
    assert "unrecognized arguments: --moon" in failed.message


def test_it_outlives_its_starter_and_is_seen_from_anywhere(project: Project) -> None:
    program = (
        "import sys; from core.jobs import start; from core.project import Project;"
        "start(Project.open(sys.argv[1]), sys.argv[2:])"
    )
    subprocess.run([sys.executable, "-P", "-c", program, project.folder, *LONG], env=environment(), check=True)
    assert training(until(project, training))
    stop(project)
    assert until(project, lambda now: not now.running).phase == "stopped"


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGHUP])
def test_a_run_of_a_terminal_is_seen_and_a_signal_stops_it(kind: signal.Signals, project: Project) -> None:
    with subprocess.Popen(
        command("sift", project.folder, *LONG), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        until(project, lambda now: len(now.curve) >= 3)
        process.send_signal(kind)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 130
        assert errors.decode().splitlines()[-1].startswith("gradsift: Stopped.")
    assert state(project).phase == "stopped"


def test_looking_never_breaks_a_start(project: Project) -> None:
    """Many looks, each of which takes the locks for an instant, and many starts."""
    over, failed = threading.Event(), list[BaseException]()

    def look() -> None:
        while not over.is_set():
            try:
                state(project)
                _ = project.busy
            except BaseException as error:
                failed.append(error)

    lookers = [threading.Thread(target=look) for _ in range(4)]
    for looker in lookers:
        looker.start()
    try:
        for _ in range(60):
            with recorded(project, "sift", Progress()), project.lock():
                assert state(project).phase == "running"
            assert state(project).phase == "finished"
    finally:
        over.set()
        for looker in lookers:
            looker.join()
    assert not failed


# --- short commands ---------------------------------------------------------------------------------------------------


def test_ask_answers_in_json(project: Project) -> None:
    asking = ask(["status", str(project.folder), "--json"])
    assert asking.poll() is None
    answer = asking.wait(60)
    assert isinstance(answer, dict)
    assert answer["images"] == 40
    assert asking.poll() == answer
    assert asking.said == ""


def test_ask_makes_a_project_and_tells_what_is_wrong(project: Project, tmp_path: Path) -> None:
    spec = project.config.source_spec
    made = ask(["new", str(tmp_path / "new"), "--source", spec, "--json"]).wait(60)
    assert isinstance(made, dict)
    assert made["images"] == 40
    again = ask(["new", str(tmp_path / "new"), "--source", spec, "--json"]).wait(60)
    assert isinstance(again, str)
    assert again.endswith("exists and is not empty. Choose another folder, or delete it first.")
    assert not again.startswith("gradsift")


def test_ask_gives_up_in_time_and_may_be_ended(project: Project) -> None:
    late = ask(["status", str(project.folder), "--json"], timeout=0.05).wait(30)
    assert late == "No answer within 0.1 s."
    asking = ask(["sift", str(project.folder), "--dry-run", "--json"])
    asking.cancel()
    assert asking.wait(30) == "The command ended with -9."
