"""What a training says about each sample, batch by batch."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import InputError
from core.models.recorder import ALIKE, History, Recorder
from tests.helpers import history_of, unchecked

IDS = [f"s{i}" for i in range(7)]


def same(one: History, other: History, atol: float = 0.0) -> None:
    for name, array in one.arrays().items():
        np.testing.assert_allclose(array, other.arrays()[name], rtol=0, atol=atol, err_msg=name)


def made(seed: int = 0, epochs: int = 3, classes: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (epochs, len(IDS), classes)).astype(np.float32)
    return logits, rng.integers(0, classes, len(IDS)), rng.normal(0, 1, (epochs, len(IDS), 5)).astype(np.float32)


def test_every_number_equals_a_float64_twin() -> None:
    logits, labels, inputs = made()
    recorder = Recorder(IDS)
    for epoch in range(3):
        recorder.log(IDS, logits[epoch], labels, epoch, inputs=inputs[epoch], rate=0.1 * (epoch + 1))
    norms = np.sqrt((inputs.astype(np.float64) ** 2).sum(2) + 1)
    same(recorder.history(), history_of(logits, labels, norms), atol=1e-6)


@given(st.permutations(range(7)), st.lists(st.integers(1, 6), max_size=4))
@settings(max_examples=25, deadline=None)
def test_any_partition_into_batches_is_one_log(order: list[int], cuts: list[int]) -> None:
    logits, labels, inputs = made(1)
    whole, parts = Recorder(IDS), Recorder(IDS)
    borders = [0, *sorted(set(cuts)), 7]
    for epoch in range(3):
        whole.log(IDS, logits[epoch], labels, epoch, inputs=inputs[epoch], rate=0.1)
        for begin, end in pairwise(borders):
            rows = np.asarray(order[begin:end])
            ids = [IDS[row] for row in rows]
            parts.log(ids, logits[epoch][rows], labels[rows], epoch, inputs=inputs[epoch][rows], rate=0.1)
    same(whole.history(), parts.history())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_tensors_of_every_kind_serve_as_arrays_do(dtype: torch.dtype) -> None:
    logits, labels, inputs = made(2)
    tensor = torch.from_numpy(logits[0]).to(dtype).requires_grad_()
    of_tensors, of_arrays = Recorder(IDS), Recorder(IDS)
    of_tensors.log(IDS, tensor, torch.from_numpy(labels), 0, inputs=torch.from_numpy(inputs[0]).to(dtype))
    of_arrays.log(IDS, tensor.detach().float().numpy(), labels, 0,
                  inputs=torch.from_numpy(inputs[0]).to(dtype).float().numpy())  # fmt: skip
    same(of_tensors.history(), of_arrays.history())
    assert tensor.requires_grad
    assert tensor.grad is None


def test_half_precision_arrays_and_lists() -> None:
    recorder = Recorder(["a", "b"])
    recorder.log(["a"], np.array([[2, 1, 0]], np.float16), [0], 0)
    recorder.log(["b"], [[0.0, 3.0, 1.0]], np.array([2]), 0)
    assert recorder.history().given_logit.tolist() == [[2, 1]]
    assert recorder.history().other_logit.tolist() == [[1, 3]]
    assert recorder.history().other_class.tolist() == [[1, 1]]


def test_el2n_bounds_and_the_binary_case() -> None:
    rng = np.random.default_rng(3)
    ids = [str(i) for i in range(200)]
    wide = Recorder(ids)
    wide.log(ids, rng.normal(0, 50, (200, 10)), rng.integers(0, 10, 200), 0)
    norms = wide.history().error_norm[0]
    assert norms.min() >= 0
    assert norms.max() <= np.sqrt(2) + 1e-6
    binary = Recorder(ids)
    binary.log(ids, rng.normal(0, 2, (200, 2)), rng.integers(0, 2, 200), 0)
    history = binary.history()
    np.testing.assert_allclose(history.error_norm, np.sqrt(2) * (1 - history.given_prob), atol=2e-6)


@pytest.mark.parametrize(("classes", "expected"), [(2, 0.7071), (10, 0.9487), (100, 0.9950)])
def test_el2n_of_a_uniform_guess(classes: int, expected: float) -> None:
    recorder = Recorder(["a"])
    recorder.log(["a"], np.zeros((1, classes), np.float32), np.array([0]), 0)
    assert recorder.history().error_norm[0, 0] == pytest.approx(expected, abs=5e-5)


def test_what_was_not_logged_stays_empty() -> None:
    recorder = Recorder(IDS)
    recorder.log(["s2"], np.zeros((1, 2)), np.array([1]), 1)
    history = recorder.history()
    assert history.given_prob.shape == (2, 7)
    assert np.isnan(history.given_prob[0]).all()
    assert np.flatnonzero(~np.isnan(history.given_prob[1])).tolist() == [2]
    assert history.other_class[1].tolist() == [-1, -1, 0, -1, -1, -1, -1]
    assert np.isnan(history.input_norm).all()
    assert np.isnan(history.learning_rate).all()


def test_the_later_pass_of_an_epoch_counts() -> None:
    recorder = Recorder(["a"])
    recorder.log(["a"], np.array([[1.0, 0.0]]), np.array([0]), 0)
    recorder.log(["a"], np.array([[4.0, 0.0]]), np.array([0]), 0)
    assert recorder.history().given_logit.tolist() == [[4]]


def test_logging_changes_nothing_that_was_given() -> None:
    logits, labels, inputs = made(4)
    before = logits.copy(), labels.copy(), inputs.copy()
    Recorder(IDS).log(IDS, logits[0], labels, 0, inputs=inputs[0])
    assert all((a == b).all() for a, b in zip(before, (logits, labels, inputs), strict=True))


def test_going_on_from_a_written_history_gives_the_same_record() -> None:
    logits, labels, inputs = made(5)
    whole, first, second = Recorder(IDS), Recorder(IDS), Recorder(IDS)
    for epoch in range(3):
        for recorder in [whole, first] if epoch < 2 else [whole]:
            recorder.log(IDS, logits[epoch], labels, epoch, inputs=inputs[epoch], rate=0.1)
    written = History(**{name: array.copy() for name, array in first.history().arrays().items()})
    second.resume(written)
    second.log(IDS, logits[2], labels, 2, inputs=inputs[2], rate=0.1)
    same(whole.history(), second.history())
    second.log(IDS, logits[2], labels, 0)
    same(written, first.history())  # the history that was handed over is not written into


def test_slices_of_a_history() -> None:
    logits, labels, _ = made(6)
    history = history_of(logits, labels)
    assert history.first(2).given_prob.tolist() == history.given_prob[:2].tolist()
    assert history.first(2).learning_rate.tolist() == history.learning_rate[:2].tolist()
    some = np.arange(7) % 2 == 0
    assert history.columns(some).error_norm.tolist() == history.error_norm[:, some].tolist()
    assert history.columns(some).learning_rate.tolist() == history.learning_rate.tolist()
    assert history.correct.tolist() == (logits.argmax(2) == labels).tolist()


def test_mistakes_are_told() -> None:
    recorder, logits, labels = Recorder(["a", "b"]), np.zeros((1, 2), np.float32), np.array([0])
    with pytest.raises(InputError, match="'x' is not among the 2 ids"):
        recorder.log(["x"], logits, labels, 0)
    with pytest.raises(InputError, match="Epoch -1 .* counted from 0"):
        recorder.log(["a"], logits, labels, -1)
    with pytest.raises(InputError, match="occur twice"):
        Recorder(["a", "a"])
    assert len(recorder.history().learning_rate) == 0


@pytest.mark.parametrize(("logits", "labels"), [(1, 2), (2, 1), (3, 2), (2, 3)])
def test_unequal_lengths_are_told_and_nothing_is_recorded(logits: int, labels: int) -> None:
    recorder = Recorder(["a", "b"])
    with unchecked(), pytest.raises(InputError, match=f"2 ids, {logits} rows of logits, {labels} labels"):
        recorder.log(["a", "b"], np.zeros((logits, 2), np.float32), np.zeros(labels, np.int64), 0)
    assert len(recorder.history().learning_rate) == 0


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_outside_the_classes_is_told(label: int) -> None:
    recorder = Recorder(["a", "b"])
    with pytest.raises(InputError, match=f"Label {label} is not among the 3 classes"):
        recorder.log(["a", "b"], np.zeros((2, 3), np.float32), np.array([0, label]), 0)
    assert len(recorder.history().learning_rate) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_told_with_its_id_and_epoch(bad: float) -> None:
    recorder, good = Recorder(IDS), np.zeros((2, 3), np.float32)
    broken = good.copy()
    broken[1, 2] = bad
    with pytest.raises(InputError, match="logits of sample 's4' in epoch 3 are not finite: the training has diverged"):
        recorder.log(["s1", "s4"], broken, np.array([0, 1]), 3)
    with pytest.raises(InputError, match="inputs of sample 's4' in epoch 3 are not finite"):
        recorder.log(["s1", "s4"], good, np.array([0, 1]), 3, inputs=broken)
    assert len(recorder.history().learning_rate) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_probabilities_are_no_logits(dtype: torch.dtype, batch: int) -> None:
    logits, labels, _ = made(8, classes=9)
    said, recorder = torch.from_numpy(logits[0]).softmax(1).to(dtype), Recorder(IDS)

    def loop() -> None:
        for begin in range(0, 7, batch):
            some = slice(begin, begin + batch)
            recorder.log(IDS[some], said[some], labels[some], 0)

    with pytest.raises(InputError, match="are probabilities: .* Log what goes into the softmax"):
        loop()
    assert np.isfinite(recorder.history().given_prob).sum() < ALIKE


def test_logits_that_look_like_a_probability_now_and_then_are_logits() -> None:
    recorder = Recorder(["a"])
    for epoch in range(30):
        recorder.log(["a"], np.array([[0.75, 0.25] if epoch % 3 else [0.75, 0.5]]), np.array([0]), epoch)
    recorder.log(["a"], torch.tensor([[0.75, 0.25]]).log(), np.array([0]), 30)  # log-probabilities are logits
    assert np.isfinite(recorder.history().given_prob).all()


def test_without_a_project_too_labels_and_classes_stay_what_they_were() -> None:
    recorder, logits = Recorder(IDS), np.zeros((2, 3), np.float32)
    recorder.log(["s0", "s1"], logits, np.array([0, 1]), 0)
    with pytest.raises(InputError, match="Sample 's1' was logged with label 1 before and with 2 now"):
        recorder.log(["s2", "s1"], logits, np.array([2, 2]), 1)
    with pytest.raises(InputError, match="Logits of 4 classes were logged, and of 3 before"):
        recorder.log(["s2"], np.zeros((1, 4), np.float32), np.array([2]), 1)
    assert len(recorder.history().learning_rate) == 1
    recorder.log(["s2", "s1"], logits, np.array([2, 1]), 1)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.eye(3, dtype=int)[[0, 1]], r"Labels of shape \(2, 3\) were logged.*labels.argmax\(1\)"),
        (torch.eye(3)[[0, 1]], r"Labels of shape \(2, 3\) were logged"),
        (np.int64(1), r"Labels of shape \(\) were logged. Log one integer per image"),
        (np.array([0.0, 0.5]), "Label '0.5' is no integer"),
        (["cat", "dog"], "Label 'cat' is no integer. Log labels as positions in the classes"),
    ],
)
def test_labels_that_are_no_positions_are_told(labels: object, said: str) -> None:
    recorder = Recorder(IDS)
    with unchecked(), pytest.raises(InputError, match=said):
        recorder.log(["s0", "s1"], np.zeros((2, 3), np.float32), labels, 0)
    assert len(recorder.history().learning_rate) == 0


@pytest.mark.parametrize(("logits", "inputs", "said"), [
    (np.zeros(2), None, r"Logits of shape \(2,\) were logged"),
    (np.zeros((2, 3, 4)), None, r"Logits of shape \(2, 3, 4\)"),
    (np.zeros((2, 3)), np.zeros((2, 3, 4)), r"Inputs of shape \(2, 3, 4\)"),
    (np.zeros((2, 3)), np.zeros((3, 4)), "2 ids, 3 rows of inputs"),
])  # fmt: skip
def test_arrays_of_another_shape_are_told(logits: np.ndarray, inputs: np.ndarray | None, said: str) -> None:
    with unchecked(), pytest.raises(InputError, match=said):
        Recorder(IDS).log(["s0", "s1"], logits, np.array([0, 1]), 0, inputs=inputs)
