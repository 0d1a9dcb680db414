"""Copies: which pictures are one, told by hand-made ones, by a slow twin, and as a person sees them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageFilter

from core.data.copies import ALIKE, COLUMNS, SIDE, difference, find_copies, prepared, shrunk
from core.progress import Event, Progress
from core.review.copies import OTHER_LABEL, OTHER_SPLIT, SAME_LABEL, copies_of, copy_groups, sentence, standing, summed
from core.review.decisions import CURRENT


def scene(seed: int, side: int = 64) -> np.ndarray:
    """A picture with soft blobs, as unlike another seed's as two photographs."""
    noise = np.random.default_rng(seed).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    large = Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(large.filter(ImageFilter.GaussianBlur(1.5)))


def small(*pictures: np.ndarray) -> np.ndarray:
    return np.stack([shrunk(picture) for picture in pictures])


def apart(one: np.ndarray, other: np.ndarray) -> float:
    return float(difference(prepared(small(one, other)), np.array([0]), np.array([1]))[0])


def everyone(n: int) -> np.ndarray:
    """Everyone is everyone's neighbour."""
    return np.array([[other for other in range(n) if other != row] for row in range(n)])


MADE = {
    "the same": lambda p: p,
    "moved by a pixel of 64": lambda p: np.roll(p, 1, axis=1),
    "moved by two across and down": lambda p: np.roll(p, (2, 2), axis=(0, 1)),
    "darker": lambda p: (p * 0.8).astype(np.uint8),
    "with less contrast": lambda p: (p * 0.8 + 20).astype(np.uint8),
    "noisy": lambda p: np.clip(p + np.random.default_rng(0).normal(0, 8, p.shape), 0, 255).astype(np.uint8),
    "stored at half the size": lambda p: np.asarray(Image.fromarray(p).resize((32, 32))),
    "stored at another shape": lambda p: np.asarray(Image.fromarray(p).resize((80, 56))),
}


@pytest.mark.parametrize("how", MADE)
def test_a_copy_is_told(how: str) -> None:
    assert all(apart(scene(seed), MADE[how](scene(seed))) < ALIKE for seed in range(8))


@pytest.mark.parametrize("how", ["other", "mirrored", "turned", "negative"])
def test_what_is_no_copy_is_told(how: str) -> None:
    other: dict[str, Any] = {
        "other": lambda seed: scene(seed + 100), "mirrored": lambda seed: scene(seed)[:, ::-1],
        "turned": lambda seed: np.rot90(scene(seed)), "negative": lambda seed: 255 - scene(seed),
    }  # fmt: skip
    assert all(apart(scene(seed), other[how](seed)) > 2 * ALIKE for seed in range(8))


def test_bare_grounds_are_no_copies() -> None:
    grounds = [
        np.full((64, 64, 3), 120, np.uint8) + np.random.default_rng(s).integers(0, 4, (64, 64, 3)) for s in (0, 1)
    ]
    assert apart(grounds[0].astype(np.uint8), grounds[1].astype(np.uint8)) == np.inf


def test_the_difference_is_what_least_squares_leaves() -> None:
    """A slow twin: one pair at a time, with numpy's own least squares; 1 is added to the products as there."""
    pictures = small(*(scene(seed) for seed in range(5)), np.roll(scene(0), 2, axis=0))
    ready = prepared(pictures)
    rows, others = (np.array(each) for each in zip(*[(a, b) for a in range(6) for b in range(a)], strict=True))
    found = difference(ready, rows, others)
    for row, other, told in zip(rows, others, found, strict=True):
        left = [twin(ready, row, other), twin(ready, other, row)]
        assert told == pytest.approx(max(left), rel=1e-3)
    np.testing.assert_allclose(found, difference(ready, others, rows), rtol=1e-5)


def twin(ready: Any, row: int, other: int) -> float:
    design = np.stack([ready.values[row], *ready.slopes[row]], axis=1).astype(float)
    q = len(design)
    padded, target = np.concatenate([design, np.sqrt(q) * np.eye(3)]), ready.values[other].astype(float)
    weights = np.linalg.lstsq(padded, np.concatenate([target, np.zeros(3)]), rcond=None)[0]
    gain = max(weights[0], 1e-6)
    if np.abs(weights[1:] / gain).max() > 1.25 or not 1 / 1.5 <= gain <= 1.5:
        return float("inf")
    return float(np.sqrt(np.mean((target - design @ weights) ** 2)) / np.sqrt(np.mean(target**2)))


def test_groups_of_exact_and_near_copies() -> None:
    base, moved, other, twice = scene(0), np.roll(scene(0), 1, axis=0), scene(5), scene(5)
    digests = np.array(["a", "b", "c", "c", "d", "", ""], object)
    pictures = small(base, moved, other, twice, scene(9), scene(20), scene(21))
    found = find_copies(digests, pictures, everyone(7))
    assert found.columns.tolist() == list(COLUMNS)
    assert found[["row", "group", "other", "kind"]].to_numpy().tolist() == [
        [0, 0, 1, "near"], [1, 0, 0, "near"], [2, 1, 3, "exact"], [3, 1, 2, "exact"],
    ]  # fmt: skip
    assert found["difference"].tolist()[2:] == [0.0, 0.0]
    assert 0 < found["difference"][0] < ALIKE
    exact_only = find_copies(digests, pictures, None)
    assert exact_only["row"].tolist() == [2, 3]  # rows without an image are copies of nothing


def test_a_copy_of_a_copy_belongs_to_the_group() -> None:
    base = scene(3)
    chain = small(*(np.roll(base, step, axis=1) for step in (0, 3, 6, 9)))
    near = np.array([[1], [2], [3], [2]])  # nobody names the first and the last together
    found = find_copies(np.array(list("abcd"), object), chain, near)
    assert found["group"].tolist() == [0, 0, 0, 0]


def test_many_times_the_same_file_is_one_group_of_few_pairs() -> None:
    n = 3000
    found = find_copies(np.array(["x"] * n, object), np.zeros((n, SIDE, SIDE, 3), np.uint8), None)
    assert (len(found), found["group"].nunique()) == (n, 1)


def test_the_order_of_the_rows_changes_nothing_else() -> None:
    pictures = small(*(scene(seed) for seed in range(6)), *(np.roll(scene(seed), 1, axis=0) for seed in range(3)))
    digests = np.array([f"d{row}" for row in range(9)], object)
    turn = np.random.default_rng(0).permutation(9)
    straight = find_copies(digests, pictures, everyone(9))
    turned = find_copies(digests[turn], pictures[turn], everyone(9))

    def pairs(found: pd.DataFrame, names: np.ndarray) -> set[frozenset[int]]:
        return {frozenset((int(names[a]), int(names[b]))) for a, b in zip(found["row"], found["other"], strict=True)}

    assert pairs(straight, np.arange(9)) == pairs(turned, turn) == {frozenset((s, s + 6)) for s in range(3)}


def test_nothing_and_progress() -> None:
    lonely = find_copies(np.array(["a", "b"], object), small(scene(0), scene(0)), np.zeros((2, 0), int))
    assert (len(lonely), lonely.columns.tolist()) == (0, list(COLUMNS))
    seen: list[Event] = []
    find_copies(np.array(["a", "b"], object), small(scene(0), scene(1)), everyone(2), Progress(seen.append))
    assert [(event.stage, event.done, event.total) for event in seen] == [("copies", 1, 1)]


SAMPLES = pd.DataFrame(
    {
        "given_label": ["cat", "dog", "cat", "cat", "fox", "fox", "cow"],
        "split": ["train", "train", "train", "val", "train", "train", "train"],
    },
    index=pd.Index(list("abcdefg"), name="sample_id"),
)
FOUND = pd.DataFrame(
    [("a", 0, "b", "near", 0.1), ("b", 0, "a", "near", 0.1), ("c", 1, "d", "exact", 0.0), ("d", 1, "c", "exact", 0.0),
     ("e", 2, "f", "near", 0.05), ("f", 2, "e", "near", 0.05)],
    columns=["sample_id", "group", "copy_of", "kind", "difference"],
)  # fmt: skip
NOBODY = pd.DataFrame({name: [] for name in CURRENT}, index=pd.Index([], name="sample_id"), dtype="str")


def test_other_labels_first_then_other_splits() -> None:
    decided = pd.DataFrame({**{name: [None] for name in CURRENT}, "action": ["exclude"]}, index=["b"])
    groups = copy_groups(FOUND, SAMPLES, decided)
    assert [[each["id"] for each in group["samples"]] for group in groups] == [["a", "b"], ["c", "d"], ["e", "f"]]
    assert [(g["kind"], g["labels_differ"], g["splits_differ"]) for g in groups] == [
        ("near", True, False), ("exact", False, True), ("near", False, False),
    ]  # fmt: skip
    assert groups[0]["samples"][1] == {
        "id": "b", "label": "dog", "split": "train", "action": "exclude", "kind": "near", "difference": 0.1,
        "copy_of": "a",
    }  # fmt: skip
    assert len(copy_groups(FOUND, SAMPLES, NOBODY, top=1)) == 1
    assert summed(groups) == {"groups": 3, "images": 6, "exact": 1, "labels_differ": 1, "splits_differ": 1}
    assert sentence(summed(groups)) == (
        "3 groups of copies (1 exact), 6 images: 1 disagree about the label, 1 cross splits"
    )
    assert sentence(summed([])) == "No copies were found."


def test_where_an_image_stands() -> None:
    told = standing(FOUND, SAMPLES)
    assert told.to_dict() == {
        "a": OTHER_LABEL, "b": OTHER_LABEL, "c": OTHER_SPLIT, "d": OTHER_SPLIT, "e": SAME_LABEL, "f": SAME_LABEL,
        "g": "",
    }  # fmt: skip
    assert set(standing(None, SAMPLES)) == {""}
    assert standing(FOUND, SAMPLES.drop("b"))["a"] == ""  # its only copy is not there any more


def test_the_others_of_a_group() -> None:
    assert copies_of(FOUND, SAMPLES, "a") == [
        {"id": "b", "label": "dog", "split": "train", "kind": "near", "difference": 0.1}
    ]
    assert copies_of(FOUND, SAMPLES, "g") == []
    assert copies_of(None, SAMPLES, "a") == []
    many = FOUND.assign(group=0, copy_of=["d", "a", "d", "c", "a", "a"])
    assert copies_of(many, SAMPLES, "a")[0]["id"] == "d"
    assert len(copies_of(many, SAMPLES, "a", most=2)) == 2
