"""The large map: Plotly draws it, small components listen on it.

    chart("map", figure, alt)                outside fragments: it is built once and not sent again
    heard = sent("map", known)               before `listen`: what the person drew or clicked since the last time
    listen("map", outline=…, ring=…, …)      in the fragment that shows the selection
    hovered("map", known), hover("map", …)   in a fragment of their own: the card beside the pointer
    chips("legend", …), pressed("legend")    legend and filter at once

Plotly's own selection sends every point and redoes it on each mouse move. Here an overlay draws the lasso or the box
and sends its outline alone (`polygon.py` checks and shortens it); Python finds the points. What the browser sends is
input: outlines are checked, and ids that are not among `known` are dropped.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from pages.ui.map_view.polygon import Outline, checked, shortened

FOLDER = Path(__file__).parent
CONFIG = {
    "scrollZoom": True, "displaylogo": False, "displayModeBar": True, "doubleClick": "reset",
    "modeBarButtons": [["zoomIn2d", "zoomOut2d", "resetScale2d"]],
}  # fmt: skip
LONGEST_NONCE = 40
MOST_DOTS = 3_000  # points of a selection that are marked one by one


_CARD = """<div class="gs-card" role="status" hidden><img alt=""><div class="gs-card-none">no thumbnail yet</div>
<div class="gs-card-words"><div class="gs-card-title"></div><div class="gs-card-sub"></div>
<div class="gs-card-text"></div><div class="gs-card-id"></div></div></div>"""


def _component(name: str, html: str) -> Any:
    css, js = ((FOLDER / f"{name}.{kind}").read_text("utf-8") for kind in ("css", "js"))
    return st.components.v2.component(f"gradsift_{name}", html=html, css=css, js=js, isolate_styles=False)


_MAP = _component("map", '<div class="gs-map-said" aria-live="polite"></div>')
_HOVER = _component("hover", _CARD)
_CHIPS = _component("chips", '<div class="gs-chips"></div>')


@dataclass(frozen=True)
class Heard:
    """What a person did on the map since the page looked last.

    Attributes:
        drew: whether they drew an outline or took it away.
        outline: the outline, shortened; None if it was taken away or is none.
        clicked: the image they clicked on, or None.
        webgl: False where the browser cannot draw by WebGL.
    """

    drew: bool = False
    outline: Outline | None = None
    clicked: str | None = None
    webgl: bool = True


@dataclass(frozen=True)
class Chip:
    """One chip: its id, its sign and colour, its name and number; `pressed` is None where it cannot be pressed."""

    id: str
    text: str
    sign: str = "●"
    colour: str = ""
    count: int | None = None
    pressed: bool | None = None


@dataclass(frozen=True)
class Answer:
    """What the hover card shows of one image; all of it is text but `src`, a data URL."""

    id: str
    src: str | None
    title: str
    sub: str
    text: str
    alt: str


def chart(key: str, figure: Any, alt: str, **config: Any) -> None:
    """Draw the figure that the components of this key listen on."""
    with st.container(key=key):
        st.plotly_chart(figure, key=f"{key}_chart", theme=None, config=CONFIG | config, alt=alt)


def listen(
    key: str,
    *,
    outline: Outline | None,
    selected: bool | None = None,
    ring: Sequence[float] | None = None,
    dots: Sequence[Sequence[float]] = (),
    marks: Sequence[Sequence[float]] = (),
    said: str = "",
) -> None:
    """Mount the overlay of the chart `key`.

    Args:
        key: that of the chart.
        outline: what is selected, in the map's coordinates.
        selected: whether there is something to take away; by default where there is an outline.
        ring: where the chosen image lies, if one is chosen.
        dots: points to mark one by one, where the selection was drawn in another space.
        marks: points to ring faintly, such as those decided on since the chart was drawn.
        said: read out to those who do not see the map.
    """
    data = {
        "chart": key,
        "outline": outline,
        "selected": bool(outline) if selected is None else selected,
        "ring": list(ring) if ring is not None else None,
        "dots": [list(each) for each in dots[:MOST_DOTS]],
        "marks": [list(each) for each in marks[:MOST_DOTS]],
        "said": said,
        "seen": st.session_state.get(f"{key}_drawn_seen"),
    }
    _MAP(key=f"{key}_listen", data=data, on_drawn_change=_nothing, on_clicked_change=_nothing, on_nogl_change=_nothing)


def sent(key: str, known: Collection[str]) -> Heard:
    """Return what the overlay of the chart `key` sent; call it before `listen`."""
    state = _state(f"{key}_listen")
    drawn, clicked = _once(state.get("drawn"), f"{key}_drawn_seen"), _once(state.get("clicked"), f"{key}_clicked_seen")
    outline = checked(drawn.get("points")) if drawn else None
    name = clicked.get("id") if clicked else None
    return Heard(
        drew=drawn is not None,
        outline=None if outline is None else shortened(outline),
        clicked=name if isinstance(name, str) and name in known else None,
        webgl=state.get("nogl") is not True,
    )


def hover(key: str, answer: Answer | None, stamp: str = "") -> None:
    """Mount the card of the chart `key`; another `stamp` makes the browser forget the cards it has."""
    _HOVER(
        key=f"{key}_hover", on_hover_change=_nothing,
        data={"answer": asdict(answer) if answer else None, "stamp": stamp},
    )  # fmt: skip


def hovered(key: str, known: Collection[str]) -> str | None:
    """Return the id of the image whose card the browser asks for."""
    name = _state(f"{key}_hover").get("hover")
    return name if isinstance(name, str) and name in known else None


def chips(key: str, each: Sequence[Chip]) -> None:
    """Show chips in one or more lines."""
    _CHIPS(key=key, data={"chips": [asdict(chip) for chip in each]}, on_pressed_change=_nothing)


def pressed(key: str, known: Collection[str]) -> str | None:
    """Return the id of the chip that was pressed since the page looked last."""
    heard = _once(_state(key).get("pressed"), f"{key}_seen")
    name = heard.get("id") if heard else None
    return name if isinstance(name, str) and name in known else None


def _nothing() -> None:
    """Make Streamlit give the component a state of this name."""


def _state(key: str) -> Mapping[str, Any]:
    state = st.session_state.get(key)
    return state if isinstance(state, Mapping) else {}


def _once(event: Any, seen: str) -> Mapping[str, Any] | None:
    """Return an event if its nonce is not the one that was looked at last."""
    if not isinstance(event, Mapping):
        return None
    nonce = event.get("nonce")
    if not isinstance(nonce, str) or not 0 < len(nonce) <= LONGEST_NONCE or st.session_state.get(seen) == nonce:
        return None
    st.session_state[seen] = nonce
    return event
