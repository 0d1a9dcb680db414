"""The forest on the factors beside scikit-learn's on the dense matrix: seconds and peak memory, each in a new process.

    python tests/bench/forest.py              the comparison, and alone on wider and longer data
    python tests/bench/forest.py --only small the comparison alone

Both start from the same factors (softmax errors, half-sparse features). scikit-learn first has to multiply them out.
Every row runs on the threads it names; scikit-learn uses one, as it does by default. Compiling is named apart.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SIZES = {
    "small": (50_000, 10),
    "wide": (50_000, 100),
    "long": (1_000_000, 10),
}  # rows, classes; 512 features and a bias
FEATURES = 512
TREES = 100


def factors(rows, classes):
    """Made in place, block by block, so that making them leaves no peak behind."""
    import numpy as np

    from core.gradients.last_layer import LastLayerGradients

    chance = np.random.default_rng(0)
    errors, inputs = np.empty((rows, classes), np.float32), np.ones((rows, FEATURES + 1), np.float32)
    for start in range(0, rows, 10_000):
        block = slice(start, min(start + 10_000, rows))
        size = block.stop - start
        np.maximum(chance.standard_normal((size, FEATURES), np.float32), 0, out=inputs[block, :-1])
        logits, labels = 3 * chance.standard_normal((size, classes), np.float32), chance.integers(classes, size=size)
        errors[block] = LastLayerGradients.from_logits(logits, labels, inputs[block, :1]).errors
    return LastLayerGradients(errors, inputs)


def peak_mb():
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


class Clock:
    def __init__(self):
        self.seconds, self._last = {}, time.perf_counter()

    def lap(self, name):
        now = time.perf_counter()
        self.seconds[name], self._last = now - self._last, now


def ours(size):
    import numpy as np

    from core.gradients.last_layer import LastLayerGradients
    from core.scores.forest import GradientForest

    tiny = LastLayerGradients(np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32))
    compiling = Clock()
    GradientForest(2).fit(tiny).score(tiny)
    compiling.lap("compile")
    g = factors(*SIZES[size])
    before, clock = peak_mb(), Clock()
    forest = GradientForest(TREES).fit(g)
    clock.lap("fit")
    forest.score(g)
    clock.lap("score")
    size_mb = (g.errors.nbytes + g.inputs.nbytes) / 1e6
    return compiling.seconds | clock.seconds | {"memory": peak_mb() - before, "factors": size_mb}


def theirs(size):
    import numpy as np
    from sklearn.ensemble import IsolationForest

    from core.scores.forest import GradientForest

    g = factors(*SIZES[size])
    before, clock = peak_mb(), Clock()
    dense = g.dense()
    clock.lap("build")
    forest = IsolationForest(n_estimators=TREES, random_state=0).fit(dense)
    clock.lap("fit")
    score = -forest.score_samples(dense)
    clock.lap("score")
    memory = peak_mb() - before
    difference = float(np.abs(GradientForest.from_sklearn(forest).score(g) - score).max())
    return clock.seconds | {"memory": memory, "difference": difference}


def measured(who, size, threads, **environment):
    """Run one row in a process of its own and return what it printed."""
    limits = dict.fromkeys(("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    env = os.environ | limits | {"PYTHONPATH": str(ROOT)} | environment
    command = [sys.executable, __file__, "--row", who, "--only", size]
    return json.loads(subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout)


def line(name, threads, row):
    seconds = [row.get(part, 0.0) for part in ("build", "fit", "score")]
    cells = "".join(f"{value:10.3f}" for value in (*seconds, sum(seconds)))
    print(f"{name:34s}{threads:8d}{cells}{row['memory']:12.0f}")
    return sum(seconds)


def main(sizes):
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with tempfile.TemporaryDirectory() as empty:
        cold = measured("ours", "small", 1, NUMBA_CACHE_DIR=empty)["compile"]
    warm = measured("ours", "small", 1)
    print(f"{cores} cores, {TREES} trees; compiling: {cold:.1f} s at first, {warm['compile']:.1f} s from the cache\n")
    print(f"{'':34s}{'threads':>8s}{'build s':>10s}{'fit s':>10s}{'score s':>10s}{'all s':>10s}{'peak MB':>12s}")
    for size in sizes:
        rows, classes = SIZES[size]
        name = f"{rows:,} × {classes * (FEATURES + 1):,}"
        alone = warm if size == "small" else measured("ours", size, 1)
        taken = line(f"factors, {name}", 1, alone)
        if cores > 1:
            line(f"factors, {name}", cores, measured("ours", size, cores))
        if size == "small":
            dense = measured("theirs", size, 1)
            their_time = line(f"scikit-learn, {name}", 1, dense)
            parts = ", ".join(f"{part} {dense[part] / alone[part]:.1f}" for part in ("fit", "score"))
            memory = dense["memory"] / (alone["memory"] + alone["factors"])
            print(f"  one thread: {their_time / taken:.1f} times faster, building included ({parts})")
            print(f"  memory: {memory:.1f} times less, our {alone['factors']:.0f} MB of factors counted")
            print(f"  scikit-learn's own trees on the factors: largest difference {dense['difference']:.1e}")
    print("\nPeak MB: beyond the factors, which both are given. Figures on a busy machine are only an indication.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=SIZES, help="one size instead of all")
    parser.add_argument("--row", choices=("ours", "theirs"), help="what a process of its own runs; prints JSON")
    chosen = parser.parse_args()
    if chosen.row:
        print(json.dumps({"ours": ours, "theirs": theirs}[chosen.row](chosen.only)))
    else:
        main([chosen.only] if chosen.only else list(SIZES))
