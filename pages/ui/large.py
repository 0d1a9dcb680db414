"""The gallery with its large view: between the browser's outbox and the project's log, for Review and Map alike.

receipt = large.received(key, review, findings)  # store what the browser sent, before anything is drawn
large.draw(key, project, findings, review, decisions, rows, receipt, focus=…)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from core.errors import GradSiftError
from core.findings import Findings
from core.project import Project
from core.review import detail, inbox
from core.review.decisions import Review
from core.review.inbox import Receipt
from pages.ui import cached, grid, notices, session

LARGE = 640  # pixels of the longer side in the large view


def owner(project: Project, name: str) -> str:
    """Return the name of the browser's outbox: of one project and one reviewer."""
    return _owner(project.folder, name)


def _owner(folder: Path, name: str) -> str:
    return blake2b(f"{folder}\0{name}".encode(), digest_size=8).hexdigest()


def said(key: str, review: Review) -> grid.Sent:
    """Return what the browser said last to this project and reviewer; nothing if that was another's."""
    return grid.sent(key).of(_owner(review.log.path.parent, review.reviewer))


def received(key: str, review: Review, findings: Findings) -> Receipt:
    """Write what the browser sent into the log; what is written is acknowledged with the next drawing.

    What it sent for another project or in another name is passed over: it stays in the browser and waits for its turn.
    """
    heard = said(key, review)
    session.keep(f"{key}-focus", heard.focus)
    return inbox.accept(review, heard.outbox, findings.samples["suspicion"])


def late(key: str, project: Project, findings: Findings | None) -> None:
    """Take in what a closed tab has left in this browser, on a page without a grid; the page runs again if it did."""
    if session.read_only():
        return
    review = cached.review(project, session.reviewer(), read_only=False)

    @st.fragment
    def follow() -> None:
        with notices.shown():
            suspicion = None if findings is None else findings.samples["suspicion"]
            receipt = inbox.accept(review, said(key, review).outbox, suspicion)
            grid.pending(key, owner(project, review.reviewer), receipt.plain())
            if receipt.stored and session.kept(f"{key}-taken") != receipt.stored:
                session.keep(f"{key}-taken", receipt.stored)
                st.rerun()

    follow()


def focused(key: str, shown: Sequence[str]) -> str | None:
    """Return the id whose large view is asked for: by the grid, else by the address bar, else the first one.

    By the grid means: in what `received`, which is called before, took from it.
    """
    for wanted in (session.kept(f"{key}-focus"), session.query("id")):
        if wanted in shown:
            session.set_query(id=wanted if wanted != shown[0] else None)
            return wanted
    return shown[0] if shown else None


def draw(
    key: str, project: Project, findings: Findings, review: Review, decisions: pd.DataFrame,
    rows: list[dict[str, Any]], receipt: Receipt, *, focus: str | None, blind: bool = False,
    layout: grid.Layout = "review",
) -> None:  # fmt: skip
    """Draw the grid of `rows`, with the large view of `focus` in the layout "review"."""
    ids = [row["id"] for row in rows]
    grid.grid(
        rows,
        key=key,
        owner=owner(project, review.reviewer),
        decisions=inbox.state_of(decisions, ids),
        history=inbox.history(review, ids),
        receipt=receipt.plain(),
        classes=list(project.classes),
        detail=_detail(project, findings, review, decisions, focus, blind) if focus and layout == "review" else None,
        focus=focus,
        read_only=session.read_only(),
        blind=blind,
        layout=layout,
    )


def _detail(
    project: Project, findings: Findings, review: Review, decisions: pd.DataFrame, sample: str, blind: bool
) -> dict[str, Any]:
    told = detail.detail(findings, cached.rows(project), decisions, sample, copies=cached.copies(project))
    history = detail.history_rows(review.history(sample))
    return {**told, "images": pictures_of(project, told), "history": history, **(BLIND if blind else {})}


# What would give the suggestion away.
BLIND: Mapping[str, Any] = {
    "suggested": None, "suggested_prob": None, "predicted": None, "predicted_prob": None, "reason": "",
    "probabilities": [], "scores": [], "neighbours": {"features": [], "gradients": []},
    "examples": {"given": None, "suggested": None}, "copies": [], "spread": None,
}  # fmt: skip


def pictures_of(project: Project, told: Mapping[str, Any]) -> dict[str, str | None]:
    """Return a data URL for every image of a large view: three of them large, the neighbours small."""
    near = [row["id"] for space in (*told["neighbours"].values(), told["copies"]) for row in space]
    found = cached.thumb_urls(project, list(dict.fromkeys(near)))
    for sample in {told["id"], *told["examples"].values()} - {None}:
        found[str(sample)] = _large(project, str(sample))
    return found


def _large(project: Project, sample: str) -> str | None:
    try:
        return cached.original_url(project, sample, LARGE)
    except GradSiftError:  # the original is gone: its thumbnail is better than nothing
        return cached.thumb_urls(project, [sample]).get(sample)
