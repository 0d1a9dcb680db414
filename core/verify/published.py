"""What the first paper printed, for measured figures to stand beside: accuracy after 5 % was removed.

`TABLE_2` and `TABLE_5` are test accuracies in per cent on CIFAR-10N, by row and by kind of labels: of a ResNet-34 on
50,000 images, the best of 100 epochs chosen on the test images (`core.retrain.reproduction` says what that changes).
Source: Chhabra et al., "Outlier Gradient Analysis", ICML 2025, arXiv 2405.03869, tables 2 and 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

RUNS = 5  # over which the paper averages
LABELS = ("aggre", "random1", "worse")  # the paper's 10N aggre, random and worst
BUDGETS = (0.025, 0.05, 0.075, 0.1, 0.125)
UNTOUCHED = "cross entropy"


@dataclass(frozen=True)
class Figure:
    """A mean in per cent and the standard deviation over the paper's runs; 0 where it prints none."""

    accuracy: float
    deviation: float = 0.0


def _row(*figures: tuple[float, float]) -> Mapping[str, Figure]:
    return {labels: Figure(*each) for labels, each in zip(LABELS, figures, strict=True)}


TABLE_2: Mapping[str, Mapping[str, Figure]] = {
    UNTOUCHED: _row((90.87, 0.23), (89.17, 0.31), (82.27, 0.37)),
    "normalised margin": _row((91.33, 0.11), (90.06, 0.14), (83.57, 0.32)),
    "self-confidence": _row((91.38, 0.19), (90.09, 0.17), (83.65, 0.21)),
    "confidence-weighted entropy": _row((91.11, 0.34), (90.05, 0.26), (83.63, 0.41)),
    "gradient tracing": _row((91.47, 0.21), (89.98, 0.20), (83.38, 0.58)),
    "LiSSA": _row((91.49, 0.34), (90.05, 0.31), (83.38, 0.58)),
    "DataInf": _row((91.46, 0.17), (90.05, 0.38), (83.40, 0.56)),
    "Self-LiSSA": _row((92.07, 0.15), (89.58, 0.11), (83.01, 0.34)),
    "Self-DataInf": _row((91.41, 0.17), (89.81, 0.37), (83.15, 0.22)),
    "OGA L1": _row((91.86, 0.14), (90.66, 0.33), (84.20, 0.19)),
    "OGA L2": _row((92.21, 0.14), (90.25, 0.22), (82.99, 0.54)),
    "OGA forest": _row((91.36, 0.09), (90.20, 0.07), (83.72, 0.18)),
}

TABLE_5: Mapping[str, Mapping[str, tuple[float, ...]]] = {  # by budget, see BUDGETS
    "gradient tracing": {
        "aggre": (92.11, 91.47, 92.17, 91.99, 91.98),
        "random1": (90.71, 89.98, 90.41, 90.75, 90.96),
        "worse": (83.56, 83.38, 83.61, 84.12, 84.49),
    },
    "LiSSA": {
        "aggre": (92.08, 91.49, 91.83, 92.27, 91.74),
        "random1": (90.21, 90.05, 91.09, 90.88, 90.00),
        "worse": (84.51, 83.38, 84.25, 83.63, 83.89),
    },
    "DataInf": {
        "aggre": (92.34, 91.46, 91.81, 91.80, 92.07),
        "random1": (90.77, 90.05, 90.30, 90.26, 90.80),
        "worse": (84.31, 83.40, 83.45, 84.01, 84.12),
    },
    "Self-LiSSA": {
        "aggre": (91.71, 92.07, 91.32, 91.72, 91.33),
        "random1": (89.76, 89.58, 89.50, 88.94, 89.49),
        "worse": (82.65, 83.01, 82.75, 82.71, 82.66),
    },
    "Self-DataInf": {
        "aggre": (91.22, 91.41, 91.37, 91.29, 91.15),
        "random1": (89.91, 89.81, 90.32, 89.91, 90.00),
        "worse": (83.70, 83.15, 83.53, 82.96, 83.84),
    },
    "OGA L1": {
        "aggre": (91.39, 91.86, 92.05, 92.36, 92.21),
        "random1": (90.51, 90.66, 90.24, 90.45, 91.17),
        "worse": (84.26, 84.20, 84.12, 84.32, 84.25),
    },
    "OGA L2": {
        "aggre": (92.10, 92.21, 92.70, 92.63, 92.78),
        "random1": (90.72, 90.25, 90.63, 90.50, 91.21),
        "worse": (84.48, 82.99, 84.09, 84.35, 84.43),
    },
    "OGA forest": {
        "aggre": (91.77, 91.36, 91.57, 91.92, 92.08),
        "random1": (90.03, 90.20, 90.06, 90.38, 90.62),
        "worse": (83.74, 83.72, 84.22, 84.44, 83.25),
    },
}


def published(row: str, labels: str, fraction: float) -> Figure | None:
    """Return what the paper printed for a row of its tables, None where it printed nothing.

    Args:
        row: a key of `TABLE_2`; `UNTOUCHED` whatever the budget.
        labels: one of `LABELS`.
        fraction: share removed; other budgets than 5 % stand in `TABLE_5`, without deviations.
    """
    if row == UNTOUCHED or abs(fraction - 0.05) < 1e-9:
        return TABLE_2.get(row, {}).get(labels)
    means = TABLE_5.get(row, {}).get(labels, ())
    return next((Figure(m) for m, b in zip(means, BUDGETS, strict=False) if abs(b - fraction) < 1e-9), None)
