"""Who is flagged: a ranking by any score, cut by a budget in two ways that are shown side by side.

Use `rank` for the order alone, `flag` for the order with both cuts, `share_flagged` for what a budget does to each
class. A budget always flags as many as it says, also where nothing is wrong, and a global cut falls hardest on rare
classes: on clean digits a 5 % budget took about half of two classes cut to 18 samples and 3 to 4 % of the others.
Real label noise differs by class too, so neither a global nor a per-class cut is right blindly.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pandas as pd

from core.errors import InputError, SettingsError

SUSPICION = "suspicion"
TRAIN = "train"


@dataclass(frozen=True)
class Budget:
    """How many samples to flag: `Budget.parse("5%")` of the ranked rows, or `Budget.parse("400")` rows.

    Raises:
        SettingsError: a negative amount, more than 100 %, or half a row.
    """

    amount: Fraction
    per_cent: bool

    def __post_init__(self) -> None:
        """Check the range."""
        if self.amount < 0 or (self.per_cent and self.amount > 100) or (not self.per_cent and self.amount % 1):
            raise SettingsError(f"A budget of {self} cannot be met. {_ASK}")

    def __str__(self) -> str:
        return f"{float(self.amount):g}%" if self.per_cent else f"{float(self.amount):.12g}"

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read "5%", "0.5 %" or "400"; SettingsError for anything else."""
        found = re.fullmatch(r"\s*([0-9]{1,15}(?:\.[0-9]{1,15})?)\s*(%?)\s*", text, flags=re.ASCII)
        if not found:
            raise SettingsError(f"A budget of {text[:40]!r} cannot be read. {_ASK}")
        return cls(Fraction(found[1]), bool(found[2]))

    def count(self, n: int) -> int:
        """Rows to flag of `n`: a share rounds half up; at least 1 (if `n` and the budget are not 0), at most `n`."""
        wanted = int(self.amount * n / 100 + Fraction(1, 2)) if self.per_cent else int(self.amount)
        return min(n, max(wanted, 1 if self.amount else 0))


_ASK = "Write a share of the training rows such as 5% or 0.5%, or a whole number of rows such as 400."


def score_column(table: pd.DataFrame, score: str) -> str:
    """The column of `table` that holds `score`: "suspicion", or "score_<name>" for "<name>".

    Raises:
        InputError: there is none; the message lists the names there are.
    """
    names = {SUSPICION: SUSPICION} | {
        str(c).removeprefix("score_"): str(c) for c in table if str(c).startswith("score_")
    }
    if score not in names or names[score] not in table:
        raise InputError(f"There is no score {score!r} in this run. Choose from {', '.join(names)}.")
    return names[score]


def rank(table: pd.DataFrame, score: str = SUSPICION, *, split: str = TRAIN) -> pd.DataFrame:
    """The rows of `split`, most suspicious first; equal rows by sample_id, rows without the score last.

    Args:
        table: findings, indexed by sample_id, with the columns split and `score_column(table, score)`.
        score: "suspicion" or the name of a score.
        split: the split to rank; never more than one, since percentiles are taken within each.
    """
    column = score_column(table, score)
    rows = table[(table["split"] == split).to_numpy(bool)].sort_index(kind="stable")
    return rows.sort_values(column, ascending=False, kind="stable", na_position="last")


def flag(table: pd.DataFrame, score: str, budget: Budget, *, split: str = TRAIN) -> pd.DataFrame:
    """`rank`, with the columns rank (from 1), flagged (global cut) and flagged_per_class (same share of each class).

    Both cuts flag `budget.count(rows)` rows, as far as rows have the score. The per-class cut takes row r of a class
    of m rows at the share (r - 1/2) / m (Webster's rule): each class gets its share to the nearest row, the total is
    exact, and unlike with largest remainders a larger budget never takes a flag back.
    """
    rows = rank(table, score, split=split)
    scored = rows[score_column(table, score)].notna().to_numpy(bool)
    count = min(budget.count(len(rows)), int(scored.sum()))
    place = np.arange(len(rows))
    within = rows.groupby("given_label", sort=False, dropna=False)["split"]
    share = (within.cumcount() + 0.5) / within.transform("size")
    quota = np.lexsort((place, share.to_numpy(float), ~scored))
    per_class = np.zeros(len(rows), bool)
    per_class[quota[:count]] = True
    return rows.assign(rank=place + 1, flagged=place < count, flagged_per_class=per_class)


def share_flagged(table: pd.DataFrame) -> pd.DataFrame:
    """What a budget does to each class, from what `flag` returned: rows, flagged, share (0-1), flagged_per_class.

    Indexed by given_label in the order of the names. A share far above the others' means that the global cut falls on a
    class as a whole: it may be rare or hard rather than wrong.
    """
    by_class = table.groupby("given_label", sort=True, dropna=False)
    counts = by_class.agg(
        rows=("flagged", "size"), flagged=("flagged", "sum"), flagged_per_class=("flagged_per_class", "sum")
    )
    return counts.assign(share=counts["flagged"] / counts["rows"])[["rows", "flagged", "share", "flagged_per_class"]]
