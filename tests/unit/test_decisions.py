from __future__ import annotations

import gc
import json
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from core.errors import DecisionError, ProjectError
from core.review.decisions import Review
from core.review.log import DecisionLog
from tests.fake_project import FakeProject, manifest_rows

IDS = ["a.png", "b.png", "c.png", "held.png"]  # given cat, dog, fox, cat


@pytest.fixture
def project(tmp_path: Path) -> FakeProject:
    return FakeProject(tmp_path, manifest_rows(IDS, splits=["train", "train", "train", "val"]))


@pytest.fixture
def review(project: FakeProject) -> Review:
    return Review(project, reviewer="ann")


def actions(review: Review) -> dict[str, str]:
    return dict(review.current()["action"])


def test_a_decision_is_kept_with_who_when_what_and_why(review: Review, project: FakeProject) -> None:
    review.decide(["a.png"], "relabel", label="dog", note="floppy ears")
    row = Review(project, reviewer="bob").current().loc["a.png"]
    assert (row["action"], row["final_label"], row["reviewer"], row["note"]) == ("relabel", "dog", "ann", "floppy ears")
    assert pd.Timestamp(row["decided_at"]).tzinfo is not None


def test_without_decisions_there_is_nothing_and_no_file(review: Review, project: FakeProject) -> None:
    assert review.current().empty
    assert list(review.current().columns) == ["action", "final_label", "reviewer", "decided_at", "note"]
    assert (review.history(), review.batches(), review.to_jsonl()) == ([], [], [])
    assert not project.review_path.exists()


def test_the_latest_decision_holds_and_undecided_clears(review: Review, project: FakeProject) -> None:
    review.decide("a.png", "exclude")
    review.decide("b.png", "keep")
    Review(project, reviewer="bob").decide("a.png", "keep")
    assert actions(review) == {"b.png": "keep", "a.png": "keep"}
    assert list(review.current().index) == ["b.png", "a.png"]  # in the order of the last decisions
    review.decide("a.png", "undecided")
    assert actions(review) == {"b.png": "keep"}
    review.undo()
    assert actions(review) == {"b.png": "keep", "a.png": "keep"}


def test_one_call_is_one_step_of_undo(review: Review) -> None:
    review.decide(["a.png", "b.png", "a.png"], "exclude")
    second = review.decide_many(
        [{"sample_id": "a.png", "action": "keep"}, {"sample_id": "c.png", "action": "relabel", "label": "cat"}]
    )
    assert actions(review) == {"b.png": "exclude", "a.png": "keep", "c.png": "relabel"}
    assert review.undo() == second
    assert actions(review) == {"a.png": "exclude", "b.png": "exclude"}
    assert [batch["decisions"] for batch in review.batches()] == [2, 2]
    assert [batch["in_effect"] for batch in review.batches()] == [False, True]
    assert review.batches()[0]["actions"] == ["keep", "relabel"]


def test_undo_and_redo_go_to_any_depth_and_survive_reopening(review: Review, project: FakeProject) -> None:
    states = [actions(review)]
    for sample, action in (("a.png", "exclude"), ("a.png", "keep"), ("b.png", "unsure")):
        review.decide(sample, action)
        states.append(actions(review))
    for state in reversed(states[:-1]):
        Review(project, reviewer="ann").undo()
        assert actions(review) == state
    with pytest.raises(DecisionError, match="nothing to undo for 'ann'"):
        review.undo()
    for state in states[1:]:
        Review(project, reviewer="ann").redo()
        assert actions(review) == state
    with pytest.raises(DecisionError, match="nothing to redo for 'ann'"):
        review.redo()


def test_a_new_decision_ends_redo_and_others_are_left_alone(review: Review, project: FakeProject) -> None:
    bob = Review(project, reviewer="bob")
    bob.decide("b.png", "keep")
    review.decide("a.png", "exclude")
    review.undo()
    bob.decide("c.png", "keep")
    review.redo()  # bob's decision is not ann's
    assert actions(review)["a.png"] == "exclude"
    review.undo()
    review.decide("a.png", "unsure")
    with pytest.raises(DecisionError, match="nothing to redo"):
        review.redo()
    review.undo()
    with pytest.raises(DecisionError, match="nothing to undo for 'ann'"):
        review.undo()
    assert actions(review) == {"b.png": "keep", "c.png": "keep"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ids": ["nope", "no", "n", "x"], "action": "keep"}, r"4 of 4 .*'nope', 'no', 'n' and 1 more: unknown sample"),
        ({"ids": ["a.png", "nope"], "action": "keep"}, r"1 of 2 .* so none was\. 'nope': unknown sample"),
        ({"ids": ["a.png"], "action": "delete"}, r"unknown action 'delete'\. Choose from undecided, keep, relabel"),
        (
            {"ids": ["a.png"], "action": "relabel"},
            r"relabel needs a class as label, got None\. Choose from 'cat', 'dog'",
        ),
        ({"ids": ["a.png"], "action": "relabel", "label": "dgo"}, r"got 'dgo'"),
        ({"ids": ["a.png"], "action": "relabel", "label": "cat"}, r"'cat' is the given label\. Use keep"),
        ({"ids": ["a.png"], "action": "keep", "label": "cat"}, r"goes with relabel only"),
        ({"ids": ["held.png"], "action": "keep"}, r"held-out rows are not reviewed here; make a project of their own"),
        ({"ids": [], "action": "keep"}, r"no decisions"),
        ({"ids": ["a.png"], "action": "keep", "events": ["1", "2"]}, r"2 event ids were given for 1 samples"),
        ({"ids": ["a.png"], "action": "keep", "note": "\ud800"}, r"half a character"),
    ],
)
def test_what_cannot_be_recorded_is_refused_whole(review: Review, given: dict[str, object], message: str) -> None:
    with pytest.raises(DecisionError, match=message):
        review.decide(**given)  # type: ignore[arg-type]
    assert review.history() == []


def test_an_empty_reviewer_is_refused(project: FakeProject) -> None:
    with pytest.raises(DecisionError, match="reviewer's name is empty"):
        Review(project, reviewer=" ")


def test_an_event_sent_twice_is_recorded_once(review: Review) -> None:
    batch = review.decide(["a.png", "b.png"], "exclude", events=["1", "2"])
    assert review.decide(["a.png", "b.png"], "exclude", events=["1", "2"]) == batch
    assert len(review.history()) == 2
    review.decide(["b.png", "c.png"], "exclude", events=["2", "3"])
    assert [row["event_id"] for row in review.history()] == ["1", "2", "3"]
    with pytest.raises(
        DecisionError, match=r"'1' is already recorded as exclude of 'a.png', now it says keep of 'a.png'"
    ):
        review.decide("a.png", "keep", events=["1"])


def test_an_undo_sent_twice_undoes_once(review: Review) -> None:
    review.decide("a.png", "exclude")
    review.decide("b.png", "exclude")
    assert review.undo(event_id="u") == review.undo(event_id="u")
    assert actions(review) == {"a.png": "exclude"}
    assert review.redo(event_id="r") == review.redo(event_id="r")
    assert actions(review) == {"a.png": "exclude", "b.png": "exclude"}
    with pytest.raises(DecisionError, match="'u' is already recorded as undo"):
        review.redo(event_id="u")


def test_a_sent_again_decision_does_not_end_redo(review: Review) -> None:
    review.decide("a.png", "exclude", events=["1"])
    review.decide("b.png", "exclude", events=["2"])
    review.undo()
    review.decide("a.png", "exclude", events=["1"])
    review.redo()
    assert actions(review) == {"a.png": "exclude", "b.png": "exclude"}


def test_rows_of_a_file_may_hold_nan_empty_text_and_more_columns(review: Review) -> None:
    review.decide_many(
        [
            {
                "sample_id": "a.png",
                "action": "keep",
                "label": float("nan"),
                "note": "",
                "filepath": "x",
                "suspicion": 9,
            },
            {"sample_id": "b.png", "action": "relabel", "label": "fox", "note": pd.NA, "suspicion": float("nan")},
        ]
    )
    assert [row["suspicion"] for row in review.history()] == [9.0, None]
    assert review.current()["note"].isna().all()


def test_history_of_a_sample_tells_what_still_holds(review: Review) -> None:
    review.decide("a.png", "exclude")
    review.decide("b.png", "exclude")
    review.undo()
    review.decide("a.png", "keep")
    review.undo()
    told = [(row["kind"], row["action"], row["in_effect"]) for row in review.history("a.png")]
    assert told == [("decide", "exclude", True), ("decide", "keep", False), ("undo", None, False)]


def test_the_log_as_lines_holds_every_event(review: Review) -> None:
    review.decide("a.png", "exclude", note="two\nlines “quoted”")
    review.undo()
    lines = [json.loads(line) for line in review.to_jsonl()]
    assert [(line["seq"], line["kind"]) for line in lines] == [(1, "decide"), (2, "undo")]
    assert lines[0]["note"] == "two\nlines “quoted”"
    assert lines[1]["target"] == lines[0]["batch"]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM log",
        "UPDATE log SET action = 'keep'",
        "INSERT OR REPLACE INTO log SELECT * FROM log",
        "INSERT OR REPLACE INTO log (event_id, batch, kind, sample_id, action, reviewer, decided_at) "
        "SELECT event_id, batch, kind, sample_id, 'keep', reviewer, decided_at FROM log",
    ],
)
def test_the_file_itself_only_grows(review: Review, project: FakeProject, statement: str) -> None:
    review.decide("a.png", "exclude")
    db = sqlite3.connect(project.review_path)
    with pytest.raises(sqlite3.IntegrityError, match="only grows"):
        db.execute(statement)
    db.close()
    assert actions(review) == {"a.png": "exclude"}


def test_reading_only_changes_nothing_and_leaves_nothing(review: Review, project: FakeProject) -> None:
    reader = Review(project, reviewer="eve", read_only=True)
    assert reader.current().empty
    with pytest.raises(DecisionError, match="opened for reading only"):
        reader.decide("a.png", "keep")
    assert list(project.folder.iterdir()) == []
    review.decide("a.png", "exclude")
    before = project.review_path.read_bytes()
    assert actions(reader) == {"a.png": "exclude"}
    with pytest.raises(DecisionError, match="opened for reading only"):
        reader.undo()
    assert list(project.folder.iterdir()) == [project.review_path]
    assert project.review_path.read_bytes() == before


def test_reading_only_sees_what_a_writer_has_open(review: Review, project: FakeProject) -> None:
    review.decide("a.png", "exclude")
    db = sqlite3.connect(project.review_path)
    db.execute("SELECT COUNT(*) FROM log").fetchone()  # keeps the write-ahead file alive
    review.decide("b.png", "exclude")
    assert project.review_path.with_name("review.sqlite-wal").exists()
    assert len(Review(project, reviewer="eve", read_only=True).current()) == 2
    db.close()


@pytest.mark.parametrize("damage", ["text", "foreign", "newer", "cut"])
def test_a_file_that_is_no_log_is_refused_in_plain_words(review: Review, project: FakeProject, damage: str) -> None:
    path = project.review_path
    if damage == "text":
        path.write_text("not a database at all, but long enough to look like one " * 9)
    elif damage == "foreign":
        db = sqlite3.connect(path)
        db.execute("CREATE TABLE log (x)")
        db.close()
    else:
        for _ in range(40):
            review.decide(["a.png", "b.png"], "exclude", note="x" * 200)
    if damage == "newer":
        db = sqlite3.connect(path)
        db.execute("PRAGMA user_version = 99")
        db.close()
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:6000])
    words = {"foreign": "of another program", "newer": r"newer GradSift \(log version 99"}.get(damage, "damaged")
    for call in (review.current, lambda: review.decide("c.png", "keep")):
        with pytest.raises(ProjectError, match=words):
            call()


def test_an_empty_file_from_a_killed_start_is_a_fresh_log(review: Review, project: FakeProject) -> None:
    project.review_path.touch()
    assert review.current().empty
    review.decide("a.png", "keep")
    assert actions(review) == {"a.png": "keep"}


def test_a_busy_log_says_so_and_records_nothing(project: FakeProject) -> None:
    log = DecisionLog(project.review_path, timeout=0.05)
    log.append([{"sample_id": "a", "action": "keep"}], reviewer="ann")
    db = sqlite3.connect(project.review_path, isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    with pytest.raises(DecisionError, match=r"locked.*nothing was recorded.*try again"):
        log.append([{"sample_id": "b", "action": "keep"}], reviewer="ann")
    db.close()
    assert len(log.events()) == 1


def test_the_log_works_with_a_rollback_journal(review: Review, project: FakeProject) -> None:
    review.decide("a.png", "exclude")
    db = sqlite3.connect(project.review_path)
    assert db.execute("PRAGMA journal_mode = DELETE").fetchone()[0] == "delete"
    db.close()
    review.decide("b.png", "exclude")
    review.undo()
    assert actions(review) == {"a.png": "exclude"}
    assert list(project.folder.iterdir()) == [project.review_path]


def _record(path: Path, name: str, count: int) -> None:
    log = DecisionLog(path)
    for i in range(count):
        log.append([{"sample_id": f"{name}{i}", "action": "keep"}] * 2, reviewer=name)


def test_many_processes_start_and_write_one_log(tmp_path: Path) -> None:
    path = tmp_path / "review.sqlite"
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=_record, args=(path, name, 10)) for name in "abc"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    events = DecisionLog(path).events()
    assert len(events) == 60
    assert {row["sample_id"] for row in events} == {f"{name}{i}" for name in "abc" for i in range(10)}


def test_a_killed_writer_leaves_whole_batches_and_what_it_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "review.sqlite"
    code = (
        "import sys; from pathlib import Path; from core.review.log import DecisionLog\n"
        "log = DecisionLog(Path(sys.argv[1]))\n"
        "while True:\n"
        "    batch = log.append([{'sample_id': str(i), 'action': 'keep'} for i in range(500)], reviewer='ann')\n"
        "    print(batch, flush=True)\n"
    )
    for delay in (0.0, 0.013, 0.029):
        root = str(Path(__file__).parents[2])
        with subprocess.Popen(
            [sys.executable, "-P", "-c", code, str(path)],
            stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": root},
        ) as writer:  # fmt: skip
            assert writer.stdout is not None
            told = [writer.stdout.readline().strip()]
            time.sleep(delay)
            writer.send_signal(signal.SIGKILL)
            told += writer.stdout.read().split()
        sizes = {batch["batch"]: batch["decisions"] for batch in DecisionLog(path).batches(10_000)}
        assert set(sizes.values()) == {500}
        assert {batch for batch in told if len(batch) == 32} <= set(sizes)


def test_a_named_batch_is_one_step_and_takes_in_what_is_sent_later(review: Review) -> None:
    log = review.log
    assert log.append([{"sample_id": "a.png", "action": "keep"}], reviewer="ann", batch="p") == "p"
    assert log.append([{"sample_id": "b.png", "action": "keep"}], reviewer="ann", batch="p") == "p"
    assert [(row["batch"], row["decisions"]) for row in log.batches(9)] == [("p", 2)]
    assert review.undo() == "p"
    assert actions(review) == {}


def test_a_batch_of_another_reviewer_or_of_an_undo_is_not_taken_over(review: Review) -> None:
    log, event = review.log, {"sample_id": "a.png", "action": "keep"}
    log.append([event], reviewer="ann", batch="p")
    log.undo(reviewer="ann")
    taken = str(log.events()[-1]["batch"])
    for who, batch in (("bob", "p"), ("ann", taken)):
        with pytest.raises(DecisionError, match=f"Batch '{batch}' is taken by 'ann'"):
            log.append([event], reviewer=who, batch=batch)
    assert len(log.events()) == 2


def test_undo_and_redo_of_a_named_batch(review: Review) -> None:
    log = review.log
    for batch, sample in (("p", "a.png"), ("q", "b.png"), ("r", "c.png")):
        log.append([{"sample_id": sample, "action": "exclude"}], reviewer="ann", batch=batch)
    assert log.undo(reviewer="ann", target="p") == "p"
    assert log.undo(reviewer="ann", target="q", event_id="u") == "q"
    assert actions(review) == {"c.png": "exclude"}
    assert log.redo(reviewer="ann", target="p") == "p"
    assert log.redo(reviewer="ann") == "q"
    assert actions(review) == {"a.png": "exclude", "b.png": "exclude", "c.png": "exclude"}
    with pytest.raises(DecisionError, match="There is no batch 'x' to undo: it was not recorded"):
        log.undo(reviewer="ann", target="x")
    with pytest.raises(DecisionError, match="Batch 'p' is 'ann''s. Each person can undo their own only"):
        log.undo(reviewer="bob", target="p")
    with pytest.raises(DecisionError, match="'u' is already recorded as undo"):
        log.undo(reviewer="ann", target="p", event_id="u")


def test_a_newer_decision_ends_the_redo_of_a_named_batch(review: Review) -> None:
    log = review.log
    log.append([{"sample_id": "a.png", "action": "exclude"}], reviewer="ann", batch="p")
    log.undo(reviewer="ann", target="p")
    log.append([{"sample_id": "b.png", "action": "keep"}], reviewer="bob")
    log.redo(reviewer="ann", target="p")
    log.undo(reviewer="ann", target="p")
    log.append([{"sample_id": "b.png", "action": "keep"}], reviewer="ann")
    with pytest.raises(DecisionError, match="nothing to redo for 'ann': .* a newer one came since"):
        log.redo(reviewer="ann", target="p")


def test_several_calls_are_one_transaction_and_a_refused_one_leaves_the_others(review: Review) -> None:
    event = {"sample_id": "a.png", "action": "keep"}
    with review.log.writing() as writing:
        writing.append([event], reviewer="ann", batch="p")
        with pytest.raises(DecisionError, match="not recorded"):
            writing.undo(reviewer="ann", target="q")
        assert writing.undo(reviewer="ann", target="p") == "p"
    assert [row["kind"] for row in review.history()] == ["decide", "undo"]


def test_a_transaction_that_ends_in_an_error_leaves_nothing(review: Review) -> None:
    def stopped() -> None:
        with review.log.writing() as writing:
            writing.append([{"sample_id": "a.png", "action": "keep"}], reviewer="ann")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert review.history() == []


def test_the_last_answer_is_kept_until_anybody_decides(review: Review, project: FakeProject) -> None:
    review.decide("a.png", "keep")
    first = review.current()
    first.loc["a.png", "action"] = "exclude"  # the caller's own
    assert actions(review) == {"a.png": "keep"}
    marks = [review.log.mark()]
    Review(project, reviewer="bob").decide("b.png", "keep")
    marks.append(review.log.mark())
    assert actions(review) == {"a.png": "keep", "b.png": "keep"}
    review.undo()
    marks.append(review.log.mark())
    assert actions(review) == {"b.png": "keep"}
    assert len(set(marks)) == 3
    assert review.log.mark() == marks[-1]


def test_after_a_decision_only_what_is_new_is_read(
    review: Review, project: FakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    review.decide(["a.png", "b.png"], "keep")
    review.current()
    read: list[str] = []
    whole = DecisionLog.current
    monkeypatch.setattr(DecisionLog, "current", lambda log: read.append("whole") or whole(log))
    Review(project, reviewer="bob").decide("a.png", "exclude")
    assert list(review.current()["action"].items()) == [("b.png", "keep"), ("a.png", "exclude")]
    review.decide("b.png", "undecided")
    assert actions(review) == {"a.png": "exclude"}
    assert read == []
    review.undo()
    assert actions(review) == {"b.png": "keep", "a.png": "exclude"}
    assert read == ["whole"]


def test_another_log_in_the_place_of_the_first_is_read_anew(review: Review, tmp_path: Path) -> None:
    review.decide("a.png", "keep")
    review.current()
    (tmp_path / "other").mkdir()
    other = FakeProject(tmp_path / "other", manifest_rows(IDS))
    for name in ("b.png", "c.png"):
        Review(other, reviewer="bob").decide(name, "exclude")
    other.review_path.replace(review.log.path)
    assert actions(review) == {"b.png": "exclude", "c.png": "exclude"}


def test_a_log_that_stays_open_is_read_by_others_and_closed_with_its_owner(project: FakeProject) -> None:
    review = Review(project, reviewer="ann")
    review.log.stay_open()
    assert not project.review_path.exists()
    review.decide("a.png", "exclude")
    review.log.stay_open()
    review.log.stay_open()
    review.decide("b.png", "exclude")
    beside = project.review_path.with_name("review.sqlite-wal")
    assert beside.exists()
    assert len(Review(project, reviewer="eve", read_only=True).current()) == 2
    del review
    gc.collect()
    assert not beside.exists()
    assert len(Review(project, reviewer="eve").current()) == 2
