"""Decisions from a table: another tool's list or another person's, as one more arm (`file:PATH`).

The table has the columns `sample_id` and `action`, and `label` (or `final_label`) where an action is relabel, as
`gradsift decide --from` reads them; nothing is recorded in the project.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from core.data.manifest import Manifest
from core.data.sources.base import expanded
from core.data.sources.table import GUARDED
from core.data.sources.tabular import Tabular, open_tabular
from core.errors import InputError
from core.review.decisions import RELABEL, Review, facts

FILE = "file:"
LABELS = ("label", "final_label")


def decisions_from(path: str | Path, manifest: Manifest) -> pd.DataFrame:
    """Read a table of decisions as `Review.current()` would show them; held-out rows are passed over.

    Raises:
        InputError: the file cannot be read, lacks a column, or a row of it cannot be decided like that.
    """
    place = expanded(path)
    table = open_tabular(place)
    if table.broken:
        at, why = next(iter(table.broken.items()))
        raise InputError(f"Row {at + 1} of {place} cannot be used: {why}. Repair it, or take it out.")
    classes, given, held_out = facts(manifest)
    review = Review.of(classes, given, held_out, place, reviewer=place.name, read_only=True)
    rows = [row for row in _rows(table) if row["sample_id"] not in held_out]
    for row in rows:
        if problem := review.problem(row):
            raise InputError(f"Row {row['row']} of {place}, {row['sample_id']!r}: {problem}")
    latest = {str(row["sample_id"]): row for row in rows}
    columns = {
        "action": [row["action"] for row in latest.values()],
        "final_label": [row["label"] for row in latest.values()],
    }
    return pd.DataFrame(columns, index=pd.Index(list(latest), name="sample_id", dtype=object), dtype=object)


def _rows(table: Tabular) -> list[dict[str, Any]]:
    """The decisions, one by one; a label counts where the action is relabel, as exports fill that column for all."""
    label = next((name for name in LABELS if name in table.names), None)
    columns = (table.column("sample_id"), table.column("action"), table.column(label) if label else [None] * len(table))
    return [
        {
            "row": number, "sample_id": _bare(sample), "action": _bare(action),
            "label": _bare(name) if action == RELABEL else None,
        }
        for number, (sample, action, name) in enumerate(zip(*columns, strict=True), 1)
    ]  # fmt: skip


def _bare(cell: str | None) -> str | None:
    """A cell without the apostrophe that an export puts before what a spreadsheet would run."""
    return cell and GUARDED.sub("", cell)
