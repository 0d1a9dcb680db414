"""The drawn source: what is planted and how often, what an equal seed gives, and that copies are copies."""

import hashlib
import io
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from core.data.manifest import Manifest
from core.data.sources import SourceOptions, open_source
from core.data.sources.pictogram_art import FORMS, GROUNDS, JUNK, chalk, junk, mixture, near_copy, pictogram
from core.data.sources.pictograms import CLASSES, LIKE, PAIRS, PLANTED, _plan
from core.errors import InputError

COUNTS = {
    "": 1374,
    "wrong label": 100,
    "look-alike label": 100,
    "hard": 44,
    "rare": 44,
    "junk": 44,
    "near copy": 64,
    "copy, other label": 30,
}
WRONG = ["wrong label", "look-alike label", "copy, other label"]


def frame(seed: int = 0, *, test: bool = False) -> pd.DataFrame:
    """The rows to train on, or those to test on."""
    rows = open_source("pictograms", SourceOptions(seed=seed)).rows().frame
    return rows[(rows["split"] == "test") == test]


def pngs(rows: list[int], seed: int = 0) -> list[bytes]:
    ids = [f"pictograms/{row:05d}.png" for row in rows]
    found = dict(open_source("pictograms", SourceOptions(seed=seed)).read(ids))
    result = [found[sample] for sample in ids]
    assert all(isinstance(one, bytes) for one in result)
    return [one for one in result if isinstance(one, bytes)]


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), dtype=np.float64)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# --- what is planted ---


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_everything_is_planted_in_its_number_with_its_truth(seed: int) -> None:
    rows = frame(seed)
    assert Counter(rows["planted"]) == COUNTS
    wrong = rows["given_label"] != rows["true_label"]
    assert set(rows.loc[wrong, "planted"]) == set(WRONG)
    assert wrong.sum() == sum(COUNTS[name] for name in WRONG) == 230
    drawn = _plan(seed)["thing"]
    things = rows["planted"] != "junk"
    assert (rows.loc[things, "true_label"] == drawn[things]).all()
    assert drawn.value_counts().to_dict() == dict.fromkeys(CLASSES, 180)
    assert set(rows.loc[rows["planted"] == "rare", "true_label"]) == {"tree", "clock"}


def test_a_look_alike_label_is_that_of_the_pair_and_other_labels_go_everywhere() -> None:
    assert sorted(name for pair in PAIRS for name in pair) == sorted(CLASSES)
    rows = frame()
    alike = rows[rows["planted"] == "look-alike label"]
    assert (alike["given_label"] == alike["true_label"].map(LIKE)).all()
    uniform = rows[rows["planted"] == "wrong label"]
    assert 0 < (uniform["given_label"] == uniform["true_label"].map(LIKE)).mean() < 0.3
    assert uniform["given_label"].nunique() == len(CLASSES)


@pytest.mark.parametrize("seed", [0, 3])
def test_95_percent_of_each_class_stand_on_its_usual_ground(seed: int) -> None:
    rows = frame(seed)
    junk_rows, chalk_rows = rows["planted"] == "junk", rows["planted"] == "rare"
    assert rows.loc[junk_rows, "group"].isna().all()
    assert (rows.loc[chalk_rows, "group"] == "board").all()
    grounded = rows[~junk_rows & ~chalk_rows]
    assert set(grounded["group"]) == {"usual ground", "other ground"}
    assert (grounded["group"] == "usual ground").mean() == pytest.approx(0.95, abs=0.01)
    per_class = (grounded["group"] == "usual ground").groupby(grounded["true_label"]).mean()
    assert per_class.between(0.92, 0.98).all()


def test_the_group_says_what_the_ground_is() -> None:
    plan = _plan(0)
    on_blue = {"boat", "fish", "umbrella", "key", "clock"}
    some = plan[plan["planted"] == ""].head(300)
    for row, line in some.iterrows():
        edge = np.concatenate([pixels(pngs([int(str(row))])[0])[:2].reshape(-1, 3)]).mean(axis=0)
        assert bool(edge[2] > edge[0]) == ((line["thing"] in on_blue) == (line["group"] == "usual ground"))


def test_the_test_split_is_right_and_shows_the_rare_more_often() -> None:
    rows = frame(test=True)
    assert (rows["given_label"] == rows["true_label"]).all()
    assert rows["given_label"].value_counts().to_dict() == dict.fromkeys(CLASSES, 60)
    grounds = rows.groupby("group")["given_label"].value_counts()
    assert grounds["board"].to_dict() == {"tree": 20, "clock": 20}
    assert grounds["other ground"].to_dict() == dict.fromkeys(CLASSES, 10)
    assert set(rows["planted"]) == {"", "rare"}
    assert ((rows["planted"] == "rare") == (rows["group"] == "board")).all()


def test_the_test_split_is_drawn_by_the_seed_and_repeats_no_picture() -> None:
    ids = frame(test=True)["sample_id"].tolist()
    first, other = (
        [hashlib.sha256(png).hexdigest() for _, png in open_source("pictograms", SourceOptions(seed=seed)).read(ids)]
        for seed in (0, 1)
    )
    trained = {hashlib.sha256(png).hexdigest() for png in pngs(list(range(1800)))}
    assert len(set(first)) == 600
    assert not set(first) & (set(other) | trained)


# --- pictures ---


def test_an_equal_seed_draws_equal_bytes_and_another_seed_others() -> None:
    rows = [0, 5, 700, 1799]
    first = [hashlib.sha256(png).hexdigest() for png in pngs(rows)]
    again = [hashlib.sha256(png).hexdigest() for png in pngs(rows[::-1])][::-1]
    assert first == again
    assert not set(first) & {hashlib.sha256(png).hexdigest() for png in pngs(rows, seed=1)}
    pd.testing.assert_frame_equal(frame(2), frame(2))
    assert (frame(1)["planted"] != frame(2)["planted"]).any()


def test_copies_are_near_their_original_and_no_two_files_are_equal() -> None:
    plan = _plan(0)
    copies = plan.index[plan["planted"].isin(["near copy", "copy, other label"])].tolist()
    originals = plan.loc[copies, "original"].tolist()
    assert len(set(originals)) == len(originals)
    assert set(plan.loc[originals, "planted"]) == {""}
    assert (plan.loc[copies, "thing"].to_numpy() == plan.loc[originals, "thing"].to_numpy()).all()
    images, first = [pixels(png) for png in pngs(copies)], [pixels(png) for png in pngs(originals)]
    # A shift is undone by the best of its 25 steps; what is left is brightness and noise.
    near = [best_difference(one, other) for one, other in zip(images, first, strict=True)]
    far = [best_difference(one, other) for one, other in zip(images, first[1:] + first[:1], strict=True)]
    assert max(near) < 20 < np.median(far)
    digests = [hashlib.sha256(png).hexdigest() for png in pngs(list(range(len(plan))))]
    assert len(set(digests)) == len(plan)


def best_difference(one: np.ndarray, other: np.ndarray) -> float:
    inner = one[2:-2, 2:-2]
    windows = [other[y : y + 60, x : x + 60] for y in range(5) for x in range(5)]
    return min(float(np.abs(inner - window).mean()) for window in windows)


@pytest.mark.parametrize("name", CLASSES)
def test_every_thing_is_drawn_in_every_way(name: str) -> None:
    for seed in range(12):
        for ground in GROUNDS:
            drawn = [
                pictogram(name, ground, rng(seed)),
                mixture(name, LIKE[name], ground, rng(seed)),
                chalk(name, rng(seed)),
                near_copy(pictogram(name, ground, rng(seed)), rng(seed)),
            ]
            for image in drawn:
                assert (image.mode, image.size) == ("RGB", (64, 64))
                assert np.asarray(image).std() > 5
    other = next(one for one in FORMS if one != name)
    mine, theirs = (np.asarray(pictogram(one, "blue", rng(3)), dtype=np.int64) for one in (name, other))
    assert (np.abs(mine - theirs).max(axis=-1) > 40).mean() > 0.05


@pytest.mark.parametrize("kind", JUNK)
def test_junk_shows_little_or_too_much(kind: str) -> None:
    images = [np.asarray(junk(kind, "fish", "blue", rng(seed)), dtype=np.float64) for seed in range(10)]
    spread = np.mean([image.std(axis=(0, 1)).mean() for image in images])
    assert spread > 60 if kind == "noise" else spread < 60
    assert all(image.shape == (64, 64, 3) for image in images)


# --- as a source ---


def test_the_manifest_takes_every_picture_and_its_truth() -> None:
    manifest = Manifest.read("pictograms", limit=200)
    rows = manifest.rows
    assert (len(rows), len(manifest.problems), manifest.classes) == (200, 0, CLASSES)
    assert list(rows.columns[-3:]) == ["group", "true_label", "planted"]
    assert set(rows[["width", "height"]].to_numpy().ravel()) == {64}
    assert manifest.source.flip
    assert set(rows["planted"]) <= set(COUNTS)
    assert rows["split"].value_counts().to_dict() == {"train": 133, "val": 17, "test": 50}
    known = pd.concat([frame(), frame(test=True)]).set_index("sample_id").loc[rows["sample_id"]]
    for column in ("given_label", "true_label", "planted"):
        assert rows[column].tolist() == known[column].tolist()


def test_the_table_in_the_docstring_is_what_is_planted() -> None:
    import core.data.sources.pictograms as module

    assert {"": COUNTS[""], **PLANTED} == COUNTS
    for name, count in COUNTS.items():
        assert f"| {f'`{name}`' if name else '(empty)'} | {count:,} |" in str(module.__doc__)


def test_an_unknown_id_and_a_colon_are_refused() -> None:
    [(sample, error)] = open_source("pictograms").read(["pictograms/99999.png"])
    assert (sample, str(error)) == ("pictograms/99999.png", "no such pictogram")
    with pytest.raises(InputError, match="The source pictograms takes nothing after it, but got 'x'"):
        open_source("pictograms:x")
