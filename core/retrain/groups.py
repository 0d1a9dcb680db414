"""Groups of images within which a change can help or hurt: classes, columns that came along, and proposed clusters.

A mean hides who pays for it: what looks wrong in a rare group may be its only sign (METHODS 8.6). Columns with few
values are taken as they are. Where nothing is known, clusters of the recorded features within each class are proposed;
they are no groups that anyone named, and are called by class and size: "cat 1" is the largest of the cats.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from core.axes import Array, Float, Integer
from core.data.manifest import Manifest
from core.errors import InputError
from core.review.groups import CLASS, columns_of, values_of
from core.verify.losses import CLUSTER

NONE = "none"  # how a person asks for classes alone
MOST_VALUES = 50  # of a column: with more, hardly any test rows are left for each
MOST_CLASSES = 50  # that clusters are proposed within
PER_CLASS = 4  # clusters of a class
SMALLEST = 25  # training rows that a cluster should have
FITTED = 5_000  # rows of a class that its centres are found with, at most


def groupings(
    manifest: Manifest, features: Float[Array, "n d"] | None, asked: Sequence[str] | None = None
) -> dict[str, Array]:
    """Return grouping to the value of every row of the manifest, `class` first.

    Args:
        manifest: the rows.
        features: of every row, where there are any: clusters are proposed from them.
        asked: names of columns, `cluster` or `none`; None: every column with 2 to 50 values, and clusters.

    Raises:
        InputError: a column is not there, or has too many values; or clusters were asked for without features.
    """
    found = {CLASS: _values(manifest, CLASS)}
    if asked is None:
        columns = {name: _values(manifest, name) for name in columns_of(manifest.rows) if name != CLASS}
        found |= {name: values for name, values in columns.items() if 2 <= len(set(values)) <= MOST_VALUES}
        if features is not None and len(manifest.classes) <= MOST_CLASSES and CLUSTER not in found:
            proposed = clusters(features, manifest.labels, manifest.train, manifest.classes)
            if len(set(proposed)) > len(set(found[CLASS])):  # else every class is too small to be parted
                found[CLUSTER] = proposed
        return found
    for name in asked:
        if name in (NONE, CLASS):
            continue
        if name == CLUSTER and CLUSTER not in columns_of(manifest.rows):
            found[name] = _proposed(manifest, features)
            continue
        found[name] = _values(manifest, name)
        if (count := len(set(found[name]))) > MOST_VALUES:
            raise InputError(
                f"The column {name!r} has {count:,} values; up to {MOST_VALUES} can be compared. "
                "Name a column that many images share."
            )
    return found


def clusters(
    features: Float[Array, "n d"], labels: Integer[Array, " n"], train: Array, classes: Sequence[str], seed: int = 0
) -> Array:
    """Name the cluster of every row: of its label's class, the one whose centre is nearest.

    Up to four k-means clusters of the training rows of each class, in standardised features; fewer where a cluster
    would have fewer than 25 rows. Names are "<class> 1" (most training rows) to "<class> 4".
    """
    found = np.empty(len(labels), object)
    mean, deviation = _scale(features, train)
    for code, name in enumerate(classes):
        rows = np.flatnonzero(labels == code)
        if not len(rows):
            continue
        standard = (np.asarray(features[rows], dtype=np.float32) - mean) / deviation
        places = _places(standard, train[rows], seed)
        sizes = np.bincount(places[train[rows]], minlength=int(places.max()) + 1)
        number = np.empty(len(sizes), np.int64)
        number[np.argsort(-sizes, kind="stable")] = np.arange(1, len(sizes) + 1)
        found[rows] = [f"{name} {number[place]}" for place in places]
    return found


def _places(standard: Float[Array, "r d"], train: Array, seed: int) -> Integer[Array, " r"]:
    """The position of the nearest centre of each row; the centres are of training rows."""
    from sklearn.cluster import KMeans

    fitted = np.flatnonzero(train)[:: -(-int(train.sum()) // FITTED) or 1]
    count = min(PER_CLASS, len(fitted) // SMALLEST)
    if count < 2:
        return np.zeros(len(standard), np.int64)
    means = KMeans(count, n_init=3, max_iter=100, random_state=seed).fit(standard[fitted])
    return np.asarray(means.predict(standard)).astype(np.int64)


def _scale(features: Float[Array, "n d"], train: Array) -> tuple[Array, Array]:
    rows = np.flatnonzero(train)
    some = np.asarray(features[rows[:: -(-len(rows) // 20_000)]], dtype=np.float32)
    deviation = some.std(0)
    return some.mean(0), np.where(deviation > 1e-6, deviation, 1.0).astype(np.float32)


def _proposed(manifest: Manifest, features: Float[Array, "n d"] | None) -> Array:
    if features is None:
        raise InputError("Clusters are proposed from recorded features, and there are none. Run `gradsift sift` first.")
    return clusters(features, manifest.labels, manifest.train, manifest.classes)


def _values(manifest: Manifest, name: str) -> Array:
    """The values of a column as text, in the order of the manifest's rows."""
    return values_of(manifest.rows, name).to_numpy(object)
