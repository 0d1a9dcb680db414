"""The stage: slides over the whole window, moved by keys; what `core.export.slides` made, drawn as it is.

    if stage.show(deck, at=3, dark=True, key="stage"):   # True once, when the person ends the presentation
        ...

The stage is a modal dialog, so it lies over everything, keeps the focus, and the keys of the page below are silent.
A change of slide stays in the browser: it writes `slide=` into the address and runs no script here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from core.export.report import asset
from core.export.slides import Slide

FOLDER = Path(__file__).parent
_HTML = '<dialog class="deck presenting" aria-label="Presentation"></dialog>'
_STAGE = st.components.v2.component(
    "gradsift_stage",
    html=_HTML,
    css=asset("slides.css") + (FOLDER / "stage.css").read_text("utf-8"),
    js=(FOLDER / "stage.js").read_text("utf-8"),
)


def show(slides: Sequence[Slide], *, at: int, dark: bool, key: str) -> bool:
    """Mount the stage and tell whether the presentation was just ended.

    Args:
        slides: their HTML is inserted as it is; `core.export.slides` escapes every name in it.
        at: the slide to begin with, counted from 1; beyond the ends the nearest.
        dark: which colours to use.
        key: of the mount.
    """
    data = {
        "slides": [{"title": each.title, "part": each.part, "html": each.html} for each in slides],
        "at": at,
        "dark": dark,
    }
    _STAGE(key=key, data=data, on_ended_change=_nothing)
    state: Any = st.session_state.get(key)
    return isinstance(state, Mapping) and state.get("ended") is True


def _nothing() -> None:
    """Make Streamlit give the component a trigger of this name."""
