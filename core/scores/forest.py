"""An isolation forest over last-layer gradients that never makes the matrix of gradients.

An isolation tree reads one coordinate per node, and coordinate (c, j) of sample i is the single product `e_ic h_ij` of
the factors (`core/gradients/last_layer.py`). So scikit-learn's algorithm, with its defaults, runs on the factors:

- `GradientForest().fit(g).score(g)`: own trees, seeded, compiled. Tree t is a function of (seed, t) and of the rows.
- `GradientForest.from_sklearn(forest).score(g)`: trees of an `IsolationForest` fitted on `g.dense()`, scored on the
  factors; equal to 1e-10, which is the test of everything here.
- Gradients that are worked out when asked for (`LastLayerGradients.lazily`) are taken a block of rows at a time.
- `forest_stability(scores, share)`: how far forests of several seeds agree; 100 trees on about half of the top 5 %.

Kernels are compiled on first use and kept in the user's cache folder (where it cannot be written, compiled each time).
Source: Liu, Ting, Zhou, "Isolation Forest", ICDM 2008; Chhabra et al., arXiv 2405.03869, for gradients as its input.
"""

from __future__ import annotations

import sys
import tempfile
import typing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numba
import numpy as np
import platformdirs
from scipy.stats import rankdata

from core.axes import Array, Float, Float32, Int, Integer
from core.errors import InputError, SettingsError
from core.gradients.last_layer import LastLayerGradients
from core.progress import Progress

_ROWS = 4096  # rows of one task: small enough to stop within a moment, large enough to hide the hand-over
_CACHE_BYTES = 128 * 1024  # factors of the rows that walk one tree together: half of a small second-level cache


@dataclass(frozen=True)
class _Trees:
    """Trees side by side, padded to the widest: node 0 is the root, the right child stands after the left one."""

    column: Int[Array, "trees nodes"]  # flattened class-major, 0 at a leaf
    threshold: Float32[Array, "trees nodes"]  # a product up to it goes left; infinite at a leaf
    left: Int[Array, "trees nodes"]  # a leaf points to itself, so that every row may take the same number of steps
    length: Float[Array, "trees nodes"]  # path length at a leaf, the mean of the unbuilt sub-tree included
    depth: Int[Array, " trees"]
    n_columns: int
    subsample: int


@dataclass
class GradientForest:
    """scikit-learn's isolation forest, on the factors: `fit(g)`, then `score(g)`.

    `n_trees` trees, each grown on `subsample` rows drawn without replacement (all, where there are fewer) to a depth of
    `ceil(log2(subsample))`. The same seed gives the same bits on any number of threads (numba's setting, see
    `numba.set_num_threads`). Raises SettingsError for a number outside its range.
    """

    n_trees: int = 100
    subsample: int = 256
    seed: int = 0
    _trees: _Trees | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the settings."""
        for name, low in (("n_trees", 1), ("subsample", 1), ("seed", 0)):
            if getattr(self, name) < low:
                raise SettingsError(f"{name} is {getattr(self, name)}; a forest needs {low} or more.")

    def fit(
        self,
        g: LastLayerGradients,
        progress: Progress = Progress(),  # noqa: B008 (frozen)
        *,
        rows: Integer[Array, " _"] | None = None,
    ) -> GradientForest:
        """Grow the trees on these gradients, or on those at the positions `rows` of them, as `g.take(rows)` would.

        Raises InputError where there is no row.
        """
        there = len(g) if rows is None else len(rows)
        if there == 0:
            raise InputError("There is no gradient to grow a forest on. Pass one row or more.")
        size = min(self.subsample, there)
        grown = _room(self.n_trees, min(2 * size - 1, 2 ** (_depth_limit(size) + 1) - 1))

        def task(tree: int) -> None:
            # One generator per tree: what a tree looks like does not depend on who grew the one before it.
            chance = np.random.default_rng([self.seed, tree])
            drawn = chance.choice(there, size, replace=False)
            state = chance.integers(2**64, size=1, dtype=np.uint64)
            errors, inputs = _factors(g.take(drawn if rows is None else rows[drawn]))
            _run(_grow, errors, inputs, np.arange(size), state, _depth_limit(size), *(part[tree] for part in grown))

        for done in _in_threads(task, range(self.n_trees)):
            progress.report("forest", done, self.n_trees, "trees")
        column, threshold, left, depth, rows_there = grown
        length = depth + _average_path_length(rows_there)
        self._trees = _Trees(column, threshold, left, length, depth.max(axis=1), g.n_columns, size)
        return self

    def score(self, g: LastLayerGradients, progress: Progress = Progress()) -> Float[Array, " n"]:  # noqa: B008 (frozen)
        """scikit-learn's anomaly score (its `-score_samples`), float64 in 0..1: high = isolated early = anomalous.

        Where no column tells the rows apart (all gradients equal, or a single row) every score is 0.5. Raises
        InputError before `fit`, and for gradients of another width than the trees were grown on.
        """
        trees = self._trees
        if trees is None:
            raise InputError("This forest has no trees yet. Call fit first, or take some over with from_sklearn.")
        if g.n_columns != trees.n_columns:
            raise InputError(
                f"The trees were grown on {trees.n_columns:,} columns and these gradients have {g.n_columns:,}. Score "
                "gradients of the same layer."
            )
        nodes = _packed(trees, g.inputs.shape[1])
        total = np.zeros(len(g))

        def task(start: int) -> None:
            rows = slice(start, start + _ROWS)
            errors, inputs = _factors(g.take(rows))
            together = max(8, _CACHE_BYTES // (errors.itemsize * (errors.shape[1] + inputs.shape[1])))
            _run(_walk, errors, inputs, nodes, trees.length, trees.depth, together, total[rows])

        for done in _in_threads(task, range(0, len(g), _ROWS)):
            progress.report("forest", min(done * _ROWS, len(g)), len(g), "images")
        usual = len(trees.depth) * _average_path_length(np.array([trees.subsample]))[0]
        return np.exp2(-total / usual) if usual else np.full(len(g), 0.5)

    @classmethod
    def from_sklearn(cls, forest: Any) -> GradientForest:
        """Take over the trees of a fitted `IsolationForest` whose columns are those of `LastLayerGradients.dense()`.

        Raises InputError where it is not fitted, or where each tree saw only a part of the columns.
        """
        if not hasattr(forest, "estimators_"):
            raise InputError(f"This {type(forest).__name__} has no trees. Fit it on the dense gradients first.")
        width = int(forest.n_features_in_)
        if any(len(seen) != width for seen in forest.estimators_features_):
            raise InputError("Each tree of this forest saw only a part of the columns. Fit it with max_features=1.0.")
        fitted = [estimator.tree_ for estimator in forest.estimators_]
        room = _room(len(fitted), max(tree.node_count for tree in fitted))
        for position, tree in enumerate(fitted):
            _take_over(tree, *(part[position] for part in room))
        column, threshold, left, depth, rows_there = room
        length = depth + _average_path_length(rows_there)
        own = cls(n_trees=len(fitted), subsample=int(forest.max_samples_))
        own._trees = _Trees(column, threshold, left, length, depth.max(axis=1), width, own.subsample)
        return own


@dataclass(frozen=True)
class Stability:
    """Agreement between rankings, the mean over all pairs: of the top shares (Jaccard) and of all ranks (Spearman)."""

    jaccard: float
    spearman: float


def forest_stability(scores: Sequence[Float[Array, " n"]], share: float) -> Stability:
    """How far the rankings by these `scores` (high first, equal ones by row) agree on the top `share` and overall.

    Two rankings that are all ties agree (1); one that is all ties has a Spearman of 0 with any other. Raises InputError
    for fewer than two rankings or no row, SettingsError for a share outside (0, 1].
    """
    if len(scores) < 2 or len(scores[0]) == 0:
        raise InputError(f"Got {len(scores)} rankings of {len(scores[0]) if scores else 0} rows. Compare two or more.")
    if not 0 < share <= 1:
        raise SettingsError(f"The share is {share}; it lies above 0 and up to 1.")
    count = max(1, round(share * len(scores[0])))
    tops = [frozenset(np.argsort(-score, kind="stable")[:count].tolist()) for score in scores]
    ranks = [rankdata(score) - (len(score) + 1) / 2 for score in scores]
    jaccard = [len(a & b) / len(a | b) for a, b in combinations(tops, 2)]
    return Stability(float(np.mean(jaccard)), float(np.mean([_correlation(a, b) for a, b in combinations(ranks, 2)])))


def _correlation(a: Float[Array, " n"], b: Float[Array, " n"]) -> float:
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale else float(np.array_equal(a, b))


def _factors(g: LastLayerGradients) -> tuple[Float[Array, "n c"], Float[Array, "n d"]]:
    """Both factors as contiguous numpy arrays of one type; no copy where they are."""
    plain = g.numpy()
    dtype = np.result_type(plain.errors, plain.inputs)
    return np.ascontiguousarray(plain.errors, dtype), np.ascontiguousarray(plain.inputs, dtype)


def _depth_limit(subsample: int) -> int:
    return int(np.ceil(np.log2(max(subsample, 2))))


def _average_path_length(rows: Integer[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Mean path length of an isolation tree over so many rows (Liu et al., equation 1)."""
    many = np.maximum(rows, 3).astype(np.float64)
    length = 2 * (np.log(many - 1) + np.euler_gamma) - 2 * (many - 1) / many
    return np.where(rows <= 1, 0.0, np.where(rows == 2, 1.0, length))


def _room(n_trees: int, nodes: int) -> tuple[Array, Array, Array, Array, Array]:
    """Column, threshold, left child, depth and number of rows of every node; a node not used is a leaf of its own."""
    shape = (n_trees, nodes)
    left = np.tile(np.arange(nodes, dtype=np.int32), (n_trees, 1))
    depth, rows_there = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    return np.zeros(shape, np.int64), np.full(shape, np.inf, np.float32), left, depth, rows_there


def _take_over(tree: Any, column: Array, threshold: Array, left: Array, depth: Array, rows_there: Array) -> None:
    """Write one scikit-learn tree into its room, renumbered so that siblings stand side by side."""
    inner = np.flatnonzero(tree.children_left >= 0)
    place = np.zeros(tree.node_count, np.int64)
    first = 1 + 2 * np.arange(len(inner))
    place[tree.children_left[inner]], place[tree.children_right[inner]] = first, first + 1
    column[place[inner]], threshold[place[inner]] = tree.feature[inner], _rounded_down(tree.threshold[inner])
    left[place[inner]] = first
    depth[place], rows_there[place] = tree.compute_node_depths() - 1, tree.n_node_samples


def _rounded_down(threshold: Float[Array, " nodes"]) -> Float32[Array, " nodes"]:
    """Largest float32 not above: a float32 is at most the one exactly where it is at most the other."""
    nearest = threshold.astype(np.float32)
    return np.where(nearest > threshold, np.nextafter(nearest, np.float32(-np.inf)), nearest)


def _packed(trees: _Trees, width: int) -> Array:
    """Nodes as the kernel reads them, 16 bytes each: a step touches one cache line."""
    nodes = np.empty(trees.column.shape, _NODE)
    nodes["error"], nodes["input"] = np.divmod(trees.column, width)
    nodes["threshold"], nodes["left"] = trees.threshold, trees.left
    return nodes


def _in_threads(task: Callable[[int], None], items: Sequence[int]) -> Iterator[int]:
    """Do every task, on as many threads as numba is set to; yield how many are done, in order.

    The kernels hold no lock of Python's, so plain threads do; numba's own parallel loops take longer to compile and may
    end the process when two of its threads enter one.
    """
    with ThreadPoolExecutor(_threads()) as pool:
        waiting = [pool.submit(task, item) for item in items]
        try:
            for done, future in enumerate(waiting, start=1):
                future.result()
                yield done
        finally:
            for future in waiting:
                future.cancel()


def _threads() -> int:
    """Return numba's number of threads. To ask starts numba's own, which changes torch's number: that is put back."""
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 0
    threads: int = numba.get_num_threads()
    if torch:
        torch.set_num_threads(before)
    return threads


def _compiled(kernel: Callable[..., None]) -> Callable[..., None]:
    """Compile on first use, without Python's lock, kept in the user's cache folder (NUMBA_CACHE_DIR, where set, wins).

    numba reads the folder when the function is decorated; its setting is put back at once, so that others keep theirs.
    """
    settings: Any = numba.config
    before = settings.CACHE_DIR
    folder = Path(before or Path(platformdirs.user_cache_dir("gradsift", appauthor=False)) / "numba")
    settings.CACHE_DIR = str(folder)
    try:
        return typing.cast(Callable[..., None], numba.njit(nogil=True, cache=_is_writable(folder))(kernel))
    finally:
        settings.CACHE_DIR = before


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _run(kernel: Callable[..., None], *arguments: Any) -> None:
    try:
        kernel(*arguments)
    except OSError:  # compiled, but not kept: the disk is full, say; the second call finds it in memory
        kernel(*arguments)


_NODE = np.dtype([("error", np.int32), ("input", np.int32), ("threshold", np.float32), ("left", np.int32)])
_ATTEMPTS = 16
_SAME = np.float32(1e-7)  # scikit-learn's FEATURE_THRESHOLD: a smaller range counts as constant


@numba.njit(nogil=True)
@typing.no_type_check
def _random(state):
    """Uniform in [0, 1) with 53 bits (SplitMix64: Steele, Lea, Flood, OOPSLA 2014)."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@numba.njit(nogil=True)
@typing.no_type_check
def _range(errors, inputs, rows, c, j):
    """Least and greatest value of a column over these rows."""
    low = high = np.float32(errors[rows[0], c] * inputs[rows[0], j])
    for row in rows[1:]:
        value = np.float32(errors[row, c] * inputs[row, j])
        low, high = min(low, value), max(high, value)
    return low, high


@numba.njit(nogil=True)
@typing.no_type_check
def _largest(factor, rows):
    """Largest size of each entry over these rows."""
    top = np.zeros(factor.shape[1])
    for row in rows:
        for at in range(factor.shape[1]):
            top[at] = max(top[at], abs(factor[row, at]))
    return top


@numba.njit(nogil=True)
@typing.no_type_check
def _search(errors, inputs, rows, state):
    """A column drawn uniformly among all that vary over these rows, -1 where none does: one pass over the columns."""
    top_e, top_h = _largest(errors, rows), _largest(inputs, rows)
    found, column = 0, -1
    for c in range(len(top_e)):
        for j in range(len(top_h)):
            if top_e[c] * top_h[j] > 4.9e-8:  # else its range is below 1e-7 whatever the rows
                low, high = _range(errors, inputs, rows, c, j)
                if high > low + _SAME:
                    found += 1
                    if _random(state) * found < 1:
                        column = c * len(top_h) + j
    return column


@numba.njit(nogil=True)
@typing.no_type_check
def _draw(errors, inputs, rows, state):
    """The same draw, fast where most columns vary: try a few, then look at all. Gives the column and its range."""
    width = inputs.shape[1]
    for _ in range(_ATTEMPTS):
        column = int(_random(state) * (errors.shape[1] * width))
        low, high = _range(errors, inputs, rows, column // width, column % width)
        if high > low + _SAME:
            return column, low, high
    column = _search(errors, inputs, rows, state)
    if column >= 0:
        low, high = _range(errors, inputs, rows, column // width, column % width)
    return column, low, high


@_compiled
@typing.no_type_check
def _grow(errors, inputs, rows, state, limit, column, threshold, left, depth, rows_there):
    """Grow one tree on `rows` (reordered in place) into the arrays that follow, node by node."""
    width = inputs.shape[1]
    begin = np.zeros(len(column), np.int64)
    rows_there[0] = len(rows)
    n_nodes, node = 1, 0
    while node < n_nodes:
        start, stop = begin[node], begin[node] + rows_there[node]
        if stop - start > 1 and depth[node] < limit:
            chosen, low, high = _draw(errors, inputs, rows[start:stop], state)
            if chosen >= 0:
                c, j = chosen // width, chosen % width
                cut = low + _random(state) * (np.float64(high) - low)
                split = np.float32(cut)
                if split > cut:  # rounded down, a float32 lies on the same side as with the double
                    split = np.nextafter(split, np.float32(-np.inf))
                if cut >= high:
                    split = low
                middle = start
                for at in range(start, stop):
                    if np.float32(errors[rows[at], c] * inputs[rows[at], j]) <= split:
                        rows[at], rows[middle] = rows[middle], rows[at]
                        middle += 1
                column[node], threshold[node], left[node] = chosen, split, n_nodes
                begin[n_nodes], begin[n_nodes + 1] = start, middle
                rows_there[n_nodes], rows_there[n_nodes + 1] = middle - start, stop - middle
                depth[n_nodes] = depth[n_nodes + 1] = depth[node] + 1
                n_nodes += 2
        node += 1


@_compiled
@typing.no_type_check
def _walk(errors, inputs, nodes, length, depth, together, total):
    """Add every tree's path length to `total`; rows go in groups whose factors stay cached while all trees pass."""
    at = np.zeros(together, np.int32)
    for start in range(0, len(total), together):
        stop = min(start + together, len(total))
        for t in range(len(nodes)):
            at[:] = 0
            for _ in range(depth[t]):
                for row in range(start, stop):
                    node = nodes[t, at[row - start]]
                    value = np.float32(errors[row, node.error] * inputs[row, node.input])
                    at[row - start] = node.left + (value > node.threshold)
            for row in range(start, stop):
                total[row] += length[t, at[row - start]]
