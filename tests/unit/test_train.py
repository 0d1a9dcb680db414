"""Training: the same bits after any stop, held-out rows without influence, pictures moved as they should be."""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from core import chance
from core.errors import ModelError, Stopped
from core.models import device, network
from core.models.network import reference_network
from core.models.recorder import History
from core.models.train import (
    Task,
    Trained,
    _Run,
    evaluate,
    network_after,
    planned_epochs,
    rate_and_momentum,
    shifted,
    tidy,
    train,
)
from core.progress import Event, Progress
from core.settings import SiftSettings

SETTINGS = SiftSettings(epochs=3, batch_size=8, learning_rate=0.05, device="cpu", precision="float32")
CPU = device.choose("cpu", "float32")
N = 20


def made(order: np.ndarray | None = None, flip: bool = True) -> Task:
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (N, 8, 8, 3)).astype(np.uint8), np.arange(N) % 2
    pixels[labels == 1, :4] //= 2
    order = np.arange(N) if order is None else order
    ids = tuple(f"s{row}" for row in order)
    return Task(ids, pixels[order], labels[order], (np.arange(N) % 5 != 0)[order], 2, flip)


def run(task: Task, folder: Path, settings: SiftSettings = SETTINGS, progress: Progress | None = None) -> Trained:
    folder.mkdir(exist_ok=True)
    return train(task, settings, CPU, folder, progress or Progress())


def outputs(trained: Trained, task: Task) -> np.ndarray:
    rows = np.arange(len(task.labels))
    return np.concatenate([logits for _, logits, _ in evaluate(trained.network, task, trained.statistics, CPU, rows)])


def same_bits(one: Trained, other: Trained) -> None:
    for name, array in one.history.arrays().items():
        np.testing.assert_array_equal(array, other.history.arrays()[name], err_msg=name)
    theirs = other.network.state_dict()
    for name, tensor in one.network.state_dict().items():
        assert torch.equal(tensor, theirs[name]), name


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trained, Path]:
    folder = tmp_path_factory.mktemp("undisturbed")
    return run(made(), folder), folder


def stopping(at: Callable[[Event], bool]) -> Progress:
    heard: list[Event] = []
    return Progress(heard.append, lambda: at(heard[-1]))


@pytest.mark.parametrize("reports", [1, 2, 3, 4, 6])  # two batches an epoch: within and at the end of each epoch
def test_a_stop_anywhere_and_going_on_gives_the_same_bits(
    reports: int, undisturbed: tuple[Trained, Path], tmp_path: Path
) -> None:
    with pytest.raises(Stopped, match="Stopped during training"):
        run(made(), tmp_path, progress=stopping(lambda event: event.done >= 8 * reports))
    assert not list(tmp_path.glob("*.part"))
    same_bits(run(made(), tmp_path), undisturbed[0])


def test_a_stop_in_every_batch_still_comes_to_the_same_end(undisturbed: tuple[Trained, Path], tmp_path: Path) -> None:
    for epoch in range(3):
        with pytest.raises(Stopped):
            run(made(), tmp_path, progress=stopping(lambda event, e=epoch: event.done == 16 * e + 24))  # type: ignore[misc]
        if epoch == 1:
            break
    same_bits(run(made(), tmp_path), undisturbed[0])


def test_two_runs_give_the_same_bits_and_another_seed_does_not(
    undisturbed: tuple[Trained, Path], tmp_path: Path
) -> None:
    same_bits(run(made(), tmp_path / "again"), undisturbed[0])
    other = run(made(), tmp_path / "other", dataclasses.replace(SETTINGS, seed=1))
    assert abs(other.history.given_logit - undisturbed[0].history.given_logit).max() > 0.01


def test_a_finished_training_is_not_run_again(undisturbed: tuple[Trained, Path], tmp_path: Path) -> None:
    shutil.copytree(undisturbed[1], tmp_path / "copy")
    heard: list[Event] = []
    same_bits(run(made(), tmp_path / "copy", progress=Progress(heard.append)), undisturbed[0])
    assert heard == []


def test_every_sample_is_recorded_in_every_epoch(undisturbed: tuple[Trained, Path]) -> None:
    history = undisturbed[0].history
    for name, array in history.arrays().items():
        assert np.isfinite(array).all(), name
    assert history.given_prob.shape == (3, N)
    assert (history.other_class == 1 - made().labels).all()


def test_the_order_of_the_rows_changes_the_order_only(tmp_path: Path) -> None:
    """Who is in which batch and how it is moved depends on the ids; sums within a batch run in another order.

    So one epoch of batches agrees to the last digits of float32 (not to the bit), and later ones drift from there.
    """
    order = np.random.default_rng(1).permutation(N)
    settings = dataclasses.replace(SETTINGS, epochs=1)
    plain, moved = run(made(), tmp_path / "a", settings), run(made(order), tmp_path / "b", settings)
    np.testing.assert_allclose(moved.history.given_logit, plain.history.given_logit[:, order], atol=1e-3)
    np.testing.assert_allclose(moved.history.error_norm, plain.history.error_norm[:, order], atol=1e-3)
    np.testing.assert_allclose(outputs(moved, made(order)), outputs(plain, made())[order], atol=1e-3)
    renamed = dataclasses.replace(made(), sample_ids=tuple(f"t{row}" for row in range(N)))
    other = run(renamed, tmp_path / "c", settings)
    assert abs(other.history.given_logit - plain.history.given_logit).max() > 0.01  # or the tolerance says nothing


def test_held_out_rows_never_touch_the_weights(undisturbed: tuple[Trained, Path], tmp_path: Path) -> None:
    task = made()
    pixels, labels = task.pixels.copy(), task.labels.copy()
    pixels[~task.train], labels[~task.train] = 255 - pixels[~task.train], 1 - labels[~task.train]
    changed = run(dataclasses.replace(task, pixels=pixels, labels=labels), tmp_path)
    theirs = undisturbed[0].network.state_dict()
    for name, tensor in changed.network.state_dict().items():
        assert torch.equal(tensor, theirs[name]), name
    for name, array in changed.history.columns(task.train).arrays().items():
        np.testing.assert_array_equal(array, undisturbed[0].history.columns(task.train).arrays()[name], err_msg=name)
    assert (changed.history.given_prob != undisturbed[0].history.given_prob)[:, ~task.train].all()


def test_a_changed_training_row_does(undisturbed: tuple[Trained, Path], tmp_path: Path) -> None:
    task = made()
    pixels = task.pixels.copy()
    pixels[1] = 255 - pixels[1]
    changed = run(dataclasses.replace(task, pixels=pixels), tmp_path, dataclasses.replace(SETTINGS, epochs=1))
    assert not torch.equal(changed.network.head.weight, undisturbed[0].network.head.weight)


def spied_batches(monkeypatch: pytest.MonkeyPatch) -> list[tuple[np.ndarray, np.ndarray, int, int]]:
    """Rows, passes, epoch and step of every batch that is trained on from now on."""
    seen: list[tuple[np.ndarray, np.ndarray, int, int]] = []
    step = _Run._step

    def spied(self: _Run, rows: np.ndarray, passes: np.ndarray, epoch: int, at: int):  # type: ignore[no-untyped-def]
        seen.append((rows, passes, epoch, at))
        return step(self, rows, passes, epoch, at)

    monkeypatch.setattr(_Run, "_step", spied)
    return seen


def test_fewer_rows_take_as_many_steps_pass_after_pass(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """12 of 16 rows in 3 epochs of 16 images are 4 passes, each over every row once."""
    seen, task = spied_batches(monkeypatch), made()
    fewer = dataclasses.replace(task, train=task.train & (np.arange(N) < 15), images_per_epoch=16)
    run(fewer, tmp_path)
    assert [(epoch, at) for _, _, epoch, at in seen] == [(0, 0), (0, 1), (1, 2), (1, 3), (2, 4), (2, 5)]
    rows, passes = (np.concatenate([each[part] for each in seen]) for part in (0, 1))
    for each in range(4):
        assert sorted(rows[passes == each]) == list(np.flatnonzero(fewer.train))
    assert (np.sort(np.unique(passes)) == np.arange(4)).all()


def test_a_sample_is_shown_alike_in_the_same_pass_whoever_is_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    task = made()
    fewer = dataclasses.replace(task, train=task.train & (np.arange(N) < 15), images_per_epoch=16)
    shown: list[dict[tuple[int, int], tuple[int, int, bool]]] = []
    for number, each in enumerate((task, fewer)):
        seen, moved = spied_batches(monkeypatch), []

        def spied(images: torch.Tensor, reach: int, *how: np.ndarray, moved: list = moved) -> torch.Tensor:  # type: ignore[type-arg]
            moved.append(np.column_stack(how))
            return shifted(images, reach, *how)

        monkeypatch.setattr("core.models.train.shifted", spied)
        run(each, tmp_path / str(number))
        keys = [key for rows, passes, _, _ in seen for key in zip(rows.tolist(), passes.tolist(), strict=True)]
        shown.append(dict(zip(keys, map(tuple, np.concatenate(moved).tolist()), strict=True)))
        monkeypatch.undo()
    both = set(shown[0]) & set(shown[1])
    assert len(both) == 12 * 3
    assert all(shown[0][key] == shown[1][key] for key in both)


def test_as_many_images_as_there_are_rows_changes_no_bit(undisturbed: tuple[Trained, Path], tmp_path: Path) -> None:
    same_bits(run(dataclasses.replace(made(), images_per_epoch=16), tmp_path), undisturbed[0])


def test_passes_that_cross_epochs_are_gone_on_with_after_a_stop(tmp_path: Path) -> None:
    task = made()
    fewer = dataclasses.replace(task, train=task.train & (np.arange(N) < 15), images_per_epoch=16)
    whole = run(fewer, tmp_path / "whole")
    with pytest.raises(Stopped):
        run(fewer, tmp_path / "part", progress=stopping(lambda event: event.done >= 24))
    same_bits(run(fewer, tmp_path / "part"), whole)


def test_only_the_held_out_rows_that_were_named_are_evaluated(
    tmp_path: Path, undisturbed: tuple[Trained, Path]
) -> None:
    task = made()
    named = ~task.train & (np.arange(N) < 10)
    trained = run(dataclasses.replace(task, held_out=named), tmp_path)
    history = trained.history
    assert np.isfinite(history.given_prob[:, task.train | named]).all()
    assert np.isnan(history.given_prob[:, ~task.train & ~named]).all()
    theirs = undisturbed[0].network.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in trained.network.state_dict().items())


def test_a_row_of_weight_0_says_nothing_of_its_label_and_one_of_weight_4_says_much(tmp_path: Path) -> None:
    task, settings = made(), dataclasses.replace(SETTINGS, epochs=1)
    labels = task.labels.copy()
    labels[1] = 1 - labels[1]
    heads = {}
    for weight in (0.0, 1.0, 4.0):
        weights = np.where(np.arange(N) == 1, weight, 1.0)
        for name, each in (("given", task.labels), ("other", labels)):
            changed = dataclasses.replace(task, labels=each, weights=weights)
            heads[weight, name] = run(changed, tmp_path / f"{weight}{name}", settings).network.state_dict()["head.bias"]
    assert torch.equal(heads[0.0, "given"], heads[0.0, "other"])
    apart = {weight: float((heads[weight, "given"] - heads[weight, "other"]).norm()) for weight in (1.0, 4.0)}
    assert apart[4.0] > 1.5 * apart[1.0] > 0


def test_without_snapshots_only_the_last_weights_are_kept_and_a_stop_costs_nothing(
    undisturbed: tuple[Trained, Path], tmp_path: Path
) -> None:
    def again(progress: Progress | None = None) -> Trained:
        return train(made(), SETTINGS, CPU, tmp_path, progress or Progress(), snapshots=False)

    with pytest.raises(Stopped):
        again(stopping(lambda event: event.done > 32))
    same_bits(again(), undisturbed[0])
    assert not list(tmp_path.glob("weights-*"))


def test_nothing_global_is_left_changed(tmp_path: Path) -> None:
    torch.manual_seed(123)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    threads, grad = torch.get_num_threads(), torch.is_grad_enabled()
    run(made(), tmp_path, dataclasses.replace(SETTINGS, epochs=1))
    network_after(tmp_path, 0, 2, CPU)
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == numpy_before).all()  # noqa: NPY002
    assert torch.get_num_threads() == threads
    assert torch.is_grad_enabled() is grad


@pytest.mark.parametrize("mode", [True, False])
def test_evaluation_leaves_the_mode_and_the_statistics_as_found(mode: bool) -> None:
    task, untrained = made(), reference_network(2)
    untrained.train(mode)
    before = {name: tensor.clone() for name, tensor in untrained.state_dict().items()}
    rows = evaluate(untrained, task, task.statistics, CPU, np.arange(N))
    next(rows)
    rows.close()  # type: ignore[attr-defined]
    assert untrained.training is mode
    assert all(torch.equal(tensor, before[name]) for name, tensor in untrained.state_dict().items())


def test_an_evaluation_of_a_mirror_is_that_of_mirrored_pixels() -> None:
    task, untrained = made(), reference_network(2)
    turned = dataclasses.replace(task, pixels=task.pixels[:, :, ::-1].copy())
    rows = np.arange(N)
    (_, mirrored, _), = evaluate(untrained, task, task.statistics, CPU, rows, mirror=True)  # fmt: skip
    (_, of_turned, _), = evaluate(untrained, turned, task.statistics, CPU, rows)  # fmt: skip
    np.testing.assert_array_equal(mirrored, of_turned)


def augmented(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, task: Task, settings: SiftSettings) -> list[np.ndarray]:
    """Train and return the `mirrored` of every batch."""
    seen: list[np.ndarray] = []

    def spied(images: torch.Tensor, reach: int, down: np.ndarray, right: np.ndarray, mirrored: np.ndarray):  # type: ignore[no-untyped-def]
        assert ((down >= 0) & (down <= 2 * reach) & (right >= 0) & (right <= 2 * reach)).all()
        seen.append(mirrored)
        return shifted(images, reach, down, right, mirrored)

    monkeypatch.setattr("core.models.train.shifted", spied)
    run(task, tmp_path, settings)
    return seen


def test_without_flip_nothing_is_mirrored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen = augmented(monkeypatch, tmp_path, made(flip=False), SETTINGS)
    assert len(seen) == 6
    assert not np.concatenate(seen).any()


def test_with_flip_half_are_mirrored_as_the_sample_and_the_epoch_say(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen = np.concatenate(augmented(monkeypatch, tmp_path, made(), SETTINGS))
    keys = chance.sample_keys([f"s{row}" for row in np.flatnonzero(made().train)])
    told = [(chance.uniform(keys, 0, "mirror", epoch) < 0.5).sum() for epoch in range(3)]
    assert [int(part.sum()) for part in np.split(seen, 3)] == told
    assert 0 < sum(told) < 48


def test_without_augmentation_the_pixels_are_used_as_they_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert augmented(monkeypatch, tmp_path, made(), dataclasses.replace(SETTINGS, augment=False, epochs=1)) == []


def test_shifted_equals_a_loop_over_pixels() -> None:
    rng = np.random.default_rng(2)
    images, reach = rng.normal(0, 1, (6, 3, 5, 5)).astype(np.float32), 2
    down, right, mirrored = rng.integers(0, 5, 6), rng.integers(0, 5, 6), np.arange(6) % 2 == 0
    expected = np.zeros_like(images)
    for i in range(6):
        for y in range(5):
            for x in range(5):
                from_y, from_x = y + down[i] - reach, (4 - x if mirrored[i] else x) + right[i] - reach
                if 0 <= from_y < 5 and 0 <= from_x < 5:
                    expected[i, :, y, x] = images[i, :, from_y, from_x]
    found = shifted(torch.from_numpy(images), reach, down, right, mirrored)
    np.testing.assert_array_equal(found.numpy(), expected)


def test_a_shift_by_the_reach_and_no_mirror_is_the_image_itself() -> None:
    images, stay = torch.randn(3, 3, 6, 6, generator=torch.Generator().manual_seed(0)), np.full(3, 2)
    assert torch.equal(shifted(images, 2, stay, stay, np.zeros(3, bool)), images)
    assert torch.equal(shifted(images, 2, stay, stay, np.ones(3, bool)), images.flip(-1))


def test_one_cycle_rises_for_a_fifth_and_falls_to_nearly_nothing() -> None:
    peak = 0.2
    assert rate_and_momentum(0, 100, peak) == pytest.approx((peak / 25, 0.95))
    assert rate_and_momentum(20, 100, peak) == pytest.approx((peak, 0.85))
    assert rate_and_momentum(10, 100, peak) == pytest.approx(((peak / 25 + peak) / 2, 0.9))
    assert rate_and_momentum(60, 100, peak) == pytest.approx(((peak + peak / 250_000) / 2, 0.9))
    assert rate_and_momentum(100, 100, peak) == pytest.approx((peak / 250_000, 0.95))
    rates = [rate_and_momentum(step, 100, peak)[0] for step in range(101)]
    assert np.argmax(rates) == 20
    assert (np.diff(rates[:21]) > 0).all()
    assert (np.diff(rates[20:]) < 0).all()
    assert 0 < rate_and_momentum(0, 1, peak)[0] <= peak


def test_the_rate_of_each_epoch_is_the_mean_of_its_steps(undisturbed: tuple[Trained, Path]) -> None:
    steps = [rate_and_momentum(step, 6, 0.05)[0] for step in range(6)]
    assert undisturbed[0].history.learning_rate == pytest.approx(np.reshape(steps, (3, 2)).mean(1), rel=1e-5)


@pytest.mark.parametrize(
    ("rows", "epochs"), [(10_000, 20), (50_000, 20), (1600, 20), (1280, 25), (640, 50), (100, 60), (1, 60)]
)
def test_planned_epochs(rows: int, epochs: int) -> None:
    assert planned_epochs(SiftSettings(), rows) == epochs
    assert planned_epochs(SiftSettings(epochs=3), rows) == 3


@pytest.mark.parametrize("rows", range(2, 12))
def test_no_batch_is_too_small_to_normalise_over(rows: int, tmp_path: Path) -> None:
    """At 8 pixels the last layers see one position per image, so a batch of one has no variance."""
    task = dataclasses.replace(made(), train=np.arange(N) < rows)
    trained = run(task, tmp_path, dataclasses.replace(SETTINGS, epochs=1, batch_size=2))
    assert np.isfinite(trained.history.given_prob).all()


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # what is recorded on the way there
def test_a_diverging_training_says_so_and_what_to_do(tmp_path: Path) -> None:
    wild = dataclasses.replace(SETTINGS, epochs=40, learning_rate=10.0, weight_decay=1.0)
    with pytest.raises(ModelError, match=r"(loss of (nan|inf)|not finite) in epoch \d+. Lower .* \(now 10\)"):
        run(made(), tmp_path, wild)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def garbled(path: Path) -> None:
    path.write_bytes(b"hello" * 50)


def of_another_network(path: Path) -> None:
    tensors = {name: tensor for name, tensor in load_file(path).items() if "head" not in name}
    save_file(tensors, path, {"epoch": "2"})


def without_its_epoch(path: Path) -> None:
    save_file(load_file(path), path)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("checkpoint.safetensors", cut), ("checkpoint.safetensors", garbled),
        ("checkpoint.safetensors", lambda path: path.write_bytes(b"")),
        ("checkpoint.safetensors", of_another_network), ("checkpoint.safetensors", without_its_epoch),
        ("epoch-0001.npz", cut), ("epoch-0001.npz", garbled), ("epoch-0001.npz", Path.unlink),
        ("epoch-0001.npz", lambda path: path.write_bytes(b"")),
    ],
)  # fmt: skip
def test_a_damaged_checkpoint_is_told_with_what_to_do(
    name: str, damage: Callable[[Path], object], undisturbed: tuple[Trained, Path], tmp_path: Path
) -> None:
    shutil.copytree(undisturbed[1], tmp_path / "copy")
    damage(tmp_path / "copy" / name)
    with pytest.raises(ModelError, match="cannot be read .* Delete that folder to train from the start") as told:
        run(made(), tmp_path / "copy")
    assert str(tmp_path / "copy") in str(told.value)
    assert "\n" not in str(told.value)


def test_an_epoch_that_was_not_finished_leaves_no_trace(undisturbed: tuple[Trained, Path], tmp_path: Path) -> None:
    """A kill between the epoch's record and its checkpoint: the record is written again, not taken over."""
    with pytest.raises(Stopped):
        run(made(), tmp_path, progress=stopping(lambda event: event.done > 16))
    garbled(tmp_path / "epoch-0001.npz")
    (tmp_path / ".checkpoint.safetensors.part").write_bytes(b"half")
    same_bits(run(made(), tmp_path), undisturbed[0])


def test_tidying_keeps_a_few_weights_and_the_last_network(undisturbed: tuple[Trained, Path], tmp_path: Path) -> None:
    shutil.copytree(undisturbed[1], tmp_path / "copy")
    for epoch in range(3, 12):
        shutil.copy(
            tmp_path / "copy" / "weights-0000.safetensors", tmp_path / "copy" / f"weights-{epoch:04d}.safetensors"
        )
    tidy(tmp_path / "copy", 12)
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == [
        f"weights-{epoch:04d}.safetensors" for epoch in (1, 4, 6, 9, 11)
    ]
    again = network_after(undisturbed[1], 2, 2, CPU).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in undisturbed[0].network.state_dict().items())
    early = network_after(undisturbed[1], 0, 2, CPU)
    assert not torch.equal(early.head.weight, undisturbed[0].network.head.weight)


def test_normalisation_looks_at_training_rows_only() -> None:
    task = made()
    flat = task.pixels[task.train].reshape(-1, 3).astype(np.float64)
    mean, deviation = task.statistics
    assert mean == pytest.approx(flat.mean(0), abs=1e-3)
    assert deviation == pytest.approx(flat.std(0), abs=1e-3)
    flat_grey = dataclasses.replace(task, pixels=np.full_like(task.pixels, 9))
    assert flat_grey.statistics[1].tolist() == [1, 1, 1]


def test_the_network_is_of_the_stated_size() -> None:
    parameters = sum(parameter.numel() for parameter in reference_network(10).parameters())
    stated = re.search(r"about ([0-9.]+) M parameters", network.__doc__ or "")
    assert stated is not None
    assert round(parameters / 1e6, 2) == float(stated[1])


def test_history_equals_what_the_network_said(undisturbed: tuple[Trained, Path]) -> None:
    """The held-out rows of the last epoch are recorded after its last step: the final network's own outputs."""
    trained, task = undisturbed[0], made()
    logits, rows = outputs(trained, task), np.flatnonzero(~task.train)
    assert isinstance(trained.history, History)
    np.testing.assert_allclose(trained.history.given_logit[-1, rows], logits[rows, task.labels[rows]], atol=1e-5)
