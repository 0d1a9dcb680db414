"""Several trainings, one table: `average` of the findings of a few seeds, with the spread of every score.

Ranks are averaged, not raw values: a percentile means the same in every training. On human label noise (10,000
CIFAR-10N images) two seeds averaged ranked wrong labels higher than either alone: average precision .857 and .848 to
.860 on `worse`, .623 and .611 to .634 on `aggre`. The spread says how far a sample's place is the seed's doing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from core.axes import Array, Float
from core.errors import InputError
from core.findings import Findings
from core.scores import percentile

SPREAD = "spread_"  # what the name of a column with a standard deviation over seeds begins with
RANKED = "score_"


def average(findings: Sequence[Findings]) -> Findings:
    """Put the findings of several seeds on the same rows together.

    Per score and for `suspicion`: the mean percentile, ranked again among the rows of its own kind, and
    `spread_<name>`, the population standard deviation over the seeds in percentile points (0 to 50). Raw values, head
    probabilities and curves are means. The sentence is that of the training whose suspicion lies nearest to the mean
    among those that suggest the same label. Neighbours and maps are the first one's.

    Raises:
        InputError: there are no findings, or they are of different rows or classes.
    """
    _check(findings)
    first, tables = findings[0], [each.samples for each in findings]
    train = (first.samples["split"] == "train").to_numpy(dtype=bool)
    head = _mean([each.head_probabilities for each in findings])
    table = _without_scores(first.samples).assign(**_labels(tables, head, np.asarray(first.classes, dtype=object)))
    columns: dict[str, Array] = {}
    for name in _ranked(tables):
        shares = np.stack([each[name].to_numpy(np.float64) for each in tables])
        columns[name] = percentile(shares.mean(0), train)
        columns[SPREAD + name.removeprefix(RANKED)] = shares.std(0)
    table["suspicion"] = columns.pop("suspicion")
    table["reason"] = _sentences(tables, table["suggested_label"])
    columns |= {name: _mean([each[name].to_numpy() for each in tables]) for name in _columns(tables, "raw_")}
    table = pd.concat([table, pd.DataFrame(columns, index=table.index)], axis=1)
    curves = _mean_curves([each.curves for each in findings])
    run = {**first.run, "models": _about(findings, columns)}
    return replace(first, samples=table, run=run, head_probabilities=head.astype(np.float32), curves=curves)


def _check(findings: Sequence[Findings]) -> None:
    if not findings:
        raise InputError("There are no findings to average. Give at least one.")
    first = findings[0]
    for number, other in enumerate(findings[1:], 2):
        if not other.samples.index.equals(first.samples.index) or other.classes != first.classes:
            raise InputError(f"Findings 1 and {number} are of different rows or classes. Average runs of one manifest.")


def _columns(tables: Sequence[pd.DataFrame], prefix: str) -> list[str]:
    """The columns of that prefix which every table has, in the first one's order."""
    return [str(name) for name in tables[0]
            if str(name).startswith(prefix) and all(name in each for each in tables)]  # fmt: skip


def _ranked(tables: Sequence[pd.DataFrame]) -> list[str]:
    return ["suspicion", *_columns(tables, RANKED)]


def _without_scores(samples: pd.DataFrame) -> pd.DataFrame:
    prefixes = (RANKED, "raw_", SPREAD)
    return samples[[name for name in samples if not str(name).startswith(prefixes)]].copy()


def _labels(tables: Sequence[pd.DataFrame], head: Float[Array, "n c"], names: Array) -> dict[str, Array]:
    """Suggested labels of the mean probabilities; predicted labels by summed probability.

    A training that predicts another label counts 0 for this one, so `predicted_prob` is a lower bound of the mean.
    """
    votes = np.zeros(head.shape)
    rows, position = np.arange(len(head)), pd.Index(names)
    for each in tables:
        votes[rows, position.get_indexer(pd.Index(each["predicted_label"]))] += each["predicted_prob"].to_numpy()
    votes /= len(tables)
    return {
        "predicted_label": names[votes.argmax(1)],
        "predicted_prob": votes.max(1),
        "suggested_label": names[head.argmax(1)],
        "suggested_prob": head.max(1),
    }


def _sentences(tables: Sequence[pd.DataFrame], suggested: pd.Series) -> Array:
    suspicion = np.stack([each["suspicion"].to_numpy(np.float64) for each in tables])
    away = np.abs(suspicion - suspicion.mean(0))
    away += 1000.0 * np.stack([each["suggested_label"].to_numpy() != suggested.to_numpy() for each in tables])
    reasons = np.stack([each["reason"].to_numpy(dtype=object) for each in tables])
    return np.asarray(reasons[away.argmin(0), np.arange(reasons.shape[1])])


def _mean_curves(curves: Sequence[Float[Array, "_ n"]]) -> Float[Array, "_ n"]:
    """The mean curve; the first one's where the trainings were of different length."""
    if len({each.shape for each in curves}) > 1:
        return np.asarray(curves[0])
    return _mean(curves).astype(np.float32)


def _mean(arrays: Sequence[Array]) -> Array:
    total = np.zeros(arrays[0].shape)
    for array in arrays:
        total += array
    return total / len(arrays)


def _about(findings: Sequence[Findings], columns: dict[str, Array]) -> dict[str, Any]:
    """What the record says of the trainings: how many, what each went by, and how far they agree."""
    tables = [each.samples for each in findings]
    everywhere, anywhere = set(_columns(tables, RANKED)), {str(name) for each in tables for name in each}
    return {
        "count": len(findings),
        "seeds": [each.run.get("settings", {}).get("seed") for each in findings],
        "suspicion": [each.run.get("suspicion") for each in findings],
        "spread": {
            name.removeprefix(SPREAD): round(float(np.nanmean(values)), 3)
            for name, values in columns.items() if name.startswith(SPREAD)
        },
        "left_out": sorted(name.removeprefix(RANKED) for name in anywhere - everywhere if name.startswith(RANKED)),
    }  # fmt: skip
