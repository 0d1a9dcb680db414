"""What else is known of an image, as columns and words: its copies, its meta columns, facts about the picture.

`marked` joins them to the samples, so that filters ask a column and a large view looks up a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from core.review.copies import standing
from core.review.groups import CLASS, GROUP, META, columns_of, values_of

COPIES, FACTS, GROUPED = "copies", "facts", "by_"
FACT_WORDS: Mapping[str, str] = {  # the columns of `core.data.facts` in a person's words
    "is_dark": "dark", "is_light": "bright", "is_blurry": "blurry", "is_low_information": "near-uniform",
    "is_odd_size": "odd size", "is_odd_aspect_ratio": "odd shape", "is_grayscale": "grey",
}  # fmt: skip


def marked(
    samples: pd.DataFrame, rows: pd.DataFrame, copies: pd.DataFrame | None = None, facts: pd.DataFrame | None = None
) -> pd.DataFrame:
    """`samples` with the columns `copies`, `facts` and a `by_<name>` for each column to group by.

    Args:
        samples: `Findings.samples`, indexed by sample_id; not changed.
        rows: `Manifest.rows`.
        copies: `core.extras.known_copies`, None where they were not looked for.
        facts: `core.extras.known_facts`, None likewise.
    """
    grouped = {
        f"{GROUPED}{name}": values_of(rows, name).reindex(samples.index) for name in columns_of(rows) if name != CLASS
    }
    told = facts_of(facts).reindex(samples.index).fillna("") if facts is not None else ""
    return samples.assign(**{COPIES: standing(copies, samples), FACTS: told, **grouped})


def facts_of(facts: pd.DataFrame) -> pd.Series[Any]:
    """The facts of each image in words, "dark, blurry", indexed by sample_id; "" where none is true."""
    columns = [name for name in FACT_WORDS if name in facts]
    told = [
        ", ".join(FACT_WORDS[name] for name, true in zip(columns, row, strict=True) if true)
        for row in facts[columns].itertuples(index=False, name=None)
    ]
    return pd.Series(told, index=pd.Index(facts["sample_id"], name="sample_id"), dtype=object)


def choices(table: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    """The values of each column to group by, the frequent ones first: of what `marked` gave."""
    return {
        str(name).removeprefix(GROUPED): tuple(map(str, table[name].value_counts().index))
        for name in table
        if str(name).startswith(GROUPED)
    }


def meta_of(row: Mapping[str, Any]) -> dict[str, str]:
    """The meta values of a manifest's row, by the names a person gave them; what is unknown is left out."""
    return {
        str(name).removeprefix(META): str(value)
        for name, value in row.items()
        if str(name).startswith(META) and isinstance(value, str)
    }


__all__ = ["COPIES", "FACTS", "GROUP", "GROUPED", "choices", "facts_of", "marked", "meta_of"]
