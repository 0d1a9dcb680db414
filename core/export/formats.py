"""The file formats of an export: `FORMATS` is the whole list, `named` finds one.

Each function writes a table as text, numbers, booleans and missing values, and `table:` reads all three back. CSV
alone changes a text: a cell that a spreadsheet would run as a formula gets an apostrophe in front (see `guarded`).
Use Parquet or JSON Lines where every byte of a text matters.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from core.errors import ExportError
from core.review.present import plain

_FORMULA = re.compile(r"'*[=+\-@\t\r]")


@dataclass(frozen=True)
class Format:
    """One file format: its name and file ending, a title, one sentence, and the function that writes a table."""

    name: str
    title: str
    meaning: str
    write: Callable[[pd.DataFrame, Path], None]


def guarded(text: Any) -> Any:
    """`text` with an apostrophe in front if a spreadsheet would run it: it starts with = + - @, a tab or a return.

    So does a text that looks guarded already, hence taking one apostrophe off where `'*[=+-@\\t\\r]` follows it gives
    every text back as it was. What is no text is returned as it is.
    """
    return f"'{text}" if isinstance(text, str) and _FORMULA.match(text) else text


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """UTF-8, comma, a header line; lines end in CR LF, so that a lone CR or LF within a text is quoted."""
    texts = [name for name in table if table[name].dtype == object or isinstance(table[name].dtype, pd.StringDtype)]
    safe = table.assign(**{str(name): table[name].astype(object).map(guarded) for name in texts})
    safe.to_csv(path, index=False, lineterminator="\r\n", encoding="utf-8")


def write_parquet(table: pd.DataFrame, path: Path) -> None:
    """Parquet, with the missing values and types of the table."""
    table.to_parquet(path, index=False)


def write_jsonl(table: pd.DataFrame, path: Path) -> None:
    """UTF-8, one object per line, every column in every object, null where there is no value."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in plain(table):
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


FORMATS: tuple[Format, ...] = (
    Format("csv", "CSV", "Opens in any spreadsheet; texts that look like formulas get an apostrophe.", write_csv),
    Format("parquet", "Parquet", "Compact, typed, and every text as it was.", write_parquet),
    Format("jsonl", "JSON Lines", "One JSON object per line, every text as it was.", write_jsonl),
)


def by_name(formats: Sequence[Format]) -> dict[str, Format]:
    """The formats under their names; ExportError, naming both, where two share one."""
    known: dict[str, Format] = {}
    for each in formats:
        if each.name in known:
            raise ExportError(
                f"Two formats are named {each.name!r}: {known[each.name].title} and {each.title}. Rename one."
            )
        known[each.name] = each
    return known


def named(names: Sequence[str]) -> list[Format]:
    """The formats of these names, each once; ExportError, listing what there is, for an unknown one or for none."""
    known = by_name(FORMATS)
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        got = f"There is no format {unknown[0]!r}." if unknown else "No format was named."
        raise ExportError(f"{got} Choose from {', '.join(known)}.")
    return [known[name] for name in dict.fromkeys(names)]
