"""What the values of a column amount to: how many of their images are flagged, and how many a person found wrong.

    by_value(flagged, decisions, rows, "annotator")  one line per annotator, the heaviest first
    sentence(lines, "annotator")                     "annotator 7: 22 % flagged, the others 6 %"

Every share comes with its 95 % interval (Wilson 1927), which is honest for few images too. A value is named in the
sentence only where its interval lies above the share of all the others, and the interval is widened by the number of
values compared (Bonferroni): of 40 annotators, two would stand out at 95 % by luck alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

import pandas as pd

from core.errors import InputError
from core.review.decisions import EXCLUDE, RELABEL, UNDECIDED

CLASS, GROUP, META = "class", "group", "meta_"
NO_VALUE = "(none)"
LEVEL = 0.95
MOST_NAMED = 3
MOST_VALUES = 1_000  # of one column: beyond it every image has a value of its own
WRONG = (RELABEL, EXCLUDE)


def columns_of(rows: pd.DataFrame) -> tuple[str, ...]:
    """The columns that images can be grouped by, as a person calls them: meta columns, `group`, and always `class`."""
    meta = [str(name).removeprefix(META) for name in rows if str(name).startswith(META)]
    return (*meta, *((GROUP,) if GROUP in rows and GROUP not in meta else ()), CLASS)


def values_of(rows: pd.DataFrame, by: str) -> pd.Series[Any]:
    """The values of a column as text, indexed by sample_id; `NO_VALUE` where there is none.

    Raises:
        InputError: there is no such column; the message lists those there are.
    """
    known = columns_of(rows)
    if by not in known:
        raise InputError(
            f"There is no column {by!r} to group by, only {', '.join(known)}. "
            "Other columns travel along where the project is made with --meta-columns."
        )
    name = "given_label" if by == CLASS else f"{META}{by}" if f"{META}{by}" in rows else by
    found = rows.set_index("sample_id")[name]
    return found.where(found.notna(), NO_VALUE).astype(str)


def by_value(flagged: pd.DataFrame, decisions: pd.DataFrame, rows: pd.DataFrame, by: str) -> list[dict[str, Any]]:
    """One line per value of a column, the one whose flagged share is surely largest first.

    Args:
        flagged: what `core.review.flags.flag` gave: the ranked images, with `flagged`.
        decisions: `Review.current()`.
        rows: `Manifest.rows`.
        by: one of `columns_of(rows)`.

    Returns:
        value, images, flagged, reviewed (with a decision), wrong (relabelled or excluded); flagged_share and
        wrong_share (of the reviewed; None where none is), each with low and high; others_share: the flagged share of
        all other values; stands_out: whether more are flagged than among the others, luck allowed for.

    Raises:
        InputError: there is no such column, or nearly every image has a value of its own.
    """
    values = values_of(rows, by).reindex(flagged.index).fillna(NO_VALUE)
    if values.nunique() > MOST_VALUES:
        raise InputError(
            f"The column {by!r} has {values.nunique():,} values for {len(values):,} images; up to {MOST_VALUES:,} can "
            "be compared. Name a column that images share."
        )
    action = decisions["action"].reindex(flagged.index).fillna(UNDECIDED)
    table = pd.DataFrame({"flagged": flagged["flagged"], "reviewed": action != UNDECIDED, "wrong": action.isin(WRONG)})
    by_each = table.groupby(values.to_numpy(object), sort=True)
    counts = by_each.sum().assign(images=by_each.size()).astype(int)
    lines = [
        _line(str(value), dict(zip(map(str, counts), map(int, row), strict=True)), counts)
        for value, row in zip(counts.index, counts.to_numpy(int), strict=True)
    ]
    return sorted(lines, key=lambda line: (-line["flagged_share"]["low"], line["value"]))


def _line(value: str, row: Mapping[str, int], counts: pd.DataFrame) -> dict[str, Any]:
    others = {name: int(counts[name].sum()) - row[name] for name in ("images", "flagged")}
    share = others["flagged"] / others["images"] if others["images"] else None
    strict = wilson(row["flagged"], row["images"], 1 - (1 - LEVEL) / len(counts))
    return {
        "value": value, **{name: int(row[name]) for name in ("images", "flagged", "reviewed", "wrong")},
        "flagged_share": interval(row["flagged"], row["images"]),
        "wrong_share": interval(row["wrong"], row["reviewed"]) if row["reviewed"] else None,
        "others_share": None if share is None else round(share, 4),
        "stands_out": share is not None and strict[0] > share,
    }  # fmt: skip


def interval(count: int, of: int) -> dict[str, float]:
    """A share with the ends of its 95 % interval: share, low, high, each 0 to 1."""
    low, high = wilson(count, of)
    return {"share": round(count / of, 4), "low": round(low, 4), "high": round(high, 4)}


def wilson(count: int, of: int, level: float = LEVEL) -> tuple[float, float]:
    """The two ends of Wilson's score interval of `count` in `of` (Wilson 1927, eq. 2 as solved for the share)."""
    if not 0 <= count <= of or of == 0:
        raise ValueError(f"{count} of {of} is no share")
    z = NormalDist().inv_cdf((1 + level) / 2)
    share, wide = count / of, z * z / of
    middle = (share + wide / 2) / (1 + wide)
    half = z * math.sqrt(share * (1 - share) / of + wide / (4 * of)) / (1 + wide)
    return (0.0 if count == 0 else middle - half, 1.0 if count == of else middle + half)


def sentence(lines: Sequence[Mapping[str, Any]], by: str) -> str:
    """Say which values stand out: "annotator 7: 22 % flagged (15 to 31 %), the others 6 %"."""
    heavy = [line for line in lines if line["stands_out"]]
    if not heavy:
        return f"No {by} stands out: what is flagged more in one than in the others may be luck."
    told = [
        f"{by} {line['value']}: {line['flagged_share']['share']:.0%} flagged "
        f"({100 * line['flagged_share']['low']:.0f} to {line['flagged_share']['high']:.0%}), "
        f"the others {line['others_share']:.0%}"
        for line in heavy[:MOST_NAMED]
    ]
    more = len(heavy) - MOST_NAMED
    return "; ".join(told) + (f"; and {more:,} more" if more > 0 else "")
