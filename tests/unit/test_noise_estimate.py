"""The estimated share of wrong test labels: by hand, against cleanlab (a development dependency), and planted."""

import numpy as np
import pytest
from cleanlab.count import estimate_joint

from core.errors import InputError
from core.verify.noise import confident_joint, confident_joint_noise, said

BY_HAND = np.array([
    [0.9, 0.1, 0.0],
    [0.8, 0.1, 0.1],
    [0.1, 0.8, 0.1],  # labelled 0, confidently 1
    [0.1, 0.7, 0.2],
    [0.1, 0.6, 0.3],
    [0.0, 0.1, 0.9],
    [0.4, 0.35, 0.25],  # labelled 2: 0 leads yet is not confident, and nor is any other
])  # fmt: skip
LABELS = np.array([0, 0, 0, 1, 1, 2, 2])


def test_by_hand() -> None:
    """Thresholds: .6 (of .9 .8 .1), .65 (of .7 .6), .575 (of .9 .25)."""
    joint = confident_joint(BY_HAND, LABELS)
    np.testing.assert_array_equal(joint, [[2, 1, 0], [0, 1, 0], [0, 0, 1]])
    assert confident_joint_noise(BY_HAND, LABELS) == pytest.approx((1 / 3 * 3 + 0 + 0) / 7)


def test_of_several_confident_classes_the_most_probable_of_them_counts() -> None:
    """The paper's form: class 0 leads the last row, but is not confident, and so cannot be taken."""
    probabilities = np.array([[0.9, 0.05, 0.05], [0.1, 0.3, 0.2], [0.1, 0.2, 0.2], [0.45, 0.3, 0.25]])
    joint = confident_joint(probabilities / probabilities.sum(1, keepdims=True), np.array([0, 1, 2, 2]))
    assert joint[2, 0] == 0


def test_a_class_without_labels_is_never_confident() -> None:
    probabilities = np.array([[0.6, 0.0, 0.4], [0.2, 0.1, 0.7]])
    assert confident_joint(probabilities, np.array([0, 0]))[0, 2] == 0


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_agrees_with_cleanlab(seed: int, classes: int) -> None:
    """Up to the whole counts to which theirs is rounded; rows where their code and the paper part are left out."""
    probabilities, labels = made(seed, classes, 900)
    while (parted := parting(probabilities, labels)).any():
        probabilities, labels = probabilities[~parted], labels[~parted]
    theirs = 1 - np.trace(estimate_joint(labels, probabilities))
    assert theirs > 0.05
    assert confident_joint_noise(probabilities, labels) == pytest.approx(theirs, abs=classes / len(labels))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3])
def test_finds_the_planted_share(share: float) -> None:
    rng = np.random.default_rng(3)
    truth = np.arange(2000) % 5
    probabilities = np.full((2000, 5), 0.02) + 0.9 * np.eye(5)[truth]
    probabilities += rng.uniform(0, 0.05, probabilities.shape)
    wrong = rng.permutation(2000)[: int(share * 2000)]
    labels = truth.copy()
    labels[wrong] = (labels[wrong] + 1 + rng.integers(0, 4, len(wrong))) % 5
    found = confident_joint_noise(probabilities / probabilities.sum(1, keepdims=True), labels)
    assert found == pytest.approx(share, abs=0.02)


def test_of_nothing() -> None:
    with pytest.raises(InputError, match="No test row was given.*at least one"):
        confident_joint_noise(np.empty((0, 3)), np.empty(0, np.int64))


def made(seed: int, classes: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(classes), rng.integers(0, classes, rows - classes)])
    probabilities = rng.dirichlet(np.full(classes, 0.4), rows) * 0.6 + 0.4 * np.eye(classes)[truth]
    labels = np.where(rng.random(rows) < 0.2, rng.integers(0, classes, rows), truth)
    return probabilities, labels


def parting(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Rows with several confident classes whose most probable class is none of them."""
    thresholds = [probabilities[labels == each, each].mean() for each in range(probabilities.shape[1])]
    confident = probabilities >= np.array(thresholds) - 1e-6
    leads = confident[np.arange(len(labels)), probabilities.argmax(1)]
    return np.asarray((confident.sum(1) > 1) & ~leads)


def test_the_mistakes_of_a_weak_head_are_not_called_wrong_labels() -> None:
    """Clean labels, a head that is right on about 70 %: the figure is far from 0, and the sentence says what it is."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 3000)
    logits = rng.normal(size=(3000, 5))
    logits[np.arange(3000), labels] += 1.9
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert 0.6 < (probabilities.argmax(1) == labels).mean() < 0.8
    estimated = confident_joint_noise(probabilities, labels)
    assert estimated > 0.05
    assert said(None, estimated).endswith("wrong labels and its own mistakes together.")
    assert said(0.0, estimated) == "All of their labels are known to be right."
    assert said(0.02, estimated) == "2.0 % of their labels are known to be wrong."
    assert said(None, None) == ""
