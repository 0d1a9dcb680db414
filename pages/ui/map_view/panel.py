"""One image beside the map: the card under the pointer, the panel of the chosen image, the table and the export."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import streamlit as st

from core.errors import GradSiftError
from core.export.formats import write_csv
from core.findings import Findings
from core.project import Project
from core.review import detail
from core.review.flags import SUSPICION, score_column
from core.review.present import with_decisions
from pages.ui import cached
from pages.ui.map_view import Answer

SIDE = 320  # pixels of the image in the panel
NEAR = 6
COLUMNS = ("given_label", "suggested_label", "suspicion", "reason")

STYLE = """<style>
@media (max-width: 900px) {
  .st-key-map-body > [data-testid="stLayoutWrapper"] > .stHorizontalBlock { flex-direction: column; }
  .st-key-map-body > [data-testid="stLayoutWrapper"] > .stHorizontalBlock > .stColumn { width: 100%; flex: 1 1 auto; }
}
.gs-panel { display: grid; grid-template-columns: 128px 1fr; gap: 12px; }
.gs-panel > img, .gs-panel > .gs-none { width: 128px; height: 128px; object-fit: contain; border-radius: 6px;
  background: light-dark(#F4F5F7, #1F242A); }
.gs-panel p { margin: 4px 0 0; font-size: .93rem; overflow-wrap: anywhere; }
.gs-panel strong { font-weight: 600; overflow-wrap: anywhere; }
.gs-panel small, .gs-near small { font-size: .85rem; opacity: .8; overflow-wrap: anywhere; }
.gs-near { margin-top: 8px; display: grid; grid-template-columns: repeat(6, minmax(0, 1fr)); gap: 6px; }
.gs-near > small { grid-column: 1 / -1; }
.gs-near figure { margin: 0; min-width: 0; }
.gs-near img, .gs-near .gs-none { width: 100%; aspect-ratio: 1; object-fit: contain; border-radius: 4px; display: block;
  background: light-dark(#F4F5F7, #1F242A); }
.gs-near figcaption { font-size: .8rem; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.gs-near figcaption.gs-other { font-weight: 600; }
</style>"""


def answer(project: Project, findings: Findings, sample: str) -> Answer:
    """Return what the hover card says of an image."""
    row = findings.samples.loc[sample]
    given, suggested = _text(row["given_label"]), _text(row["suggested_label"])
    return Answer(
        id=sample,
        src=cached.thumb_urls(project, [sample]).get(sample),
        title=claim(given, suggested),
        sub=_suspicion(row),
        text=_text(row["reason"]) or "",
        alt=f"{sample}, labelled {given or 'not at all'}",
    )


def claim(given: str | None, suggested: str | None) -> str:
    """Return the label and, where there is one that differs, the doubt: "cat → dog?"."""
    name = given or "no label"
    return f"{name} → {suggested}?" if suggested and suggested != given else name


def _suspicion(row: Any) -> str:
    value = float(row["suspicion"])
    held = "" if row["split"] == "train" else ", held out"
    return f"suspicion {value:.1f}{held}" if math.isfinite(value) else f"no suspicion{held}"


def draw(project: Project, findings: Findings, decisions: pd.DataFrame, sample: str) -> None:
    """Draw the chosen image with its neighbours in both spaces; every name is text."""
    told = detail.detail(findings, cached.rows(project), decisions, sample, NEAR)
    near = [each for rows in told["neighbours"].values() for each in rows]
    pictures = cached.thumb_urls(project, list(dict.fromkeys([sample, *(str(each["id"]) for each in near)])))
    action = decisions["action"].get(sample)
    words = [_suspicion(findings.samples.loc[sample])] + ([f"decided: {action}"] if action else [])
    parts = [
        f'<div class="gs-panel">{_image(_picture(project, sample) or pictures.get(sample), sample)}<div>',
        f"<strong>{escape(claim(told['given'], told['suggested']))}</strong><br>",
        f"<small>{escape(', '.join(words))}</small><p>{escape(told['reason'] or '')}</p>",
        f"<small>{escape(sample)}</small></div></div>",
        *(_nearest(space, rows, pictures, told["given"]) for space, rows in told["neighbours"].items()),
    ]
    st.html("".join(parts))


def _picture(project: Project, sample: str) -> str | None:
    try:
        return cached.original_url(project, sample, SIDE)
    except GradSiftError:  # the original is gone: its thumbnail is better than nothing
        return None


def _nearest(
    space: str, rows: Sequence[Mapping[str, Any]], pictures: Mapping[str, str | None], given: str | None
) -> str:
    if not rows:
        return ""
    figures = [
        f"<figure>{_image(pictures.get(str(row['id'])), str(row['id']))}"
        f'<figcaption{"" if row["label"] == given else " class=gs-other"} title="{escape(str(row["label"]))}">'
        f"{escape(str(row['label']))}</figcaption></figure>"
        for row in rows
    ]
    return f'<div class="gs-near"><small>Nearest by {space}, with their labels</small>{"".join(figures)}</div>'


def _image(url: str | None, alt: str) -> str:
    if not url:
        return '<div class="gs-none"></div>'
    return f'<img src="{escape(url)}" alt="{escape(alt)}">'


def table_of(findings: Findings, decisions: pd.DataFrame, ids: Collection[str], score: str = SUSPICION) -> pd.DataFrame:
    """Return the twin of the map's flags: a row for each image, in the order of `ids`."""
    columns = list(dict.fromkeys([score_column(findings.samples, score), *COLUMNS]))
    found = with_decisions(findings.samples.loc[list(ids), columns], decisions)
    return found[[*columns, "action"]]


def csv_of(findings: Findings, decisions: pd.DataFrame, flagged: Collection[str], ids: Sequence[str]) -> bytes:
    """Return a selection as CSV, safe for spreadsheets: ids, labels, suspicion, flag, decision."""
    found = with_decisions(findings.samples.loc[list(ids), ["filepath", *COLUMNS]], decisions)
    shown = found[["filepath", *COLUMNS, "action", "final_label"]].assign(flagged=found.index.isin(list(flagged)))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "selection.csv"
        write_csv(shown.reset_index(names="sample_id"), path)
        return path.read_bytes()


def _text(value: Any) -> str | None:
    return str(value) if isinstance(value, str) and value else None
