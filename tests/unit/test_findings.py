"""The frozen record of one run: written, read back, and damaged."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.errors import ProjectError
from core.findings import EVIDENCE, Findings, Neighbours, load_neighbours, save_neighbours


@pytest.fixture
def made() -> Findings:
    rng, n = np.random.default_rng(0), 5
    table = pd.DataFrame({"sample_id": ["b", "a", "ä\n", "=cmd()", "<img src=x onerror=1>"]})
    table = table.assign(**dict.fromkeys(EVIDENCE, "x"), score_loss=rng.random(n), raw_loss=rng.random(n))
    table = table.assign(score_aum=rng.random(n), raw_aum=rng.random(n), suspicion=rng.random(n))
    return Findings(
        table.set_index("sample_id"), ("cat", "dög"), {"suspicion": {"scores": ["loss"]}, "fitted": None},
        rng.random((n, 2)).astype(np.float32), rng.random((3, n)).astype(np.float32),
    )  # fmt: skip


def neighbours(seed: int) -> Neighbours:
    rng = np.random.default_rng(seed)
    return Neighbours(rng.integers(0, 5, (5, 2)), rng.random((5, 2)).astype(np.float32))


def test_what_was_written_is_read(made: Findings, tmp_path: Path) -> None:
    for name in ("scores", "near", "map"):
        (tmp_path / name).mkdir()
    made.save_scores(tmp_path / "scores")
    kept = {"features": neighbours(1), "gradients": neighbours(2)}
    for space, near in kept.items():
        save_neighbours(tmp_path / "near", space, near)
        np.save(tmp_path / "map" / f"{space}.npy", near.similarity)
    found = Findings.load(tmp_path / "scores", tmp_path / "near", tmp_path / "map")
    pd.testing.assert_frame_equal(found.table(), made.table())
    assert found.classes == made.classes
    assert dict(found.run) == dict(made.run)
    assert len(found) == 5
    np.testing.assert_array_equal(found.head_probabilities, made.head_probabilities)
    np.testing.assert_array_equal(found.curves, made.curves)
    for space, near in kept.items():
        np.testing.assert_array_equal(found.neighbours[space].rows, near.rows)
        np.testing.assert_array_equal(found.neighbours[space].similarity, near.similarity)
        np.testing.assert_array_equal(found.maps[space], near.similarity)


def test_neighbours_and_maps_may_be_missing(made: Findings, tmp_path: Path) -> None:
    made.save_scores(tmp_path)
    found = Findings.load(tmp_path)
    assert found.neighbours == {}
    assert found.maps == {}
    assert dict(load_neighbours(tmp_path)) == {}


def test_the_arrays_are_mapped_until_they_are_asked_into_memory(made: Findings, tmp_path: Path) -> None:
    (tmp_path / "scores").mkdir()
    made.save_scores(tmp_path / "scores")
    save_neighbours(tmp_path / "scores", "features", neighbours(0))
    found = Findings.load(tmp_path / "scores", tmp_path / "scores")
    assert isinstance(found.curves, np.memmap)
    held = found.in_memory()
    shutil.rmtree(tmp_path / "scores")
    for array in (held.curves, held.head_probabilities, *held.neighbours["features"]):
        assert type(array) is np.ndarray
        assert array.flags.owndata
    np.testing.assert_array_equal(held.curves, made.curves)
    np.testing.assert_array_equal(held.neighbours["features"].rows, neighbours(0).rows)


def test_the_table_is_a_copy(made: Findings) -> None:
    table = made.table()
    table["suspicion"] = -1.0
    assert made.samples["suspicion"].min() >= 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.samples = table  # type: ignore[misc]


def test_score_names_come_from_the_columns(made: Findings) -> None:
    assert made.score_names == ("loss", "aum")


@pytest.mark.parametrize("name", ["samples.parquet", "head_probabilities.npy", "curves.npy", "findings.json"])
@pytest.mark.parametrize("damage", ["gone", "cut", "garbled", "empty"])
def test_damage_is_told_with_what_to_do(name: str, damage: str, made: Findings, tmp_path: Path) -> None:
    made.save_scores(tmp_path)
    path = tmp_path / name
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes({"cut": path.read_bytes()[:40], "garbled": b"hello" * 99, "empty": b""}[damage])
    with pytest.raises(ProjectError, match="cannot be read .*Delete that folder and run `gradsift sift` again"):
        Findings.load(tmp_path)


def test_a_record_of_another_make_is_told(made: Findings, tmp_path: Path) -> None:
    made.save_scores(tmp_path)
    (tmp_path / "findings.json").write_text(json.dumps({"run": {}}))
    with pytest.raises(ProjectError, match="'classes'"):
        Findings.load(tmp_path)
