"""What a command or a screen shows, as plain rows: Python values only, no NaN, ready for JSON.

An `if` about the data that a screen would need belongs here, as a pure function with a test of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from core.review.decisions import CURRENT, UNDECIDED
from core.review.flags import SUSPICION, Budget, flag, score_column

WEAK = 0.45  # share of labels not learned from that the network agrees with, below which its suggestions are weak
FEW = 5  # fewer flags on a class are no pattern
_SHOWN = (
    "rank", "sample_id", "filepath", "given_label", "suggested_label", "suggested_prob", "suspicion", "score", "reason",
    "flagged", "flagged_per_class", "action", "final_label",
)  # fmt: skip


def ranking_rows(
    table: pd.DataFrame, decisions: pd.DataFrame, score: str = SUSPICION, budget: str = "5%", top: int | None = 50
) -> list[dict[str, Any]]:
    """The first `top` rows of the ranking (None: all) with their flags and decisions.

    Args:
        table: `Findings.table()`.
        decisions: `Review.current()`.
        score: "suspicion" or the name of a score; its percentile is each row's "score".
        budget: as `Budget.parse` reads it.
        top: how many rows.

    Raises:
        InputError: there is no such score; the message lists the names there are.
        SettingsError: the budget cannot be read.
    """
    flagged = flag(table, score, Budget.parse(budget))
    rows = flagged.assign(score=flagged[score_column(table, score)]).head(len(flagged) if top is None else max(top, 0))
    return plain(with_decisions(rows, decisions).reset_index()[list(_SHOWN)])


def heavy_on(shares: pd.DataFrame) -> list[str]:
    """Name the classes that the global cut of `share_flagged` hits more than twice as often as their size calls for."""
    flagged, fair = shares["flagged"].to_numpy(int), shares["flagged_per_class"].to_numpy(int)
    heavy = (flagged > 2 * fair) & (flagged >= FEW)
    rows = zip(shares.index[heavy], flagged[heavy], fair[heavy], strict=True)
    return [f"{name} {count} (its share: {share})" for name, count, share in rows]


def caution(run: Mapping[str, Any]) -> str | None:
    """A sentence where the network learned so little that its suggestions are weak, else None.

    On 50,000 images with human label errors, held-out agreement .55, "very probably" was followed by the true label in
    93 % of the cases; on 900 of them, agreement .25 to .31 after 6 epochs, in 55 %.

    Args:
        run: `Findings.run`.
    """
    shares = (run.get("held_out_accuracy"), (run.get("head") or {}).get("left_out_accuracy"))
    known = [float(share) for share in shares if isinstance(share, int | float)]
    if not known or max(known) >= WEAK:
        return None
    return (
        f"Take the suggestions with care: the network agrees with only {max(known):.0%} of the labels that it did not "
        f"learn from. {_help(run)}"
    )


def _help(run: Mapping[str, Any]) -> str:
    """What would make a network better: more epochs only where all that is known of the labels was learned here."""
    if "network" in (run.get("stages") or {}):
        return "More images, or a network that knows such images better, may help."
    return "More images or more epochs may help."


def notes_of(run: Mapping[str, Any]) -> list[str]:
    """What a person must know of how a run's networks were read, as sentences."""
    notes = run.get("notes") or ()
    return [str(note) for note in notes] if isinstance(notes, list | tuple) else []


def with_decisions(table: pd.DataFrame, decisions: pd.DataFrame) -> pd.DataFrame:
    """`table`, indexed by sample_id, with the columns of `Review.current()`; no decision: action "undecided"."""
    joined = table.join(decisions[list(CURRENT)])
    return joined.assign(action=joined["action"].fillna(UNDECIDED))


def plain(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Each row as a dictionary of Python values; what is missing, or no finite number, is None."""
    values = {str(name): [_plain(value) for value in column.tolist()] for name, column in table.items()}
    return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]


def _plain(value: Any) -> Any:
    unknown = value is None or value is pd.NA or (isinstance(value, float) and not math.isfinite(value))
    return None if unknown else value
