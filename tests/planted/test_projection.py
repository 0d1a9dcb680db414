"""The map by the company each point keeps: planted clusters stay together, and nothing depends on coordinates."""

import subprocess
import sys
from itertools import pairwise

import numba
import numpy as np
import pytest

from core.atlas.neighbours import Neighbours, feature_neighbours
from core.atlas.projection import umap_map
from core.errors import InputError, Stopped
from core.progress import Progress


def clusters(n=300, groups=5, d=16, seed=0):
    chance = np.random.default_rng(seed)
    group = chance.integers(groups, size=n)
    return (chance.normal(size=(groups, d)) * 3)[group] + chance.normal(size=(n, d)), group


def nearest_on_map(place, k):
    distance = np.linalg.norm(place[:, None] - place[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    return distance.argsort(axis=1)[:, :k]


def kept(place, near):
    """Share of each point's neighbours that are among its nearest on the map."""
    found = nearest_on_map(place, near.rows.shape[1])
    return np.mean([len(set(a) & set(b)) / len(a) for a, b in zip(near.rows.tolist(), found.tolist(), strict=True)])


@pytest.mark.parametrize("seed", [0, 1])
def test_planted_clusters_stay_together(seed):
    points, group = clusters(seed=seed)
    near = feature_neighbours(points, 15)
    place = umap_map(points, near, seed)
    assert place.shape == (300, 2)
    assert (group[nearest_on_map(place, 10)] == group[:, None]).mean() > 0.95
    at_random = kept(np.random.default_rng(0).normal(size=(300, 2)), near)
    assert at_random < 0.1
    assert kept(place, near) > 0.3


def test_the_given_neighbours_decide_and_not_the_points():
    """Points without any structure, neighbours planted: the map shows what the neighbours say."""
    chance = np.random.default_rng(0)
    group = np.arange(200) % 4
    rows = np.array([chance.permutation(np.setdiff1d(np.flatnonzero(group == group[i]), i))[:12] for i in range(200)])
    place = umap_map(chance.normal(size=(200, 8)), Neighbours(rows, np.full(rows.shape, 0.9)), 0)
    assert (group[nearest_on_map(place, 10)] == group[:, None]).mean() > 0.95


def test_the_same_seed_gives_the_same_bits():
    points, _ = clusters(n=120)
    near = feature_neighbours(points, 10)
    before = numba.get_num_threads()
    first = umap_map(points, near, 3)
    np.testing.assert_array_equal(first, umap_map(points, near, 3))
    assert (first != umap_map(points, near, 4)).any()
    assert numba.get_num_threads() == before


@pytest.mark.parametrize("n", [0, 1, 2, 3, 9, 10, 12, 25])
def test_few_points_are_placed(n):
    points, _ = clusters(n=n)
    place = umap_map(points, feature_neighbours(points, 15), 0)
    assert place.shape == (n, 2)
    assert np.isfinite(place).all()


@pytest.mark.parametrize("case", ["equal points", "zero vectors", "one column", "islands", "opposite"])
def test_awkward_points_are_placed(case):
    points, _ = clusters(n=60)
    if case == "equal points":
        points = points[np.zeros(60, int)]
    elif case == "zero vectors":
        points[:40] = 0
    elif case == "one column":
        points = points[:, :1]
    elif case == "islands":  # every group sees only itself
        points = np.repeat(np.eye(12), 5, axis=0)
    else:
        points = np.vstack((points[:30], -points[:30]))
    place = umap_map(points, feature_neighbours(points, 4), 0)
    assert np.isfinite(place).all()
    assert len(np.unique(place, axis=0)) == 60


def test_rows_that_are_no_neighbours_of_anyone_are_placed_too():
    points, group = clusters()
    train = np.random.default_rng(1).random(300) < 0.8
    place = umap_map(points, feature_neighbours(points, 15, train), 0)
    assert (group[nearest_on_map(place, 10)] == group[:, None])[~train].mean() > 0.9


def test_progress_is_told_and_a_stop_leaves_things_as_found():
    points, _ = clusters(n=100)
    near, seen, before = feature_neighbours(points, 10), [], numba.get_num_threads()
    umap_map(points, near, 0, progress=Progress(seen.append))
    assert seen[-1].total == 200
    assert seen[-1].unit == "epochs"
    assert all(a.done <= b.done for a, b in pairwise(seen))
    with pytest.raises(Stopped):
        umap_map(points, near, 0, progress=Progress(should_stop=lambda: True))
    assert numba.get_num_threads() == before


def test_other_rows_are_refused():
    points, _ = clusters(n=50)
    with pytest.raises(InputError, match="Got 50 points and the neighbours of 49"):
        umap_map(points, feature_neighbours(points[1:], 5), 0)


def test_umap_is_loaded_when_it_is_needed():
    code = "import sys, core.atlas.projection; sys.exit('umap' in sys.modules or 'numba' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_points_in_a_mapped_file_in_half_precision_start_where_the_others_do(tmp_path):
    points, _ = clusters(n=200)
    np.save(tmp_path / "points.npy", points.astype(np.float16))
    mapped = np.load(tmp_path / "points.npy", mmap_mode="r")
    nobody = Neighbours(np.zeros((200, 0), int), np.zeros((200, 0)))  # then the start is the map
    start = umap_map(mapped.astype(np.float64), nobody, 0)
    np.testing.assert_allclose(umap_map(mapped, nobody, 0), start, atol=1e-4)
    centred = mapped.astype(np.float64) - mapped.astype(np.float64).mean(axis=0)
    first = np.linalg.svd(centred, full_matrices=False)[2][0]
    assert abs(np.corrcoef(start[:, 0], centred @ first)[0, 1]) == pytest.approx(1, abs=1e-6)
