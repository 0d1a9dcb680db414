"""What a recorder keeps in a project: whole epochs of one training, whatever happens to loop, disk or files."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from core.data.manifest import Manifest
from core.errors import InputError, ProjectError
from core.models import record
from core.models.recorder import History, Recorder, kept, recorded
from core.project import Project

IDS = [f"s{i}" for i in range(7)]
LABELS = np.array([0, 1, 2, 0, 1, 2, 0])
TRAIN = np.arange(7) != 3
CLASSES = ("cat", "dog", "fox")


def same(one: History, other: History) -> None:
    for name, array in one.arrays().items():
        np.testing.assert_array_equal(array, other.arrays()[name], err_msg=name)


def project_in(folder: Path, ids: Sequence[str] = IDS) -> Any:
    """What a recorder needs of a project."""
    manifest = SimpleNamespace(ids=np.array(ids, dtype=object), labels=LABELS, train=TRAIN, classes=CLASSES)
    return SimpleNamespace(manifest=lambda: manifest, recorded=folder / "recorded")


def log_epoch(recorder: Recorder, epoch: int, rows: Sequence[int] = range(7), seed: int = 0) -> np.ndarray:
    """Log some rows in two batches; return the logits of all."""
    rng = np.random.default_rng([seed, epoch])
    logits, inputs = rng.normal(0, 2, (7, 3)).astype(np.float32), rng.normal(0, 1, (7, 4)).astype(np.float32)
    for part in np.array_split(np.asarray(rows), 2):
        ids = [IDS[row] for row in part]
        recorder.log(ids, logits[part], LABELS[part], epoch, inputs=inputs[part], rate=0.1)
    return logits


def test_a_project_gives_its_own_order(tmp_path: Path) -> None:
    recorder = Recorder(project_in(tmp_path, IDS[::-1]))
    recorder.log(["s5"], np.array([[0.0, 5.0, 0.0]]), np.array([1]), 0)
    assert np.flatnonzero(np.isfinite(recorder.history().given_logit[0])).tolist() == [1]
    assert recorder.history().given_logit[0, 1] == 5


def test_what_a_project_keeps_is_what_the_recorder_holds(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    with Recorder(project) as recorder:
        logits = [log_epoch(recorder, epoch) for epoch in range(3)]
    history, last, inputs = recorded(project)
    same(history, recorder.history())
    np.testing.assert_array_equal(last, logits[-1])
    assert inputs is not None
    np.testing.assert_allclose(np.sqrt((inputs**2).sum(1) + 1), history.input_norm[-1], rtol=1e-6)
    assert sorted(path.name for path in project.recorded.iterdir()) == [
        *(f"epoch-{epoch:04d}-1-0.npz" for epoch in range(3)), "inputs-1.npy", "logits-1.npy",
    ]  # fmt: skip


def test_an_epoch_is_on_disk_once_every_training_row_was_logged(tmp_path: Path) -> None:
    """Without `save` and without `with`: the last epoch is not lost, and a half one does not count."""
    project = project_in(tmp_path)
    recorder = Recorder(project)
    log_epoch(recorder, 0, np.flatnonzero(TRAIN))
    log_epoch(recorder, 1, [0, 1, 2])
    assert len(recorded(project).history.learning_rate) == 1
    last = log_epoch(recorder, 1, [6, 5, 4])
    assert len(recorded(project).history.learning_rate) == 2
    assert recorded(project).logged.tolist() == TRAIN.tolist()
    log_epoch(recorder, 1, [3])
    assert np.isfinite(recorded(project).history.given_logit[1, 3])
    np.testing.assert_array_equal(recorded(project).logits, last)


def test_batches_of_a_later_epoch_finish_the_one_before(tmp_path: Path) -> None:
    """A loader that drops its last batch never shows all rows: what a sample said last is kept."""
    project = project_in(tmp_path)
    recorder = Recorder(project)
    first = log_epoch(recorder, 0, [0, 1, 2, 4, 5])
    second = log_epoch(recorder, 1, [6, 5, 4, 2, 1])
    recorder.save()
    history, last, _ = recorded(project)
    assert np.isnan(history.given_logit[:, 3]).all()
    assert np.isnan(history.given_logit[1, 0])
    np.testing.assert_array_equal(last[0], first[0])
    np.testing.assert_array_equal(last[1], second[1])


def test_a_loop_that_breaks_off_keeps_its_finished_epochs(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    recorder = Recorder(project)

    def loop() -> None:
        with recorder:
            log_epoch(recorder, 0)
            log_epoch(recorder, 1)
            log_epoch(recorder, 2, [0, 1, 2])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop()
    assert len(recorded(project).history.learning_rate) == 2
    same(recorded(project).history, recorder.history().first(2))


def test_a_training_that_goes_on_from_a_checkpoint_goes_on_here(tmp_path: Path) -> None:
    whole, broken = project_in(tmp_path / "whole"), project_in(tmp_path / "broken")
    with Recorder(whole) as recorder:
        for epoch in range(4):
            log_epoch(recorder, epoch)
    with Recorder(broken) as recorder:
        for epoch in range(3):
            log_epoch(recorder, epoch)
    with Recorder(broken) as recorder:  # back to the checkpoint after epoch 1
        for epoch in range(2, 4):
            log_epoch(recorder, epoch)
        same(recorder.history(), recorded(whole).history)
    same(recorded(broken).history, recorded(whole).history)
    np.testing.assert_array_equal(recorded(broken).logits, recorded(whole).logits)


def test_a_new_training_replaces_the_old_one_once_its_first_epoch_is_whole(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    with Recorder(project) as recorder:
        for epoch in range(3):
            log_epoch(recorder, epoch)
    before = recorded(project).history
    again = Recorder(project)
    log_epoch(again, 0, [0, 1, 2], seed=1)
    same(recorded(project).history, before)
    log_epoch(again, 0, [4, 5, 6, 3], seed=1)
    same(recorded(project).history, again.history())
    assert len(again.history().learning_rate) == 1
    assert not list(project.recorded.glob("*-1*"))


@pytest.mark.parametrize("write", range(4))  # inputs and logits, the epoch, and after it the clearing
@pytest.mark.parametrize("training", ["first", "new", "going on"])
def test_a_kill_at_any_write_leaves_whole_epochs_of_one_training(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, write: int, training: str
) -> None:
    class Killed(BaseException):
        pass

    project = project_in(tmp_path)
    if training != "first":
        with Recorder(project) as recorder:
            for epoch in range(2):
                log_epoch(recorder, epoch, seed=5)
    before = recorded(project).history if training != "first" else None
    begin = 2 if training == "going on" else 0
    honest, count = record.write_whole, iter(range(100))

    def killing(path: Path, content: Any) -> None:
        if next(count) == write:
            path.with_name(f".{path.name}.part").write_bytes(b"half")
            raise Killed
        honest(path, content)

    monkeypatch.setattr(record, "write_whole", killing)
    recorder = Recorder(project)

    def loop() -> None:
        for epoch in range(begin, 4):
            log_epoch(recorder, epoch, seed=6)

    with pytest.raises(Killed):
        loop()
    monkeypatch.setattr(record, "write_whole", honest)
    if write < 3:  # no epoch of this session was finished
        if before is None:
            with pytest.raises(InputError, match="Nothing was recorded"):
                recorded(project)
        else:
            same(recorded(project).history, before)
    else:
        same(recorded(project).history, recorder.history().first(begin + 1))
    with Recorder(project) as recorder:
        log_epoch(recorder, begin, seed=6)
    assert not list(project.recorded.glob(".*"))
    assert len(recorded(project).history.learning_rate) == begin + 1


def test_a_full_disk_ends_no_training_and_loses_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    project, honest = project_in(tmp_path), record.write_whole

    def full(path: Path, _: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    recorder = Recorder(project)
    log_epoch(recorder, 0)
    monkeypatch.setattr(record, "write_whole", full)
    with pytest.warns(RuntimeWarning, match="No space left .* kept in memory"):
        log_epoch(recorder, 1)
    assert len(recorded(project).history.learning_rate) == 1
    with pytest.raises(ProjectError, match="No space left .* call save\\(\\) again"):
        recorder.save()
    monkeypatch.setattr(record, "write_whole", honest)
    log_epoch(recorder, 2)
    same(recorded(project).history, recorder.history())
    assert len(recorder.history().learning_rate) == 3


def test_no_room_for_the_logits_is_told_at_the_first_batch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(ProjectError, match="no room for .* MB of logits .*No space left"):
        log_epoch(Recorder(project_in(tmp_path)), 0)


def test_the_digest_changes_with_every_epoch_and_with_nothing_else(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    assert kept(project) == ("", False)
    recorder, digests = Recorder(project), []
    for epoch in range(3):
        log_epoch(recorder, epoch)
        digests.append(kept(project))
    assert kept(project) == digests[-1]
    assert len(set(digests)) == 3
    assert all(inputs for _, inputs in digests)


def test_epochs_counted_from_one_leave_no_empty_one(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    with Recorder(project) as recorder:
        log_epoch(recorder, 1)
        log_epoch(recorder, 2)
    assert np.isfinite(recorded(project).history.given_logit).all()
    assert recorded(project).history.given_logit.shape == (2, 7)


def test_a_recorded_project_refuses_what_is_not_its_own(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    recorder = Recorder(project)
    with pytest.raises(InputError, match="Sample 's1' has label 1 in the project and 2 was logged.*cat, dog, fox"):
        recorder.log(["s0", "s1"], np.zeros((2, 3)), np.array([0, 2]), 0)
    with pytest.raises(InputError, match="Logits of 4 classes were logged, and the project has 3: cat, dog, fox"):
        recorder.log(["s0"], np.zeros((1, 4)), np.array([0]), 0)
    with pytest.raises(InputError, match="Nothing was recorded"):
        recorded(project)
    log_epoch(recorder, 0)
    with pytest.raises(InputError, match="recorded for other samples"):
        recorded(project_in(tmp_path, IDS[::-1]))
    with pytest.raises(InputError, match=r"made of ids.*Recorder\(project\)"):
        Recorder(IDS).save()


def test_training_rows_that_were_never_logged_are_told(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    with Recorder(project) as recorder:
        log_epoch(recorder, 0, [0, 1, 2, 4])
    with pytest.raises(InputError, match="2 of 6 training rows were never logged .the first: 's5'"):
        recorded(project)


def test_a_training_that_diverges_is_told_and_keeps_its_finished_epochs(tmp_path: Path) -> None:
    project = project_in(tmp_path)

    def loop() -> None:
        with Recorder(project) as recorder:
            log_epoch(recorder, 0)
            recorder.log(["s0", "s1"], np.array([[0, 1, 2], [np.nan, 1, 2]]), np.array([0, 1]), 1)

    with pytest.raises(InputError, match="The logits of sample 's1' in epoch 1 are not finite: the training has div"):
        loop()
    assert recorded(project).history.given_logit.shape == (1, 7)


def test_logits_on_disk_that_are_not_finite_are_told(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    with Recorder(project) as recorder:
        logits = log_epoch(recorder, 0)
    logits[1, 0] = np.nan
    np.save(project.recorded / "logits-1.npy", logits)
    with pytest.raises(InputError, match="logits of 1 samples are not finite .the first: 's1'"):
        recorded(project)


@pytest.mark.parametrize("name", ["epoch-0000-1-0.npz", "logits-1.npy", "inputs-1.npy"])
@pytest.mark.parametrize("content", [b"", b"hello" * 50])
def test_a_damaged_record_is_told_with_what_to_do(tmp_path: Path, name: str, content: bytes) -> None:
    project = project_in(tmp_path)
    with Recorder(project) as recorder:
        log_epoch(recorder, 0)
    (project.recorded / name).write_bytes(content)
    with pytest.raises(ProjectError, match=f"{name} cannot be read .* Delete "):
        recorded(project)


def test_nothing_of_a_record_is_ever_unpickled(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    with Recorder(project) as recorder:
        log_epoch(recorder, 0)
    np.save(project.recorded / "logits-1.npy", np.array([object()] * 7), allow_pickle=True)
    with pytest.raises(ProjectError, match="logits-1.npy cannot be read"):
        recorded(project)


def test_a_real_project(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "digits", Manifest.read("digits", limit=40))
    manifest = project.manifest()
    with Recorder(project) as recorder:
        recorder.log(list(manifest.ids), 5 * np.eye(10)[manifest.labels], manifest.labels, 0)
    assert recorded(project).history.correct.all()
    assert recorded(project).inputs is None
    assert kept(project)[1] is False
