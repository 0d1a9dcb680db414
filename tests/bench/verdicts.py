"""How often the rule of `gradsift verify` gives which word, where the effect is known because it was drawn.

    python tests/bench/verdicts.py [--runs 400]

Each world has 2,000 test rows in ten classes, two further groupings, and a margin per row; a row is right where its
margin is above 0. A training moves margins by class and by row; in the full form half of that is shared by the arms of
a seed. The arm moves all margins by its effect, the control moves none. "spread" is the standard deviation between
seeds of the difference between two arms without an effect, in points; "effect" is what the shift is worth in points.
"""

from __future__ import annotations

import argparse
from collections import Counter

import numpy as np
import pandas as pd

from core.verify.compare import verdict
from core.verify.record import FULL, QUICK, Outcome, TestSet, Verification

ROWS, CLASSES, SHARED = 2000, 10, 0.5
SHIFTS = (0.0, 0.05, 0.1, 0.2)  # of the margins
SETUPS = ((QUICK, 20, 0.05, 0.1), (FULL, 3, 0.1, 0.4), (FULL, 5, 0.1, 0.4))  # form, trainings, moves by class and row


def world(rng: np.random.Generator, form: str, trainings: int, by_class: float, by_row: float, shift: float) -> tuple:
    """A verification, and the accuracies of its first two arms in every training."""
    labels = np.concatenate([np.arange(CLASSES), rng.integers(0, CLASSES, ROWS - CLASSES)])
    margins = rng.normal(1.0, 1.2, ROWS)

    def moves() -> np.ndarray:
        return rng.normal(0, by_class, CLASSES)[labels] + rng.normal(0, by_row, ROWS)

    seeds = [moves() for _ in range(trainings)] if form == FULL else [np.zeros(ROWS)]
    own, common = (np.sqrt(1 - SHARED**2), SHARED) if form == FULL else (1.0, 0.0)

    def arm(count: int, effect: float = 0.0) -> np.ndarray:
        return np.array([margins + effect + common * seeds[j % len(seeds)] + own * moves() for j in range(count)])

    def outcome(name: str, found: np.ndarray, of: str = "") -> Outcome:
        predicted = np.where(found > 0, labels, (labels + 1) % CLASSES)
        counts = {"kept": 1, "removed": 1, "relabelled": 0, "weighted": 0}
        return Outcome(name, name, counts, {}, predicted, 1 / (1 + np.exp(-found)), control_of=of)

    alone = trainings if form == FULL else 1
    arms = [("given", arm(alone), ""), ("x", arm(alone, shift), ""), ("random for x", arm(trainings), "x")]
    groups = {
        "class": tuple(map(str, labels)), "group": tuple(map(str, rng.choice(list("abc"), ROWS))),
        "cluster": tuple(f"{label} {each}" for label, each in zip(labels, rng.integers(0, 4, ROWS), strict=True)),
    }  # fmt: skip
    ids, names = tuple(map(str, range(ROWS))), tuple(map(str, range(CLASSES)))
    v = Verification(
        form, "2026-01-01T00:00:00", "bench", "drawn", names, TestSet("test", ids, labels),
        tuple(outcome(*each) for each in arms), groups, {},
    )  # fmt: skip
    return v, (arms[1][1] > 0).mean(1) - (arms[0][1] > 0).mean(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=400)
    options = parser.parse_args()
    rows = []
    for setup in SETUPS:
        for shift in SHIFTS:
            rng, words, differences = np.random.default_rng(1), Counter(), []
            for _ in range(options.runs):
                v, difference = world(rng, *setup, shift)
                words[verdict(v, "x").word] += 1
                differences.append(difference)
            found = 100 * np.array(differences)
            share = {word: f"{100 * count / options.runs:.1f} %" for word, count in words.items()}
            spread = found.std(1, ddof=1).mean() if found.shape[1] > 1 else found.std(ddof=1)
            rows.append({"form": setup[0], "trainings": setup[1], "effect": f"{found.mean():+.1f}",
                         "spread": f"{spread:.2f}", **share})  # fmt: skip
            print(pd.DataFrame(rows[-1:]).fillna("").to_string(index=False), flush=True)
    print(f"\n{pd.DataFrame(rows).fillna('0 %').to_string(index=False)}")


if __name__ == "__main__":
    main()
