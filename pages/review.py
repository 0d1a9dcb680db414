"""Review: is this label right? The gallery of suspects, decided by key."""

from __future__ import annotations

import time
from typing import Any

import pandas as pd
import streamlit as st

from core.findings import Findings
from core.project import Project
from core.review import gallery
from core.review.decisions import Review
from core.review.gallery import Filters
from core.review.present import caution
from pages.ui import cached, filters, job_panel, large, notices, session

SETTLES = 2.0  # seconds until the browser's messages carry a new address
RECENT = 200  # decisions that tell a person's pace


def page() -> None:
    """Draw the page."""
    project, findings = session.need_findings()
    stamp = cached.run_stamp(project)
    if findings is not cached.findings(project):
        st.rerun()
    chosen = filters.chosen(project, findings)
    filters.bar(project, findings, chosen)
    if warning := caution(findings.run):
        st.caption(f":material/warning: {notices.plain(warning)}")
    if cached.job(project).running:
        job_panel.panel(project, until="map", compact=True)
    if session.query("group"):
        _pairs(project, findings, chosen)
    _gallery(project, findings, stamp, chosen)


def _pairs(project: Project, findings: Findings, chosen: Filters) -> None:
    decisions = cached.review(project, session.reviewer(), bool(session.read_only())).current()
    frame = gallery.gallery(findings.samples, decisions, Filters(**{**vars(chosen), "given": None, "suggested": None}))
    found = gallery.pairs(frame)
    if not found:
        notices.info("No image in this selection has a suggested label that differs from the given one.")
        return
    st.markdown("**By class pair.** Choose a row to see its images; click it again for all.")
    table = pd.DataFrame(found)[["given", "suggested", "count", "open", "wrong"]]
    picked = st.dataframe(
        table, hide_index=True, on_select="rerun", selection_mode="single-row", height=240,
        key=f"pairs-{hash(tuple((row['given'], row['suggested']) for row in found))}",
        column_config={
            "given": "Given label", "suggested": "Suggested label", "count": "Images", "open": "Not yet decided",
            "wrong": "Relabelled or excluded",
        },
    )  # fmt: skip
    rows = picked.selection.rows
    pair = (found[rows[0]]["given"], found[rows[0]]["suggested"]) if rows else (None, None)
    if pair != (chosen.given, chosen.suggested) and (rows or session.kept("pair_chosen")):
        session.keep("pair_chosen", bool(rows))
        session.set_query(**{"class": pair[0], "to": pair[1], "page": None})
        st.rerun()


@st.fragment
def _gallery(project: Project, findings: Findings, stamp: cached.Stamp, chosen: Filters) -> None:
    with notices.shown():
        if cached.run_stamp(project) != stamp:  # a run has written new findings: the whole page is of the old ones
            st.rerun()
        _fill(project, findings, stamp, chosen)


def _fill(project: Project, findings: Findings, stamp: cached.Stamp, chosen: Filters) -> None:
    review = cached.review(project, session.reviewer(), bool(session.read_only()))
    receipt = large.received("review-grid", review, findings)
    decisions = review.current()
    ids = _frozen(project, findings, stamp, decisions, chosen)
    if not ids:
        _headline(findings, review, decisions, chosen, gallery.page_of(ids, 1))
        notices.empty("Nothing here.", "No image matches these filters.")
        if st.button("Show all flagged images", type="primary"):
            session.replace_query({})
            st.rerun()
        return
    part = gallery.page_of(ids, _page_number(ids, chosen))
    _headline(findings, review, decisions, chosen, part)
    shown = part.ids
    frame = gallery.ranked(findings.samples, decisions, chosen, shown)
    cards = gallery.cards(frame, findings, blind=bool(session.query("blind")))
    pictures = cached.thumb_urls(project, shown)
    rows = [{**card, "src": pictures.get(card["id"])} for card in cards]
    focus = large.focused("review-grid", shown)
    large.draw(
        "review-grid", project, findings, review, decisions, rows, receipt, focus=focus,
        blind=bool(session.query("blind")),
    )  # fmt: skip
    if not all(pictures.get(sample) for sample in shown):
        _missing(project)


def _missing(project: Project) -> None:
    door = cached.pictures(project)
    if door.refusal:
        notices.warning(door.refusal)
    elif door.working:
        notices.info("Thumbnails are still being made; they come with your next key.")
    elif door.problem:
        notices.warning(door.problem)


def _headline(findings: Findings, review: Review, decisions: pd.DataFrame, chosen: Filters, part: gallery.Page) -> None:
    recent = review.log.recent(review.reviewer, RECENT)
    found = gallery.progress(findings.samples, decisions, chosen, recent)
    title, bar, words, back, on = st.columns([4, 1.8, 1.5, 1.2, 1.5], vertical_alignment="center")
    title.subheader(notices.plain(gallery.sentence(found)), anchor=False)
    bar.progress(min(found["reviewed"] / found["flagged"], 1.0) if found["flagged"] else 0.0)
    words.caption(f"{part.first:,} to {part.last:,} of {part.total:,}" if part.total else "0 images")
    if back.button("Back", disabled=part.page <= 1, key="page-back", width="stretch"):
        _turn(part.page - 1, chosen)
    if on.button(f"Next {gallery.PAGE_SIZE}", disabled=part.page >= part.pages, key="page-on", width="stretch"):
        _turn(part.page + 1, chosen)


def _frozen(
    project: Project, findings: Findings, stamp: cached.Stamp, decisions: pd.DataFrame, chosen: Filters
) -> list[str]:
    """The ids in the order of the moment the filters were set: a decided image does not jump away under the hand."""
    key = (str(project.folder), stamp, chosen)
    kept: dict[Any, list[str]] = session.kept_or("order", dict)
    if key not in kept:
        kept.clear()
        kept[key] = [str(sample) for sample in gallery.gallery(findings.samples, decisions, chosen).index]
    return kept[key]


def _page_number(ids: list[str], chosen: Filters) -> int:
    """The page turned to just now, else the one that holds the image asked for, else the one asked for, else the first.

    What the browser sent before it knew of a new address still carries the old one; for some seconds it must not turn
    the page back.
    """
    turned, filters_then, when = session.kept("turned", (1, None, 0.0))
    if filters_then == chosen and time.monotonic() - when < SETTLES:
        session.set_query(page=turned if turned > 1 else None)
        return int(turned)
    return gallery.page_asked(ids, session.query("page"), session.query("id"))


def _turn(number: int, chosen: Filters) -> None:
    session.keep("turned", (number, chosen, time.monotonic()))
    session.set_query(page=number if number > 1 else None, id=None)
    session.rerun_fragment()


session.open_page("Review")
with notices.shown():
    page()
