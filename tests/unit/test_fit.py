import numpy as np
import pytest

from core.errors import ModelError
from core.models.fit import Fit, check_fit

TEN = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def made(accuracy: float, classes: int, samples: int = 1000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose largest is the label of a share of the samples, of another class for the rest."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, samples)
    guesses = np.where(rng.random(samples) < accuracy, labels, (labels + rng.integers(1, classes, samples)) % classes)
    return np.eye(classes, dtype=np.float32)[guesses] * 5 + rng.normal(0, 0.1, (samples, classes)), labels


def test_classes_in_the_stated_order_pass() -> None:
    logits, labels = made(0.8, 10)
    fit = check_fit(logits, labels, TEN)
    assert fit == Fit(float((logits.argmax(1) == labels).mean()), fit.accuracy, said=fit.said)
    assert fit.said == (
        f"The model's largest logit is the given label of {fit.accuracy:.1%} of the images (chance: 10.0%)."
    )


def test_a_shuffled_head_stops_and_the_renaming_is_printed() -> None:
    logits, labels = made(0.7, 10)
    order = np.array([1, 2, 3, 4, 5, 6, 7, 8, 9, 0])  # output k gives what class order[k] gave
    with pytest.raises(ModelError) as stopped:
        check_fit(logits[:, order], labels, TEN)
    text = str(stopped.value)
    assert "airplane is automobile, automobile is bird" in text
    assert "truck is airplane" in text
    assert f"of {(logits.argmax(1) == labels).mean():.0%} when its outputs are renamed" in text
    assert "one per line (automobile, bird, cat, deer, dog, frog, horse, ship, truck, airplane). Then" in text
    assert "gradsift new NEW --source … --model … --classes FILE. Decisions come along: gradsift export OLD" in text


def test_of_many_classes_the_renaming_is_enough() -> None:
    logits, labels = made(0.9, 41, 4000)
    with pytest.raises(ModelError, match=r"and 1 more\. Write the class names into FILE .* one per line\."):
        check_fit(np.roll(logits, 1, 1), labels, [f"class {number}" for number in range(41)])


def test_two_classes_that_changed_places_are_enough() -> None:
    logits, labels = made(0.9, 10)
    order = np.array([0, 1, 2, 5, 4, 3, 6, 7, 8, 9])
    with pytest.raises(ModelError, match="renamed: cat is dog, dog is cat. Write"):
        check_fit(logits[:, order], labels, TEN)


@pytest.mark.parametrize("samples", [12, 60, 300, 5000])
@pytest.mark.parametrize("seed", range(5))
def test_a_network_that_guesses_is_warned_of_and_not_renamed(samples: int, seed: int) -> None:
    logits, labels = made(0.1, 10, samples, seed)
    fit = check_fit(logits, labels, TEN)
    assert fit.best_accuracy >= fit.accuracy
    if samples >= 300:
        assert "(chance: 10.0%). Check that its transform" in fit.said
        assert "order of its classes" in fit.said


def test_noise_in_the_labels_is_no_other_order() -> None:
    logits, labels = made(0.6, 10)
    assert "Check" not in check_fit(logits, labels, TEN).said


def test_two_classes_warn_below_half_the_way_to_perfect_and_stop_where_they_are_swapped() -> None:
    two = ("cat", "dog")
    assert "Check" not in check_fit(*made(0.95, 2), two).said
    assert "Check" in check_fit(*made(0.6, 2), two).said
    with pytest.raises(ModelError, match="renamed: cat is dog, dog is cat"):
        check_fit(*made(0.2, 2), two)


def test_a_class_that_never_occurs_keeps_its_name() -> None:
    logits, labels = made(0.9, 3)
    logits = np.concatenate([logits, np.full((len(labels), 2), -9.0)], axis=1)
    assert check_fit(logits, labels, ("a", "b", "c", "d", "e")).renaming == {}


def test_rows_without_logits_do_not_count() -> None:
    logits, labels = made(0.9, 3)
    known = check_fit(logits[:500], labels[:500], ("a", "b", "c"))
    logits[500:] = np.nan
    assert check_fit(logits, labels, ("a", "b", "c")) == known
