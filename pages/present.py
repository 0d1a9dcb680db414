"""Present: the report's content full screen, one slide after another, for a room."""

from __future__ import annotations

import streamlit as st

from pages.ui import cached, notices, session, stage

BACK = ("load", "score", "map", "review", "export")


def page() -> None:
    """Make the slides and show them until the person ends the presentation."""
    project, _ = session.need_findings()
    with st.spinner("Preparing the slides"):
        deck = cached.deck(project)
    asked = session.query("slide", "1")
    at = int(asked) if asked.isdecimal() and len(asked) < 6 else 1
    if stage.show(deck, at=at, dark=session.dark(), key="stage"):
        origin = session.query("from", "review")
        session.goto(origin if origin in BACK else "review")


session.open_page("Present")
with notices.shown():
    page()
