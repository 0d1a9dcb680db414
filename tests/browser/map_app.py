"""The map without a project: points drawn from a seed, and in plain text what Python heard of the browser.

Started by `test_map.py` as `streamlit run map_app.py -- POINTS`. Ids and labels try to be markup.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import streamlit as st  # noqa: E402

from core.review.points import MapData, inside  # noqa: E402
from pages.ui import charts, map_view  # noqa: E402

PICTURE = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="
HOSTILE = "<img src=x onerror=\"document.title='owned'\">**a**"


@cache
def points(count: int) -> MapData:
    """Draw `count` points of two clouds, and one far from them at (20, 0)."""
    rng = np.random.default_rng(7)
    xy = rng.normal(0, 1, (count, 2)) * (3, 2) + np.where(rng.random(count) < 0.5, -4, 4)[:, None]
    xy[0] = (20, 0)
    value = rng.uniform(0, 100, count)
    action = np.full(count, "undecided", dtype=object)
    action[1:9] = ["keep", "relabel", "exclude", "unsure"] * 2
    ids = np.array([f"<b>{row:05d}</b>.png" for row in range(count)], dtype=object)
    return MapData(ids, xy.astype(np.float32), value, value > 95, action, 0, "", ())


def by_class(data: MapData) -> MapData:
    """Return the same points coloured by three classes."""
    codes = (np.arange(len(data.ids)) % 3).astype(np.int16)
    return MapData(data.ids, data.xy, codes, data.flagged, data.action, 0, "", ("cat", HOSTILE, "fox"))


def main() -> None:
    """Draw the page."""
    data = points(int(sys.argv[1]))
    st.text_input("word", key="word")
    colour = st.segmented_control("Colour", ["suspicion", "class"], default="suspicion", key="colour") or "suspicion"
    map_view.chips("legend", [map_view.Chip("c1", HOSTILE, "●", "#3f90da", 1200, pressed=False)])
    st.text(f"pressed {map_view.pressed('legend', {'c1'})}")
    shown = by_class(data) if colour == "class" else data
    known = set(data.ids)
    webgl = not st.session_state.get("no_webgl")
    figure = charts.map_figure(
        shown, st.context.theme.type == "dark", space="gradients", classes=shown.categories, webgl=webgl
    )
    map_view.chart("map", figure, "the map")
    places = {name: data.xy[row].tolist() for row, name in enumerate(data.ids)} if len(data.ids) < 10_000 else {}

    @st.fragment
    def selection() -> None:
        heard = map_view.sent("map", known)
        if not heard.webgl and not st.session_state.get("no_webgl"):
            st.session_state["no_webgl"] = True
            st.rerun()
        if heard.drew:
            st.session_state["outline"] = heard.outline
        if heard.clicked:
            st.session_state["clicked"] = heard.clicked
        outline, clicked = st.session_state.get("outline"), st.session_state.get("clicked")
        found = np.flatnonzero(inside(data.xy, outline)) if outline else []
        with st.container(key="heard"):
            st.text(f"selected {len(found)} sum {int(np.sum(found))} corners {len(outline or [])}")
            st.text(f"outline {outline}")
            st.text(f"clicked {clicked}")
        map_view.listen("map", outline=outline, ring=places.get(clicked), said=f"{len(found)} images are selected.")

    @st.fragment
    def card() -> None:
        name = map_view.hovered("map", known)
        answer = None
        if name is not None:
            asked = st.session_state.setdefault("asked", {})
            asked[name] = asked.get(name, 0) + 1
            src = PICTURE if asked[name] > 1 else None  # the first time there is no thumbnail yet
            answer = map_view.Answer(name, src, f"{HOSTILE} → dog?", "suspicion 97", f"Labelled {HOSTILE}.", name)
        map_view.hover("map", answer, stamp=colour)

    selection()
    card()


def other() -> None:
    """Draw a page without a map."""
    st.text("another page")


def home() -> None:
    """Draw the page with the map."""
    st.set_page_config(layout="wide")
    main()


if __name__ == "__main__":
    st.navigation(
        [st.Page(home, title="Map", default=True), st.Page(other, title="Other", url_path="other")], position="top"
    ).run()
