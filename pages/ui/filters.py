"""The bar of filters: the address bar holds them, the widgets show and change them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import streamlit as st

from core.catalogue import SCORE_INFO
from core.findings import Findings
from core.project import Project
from core.reasons import KINDS
from core.review import marks
from core.review.gallery import Filters
from core.review.marks import choices
from pages.ui import notices, session
from pages.ui.map_view import selection

DECISIONS = {
    "any": "All", "open": "Not yet decided", "done": "Decided", "keep": "Kept", "relabel": "Relabelled",
    "exclude": "Excluded", "unsure": "Unsure",
}  # fmt: skip
ALL = ""  # no class has this name
COPIES = {
    "any": "With and without copies", "copies": "Images that have a copy", "other label": "Copies with another label",
    "other split": "Copies in another split", "same label": "Copies with the same label",
}  # fmt: skip
NAMES = (
    "score", "class", "to", "reason", "low", "high", "decision", "split", "q", "flagged", "budget", "copies", "by",
    "value",
)  # fmt: skip


def chosen(project: Project, findings: Findings) -> Filters:
    """Return the filters that the address asks for; what it asks for in vain is said."""
    asked = {name: session.query(name) for name in NAMES if session.query(name)}
    found, notes = Filters.from_query(
        asked, project.classes, findings.score_names, project.config.budget, groups=choices(findings.samples)
    )
    for note in notes:
        notices.warning(note)
    if (sample := session.query("id")) and sample not in findings.samples.index:
        notices.warning(f"The link asks for image {sample!r}, which this project does not have.")
    ids, said = selection.ids_of_query(findings, project.classes, session.whole_query())
    if said:
        notices.warning(f"{said} Images of the whole map are shown.")
    return replace(found, ids=ids)


def score_title(name: str) -> str:
    """Return a score's title as people read it."""
    return "Suspicion" if name == "suspicion" else SCORE_INFO[name].title if name in SCORE_INFO else name


def bar(project: Project, findings: Findings, now: Filters) -> None:
    """Draw the filters, those that few people need behind a button."""
    scores = ["suspicion", *findings.score_names]
    rank, given, suggested, decision, more = st.columns([3, 2, 2, 2, 1.4], vertical_alignment="bottom")
    with rank:
        _select("score", "Rank by", scores, now.score, "suspicion", score_title)
    with given:
        _select("class", "Labelled", [ALL, *project.classes], now.given or ALL, ALL, _name)
    with suggested:
        _select("to", "Suggested", [ALL, *project.classes], now.suggested or ALL, ALL, _name)
    with decision:
        _select("decision", "Decision", list(DECISIONS), now.decision, "any", lambda name: DECISIONS[name])
    with more, st.popover("More", width="stretch"):
        _more(project, findings, now)
    if now.ids is not None:
        words, back = st.columns([5, 1.3], vertical_alignment="center")
        words.caption(f"Only the {len(now.ids):,} images that were chosen on the map.")
        if back.button("Show all", width="stretch", icon=":material/close:"):
            session.set_query(lasso=None, stand=None, flagged=None, page=None, id=None)
            st.rerun()


def _name(name: str) -> str:
    return "All classes" if name == ALL else name


def _more(project: Project, findings: Findings, now: Filters) -> None:
    _groups(findings, now)
    _select("reason", "Reason", [ALL, *KINDS], now.kind or ALL, ALL, lambda name: "Any reason" if name == ALL else name)
    _text("q", "Text in the id", now.text, "part of a file name")
    _text("budget", "Budget", now.budget if now.budget != project.config.budget else "", project.config.budget)
    st.caption("How many to flag: a share such as 5% or a number such as 400.")
    session.keep("f-range", (float(now.low), float(now.high)))
    st.slider("Percentile of the ranking score", 0.0, 100.0, step=0.5, key="f-range", on_change=_write_range)
    session.keep("f-flagged", now.flagged)
    st.toggle("Flagged only", key="f-flagged", on_change=_write_switch, args=("flagged", "f-flagged", True))
    _select("split", "Split", ["train", "val", "test"], now.split, "train", str)
    session.keep("f-blind", bool(session.query("blind")))
    st.toggle("Blind: hide the suggestion", key="f-blind", on_change=_write_switch, args=("blind", "f-blind", False))
    session.keep("f-group", bool(session.query("group")))
    st.toggle("Group by class pair", key="f-group", on_change=_write_switch, args=("group", "f-group", False))
    session.keep("f-reviewer", session.reviewer())
    st.text_input("Decide as", key="f-reviewer", max_chars=80, on_change=_write_reviewer)
    if st.button("Reset all filters", width="stretch"):
        session.replace_query({})
        st.rerun()


def _groups(findings: Findings, now: Filters) -> None:
    """Draw what narrows to copies, and to one value of a column, where a project has any."""
    if (findings.samples[marks.COPIES] != "").any():
        _select("copies", "Copies", list(COPIES), now.copies, "any", lambda name: COPIES[name])
    known = choices(findings.samples)
    if not known:
        return
    by = session.query("by") if session.query("by") in known else ALL
    _select("by", "Only one value of", [ALL, *known], by, ALL, lambda name: "Nothing" if name == ALL else name)
    if by != ALL:
        _select("value", by, ["", *known[by]], now.value or "", "", lambda name: name or "All values")


def _select(name: str, title: str, values: Sequence[str], now: str, default: str, shown: Any) -> None:
    key = f"f-{name}"
    session.keep(key, now if now in values else default)
    st.selectbox(title, list(values), key=key, format_func=shown, on_change=_write, args=(name, key, default))


def _text(name: str, title: str, now: str, placeholder: str) -> None:
    key = f"f-{name}"
    session.keep(key, now)
    st.text_input(title, key=key, placeholder=placeholder, max_chars=200, on_change=_write, args=(name, key, ""))


def _write(name: str, key: str, default: str) -> None:
    value = str(session.kept(key))
    also = {"value": None} if name == "by" else {}
    session.set_query(**{name: None if value == default else value, "page": None, "id": None, **also})


def _write_switch(name: str, key: str, default: bool) -> None:
    value = bool(session.kept(key))
    session.set_query(**{name: None if value == default else "1" if value else "0", "page": None, "id": None})


def _write_range() -> None:
    low, high = session.kept("f-range")
    session.set_query(low=f"{low:g}" if low > 0 else None, high=f"{high:g}" if high < 100 else None, page=None, id=None)


def _write_reviewer() -> None:
    session.name_reviewer(str(session.kept("f-reviewer")))
