"""Map: where are the suspects? The points on the left, the images of the lasso on the right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from core.catalogue import SCORE_INFO
from core.findings import Findings
from core.project import Project
from core.review import gallery, inbox, points
from core.review.decisions import Review
from core.review.flags import SUSPICION
from core.review.gallery import Filters
from core.review.inbox import Receipt
from core.review.points import MOST_CHOSEN, MOST_COLOURS, MapData
from pages.ui import cached, charts, grid, job_panel, large, map_view, notices, session
from pages.ui.map_view import panel, polygon, selection
from pages.ui.map_view.selection import Chosen
from pages.ui.map_view.view import View, budgets, places, rankings

KEY, GRID, LEGEND = "map", "map-grid", "map-legend"
RANKED = ("score", "budget", "space", "colour")
TAKEN = (*RANKED, "stand", "lasso")  # of the address, to another page
SHOWN = 60  # images of a selection that are shown beside the map
HEIGHT = 640  # pixels, as are the two below
STRIP, STRIP_BELOW = 480, 240  # the gallery beside the map, alone and below the panel of one image
SPACE_TITLES = {"gradients": "Gradients", "features": "Features"}
RANKING_TITLES = {SUSPICION: "Suspicion", "oga_forest": "Forest", "oga_l1": "L1", "oga_l2": "L2"}
COLOUR_TITLES = {SUSPICION: "Suspicion", points.GIVEN: "Given label", points.SUGGESTED: "Suggested label"}


@dataclass(frozen=True)
class Shown:
    """What one run of the page shows, worked out once and handed to its fragments."""

    project: Project
    stamp: tuple[int, int]  # of the run whose findings these are
    findings: Findings
    review: Review
    view: View
    data: MapData
    flagged: tuple[str, ...]  # most suspicious first
    decided: Mapping[str, str]  # what the chart shows as decided

    @property
    def filters(self) -> Filters:
        """The ranking and the budget, as the gallery takes them."""
        return Filters(score=self.view.ranking, budget=self.view.budget, flagged=False)

    @property
    def owner(self) -> str:
        """The project in a few letters: what a tab notes of one project is nothing to another."""
        return blake2b(str(self.project.folder).encode(), digest_size=8).hexdigest()

    def fresh(self) -> None:
        """Run the page again where another run has ended since."""
        if cached.run_stamp(self.project) != self.stamp:
            st.rerun()


def page() -> None:
    """Draw the page."""
    project, _ = session.need_findings()
    stamp = cached.run_stamp(project)
    findings = cached.findings(project)  # of that stamp or a later one, never of an earlier one
    if cached.job(project).running:
        job_panel.panel(project, until="map", compact=True)
    if not findings.maps:
        _no_map(project)
        return
    _press(project)
    spaces = tuple(space for space in ("gradients", "features") if space in findings.maps)
    view, said = View.from_query(
        session.whole_query(), project.classes, findings.score_names, spaces, project.config.budget
    )
    for note in said:
        notices.warning(note)
    if (sample := session.query("id")) and sample not in findings.samples.index:
        notices.warning(f"The link asks for image {sample!r}, which this project does not have.")
    review = cached.review(project, session.reviewer(), bool(session.read_only()))
    flagged = tuple(points.flagged_ids(findings.samples, view.ranking, view.budget))
    st.subheader(notices.plain(points.headline(findings.samples, flagged)), anchor=False)
    _controls(project, findings, view, spaces)
    decisions = review.current()
    data = _data(project, findings, decisions, view)
    shown = Shown(project, stamp, findings, review, view, data, flagged, selection.actions(decisions))
    _legend(shown)
    with st.container(key="map-body"):
        left, right = st.columns([2, 1], gap="medium")
        with left:
            _draw(shown)
        with right:
            _side(shown)
    _card(shown)
    _wait_for_thumbnails(project)
    _below(shown)


def _no_map(project: Project) -> None:
    if cached.job(project).running:
        notices.empty("The map is being computed.", "It opens here by itself. The gallery can be reviewed meanwhile.")
        if st.button("Review meanwhile", icon=":material/grid_view:"):
            session.goto("review")
        return
    notices.empty("The last run drew no map.", "Run it again with maps; what is computed already is not run twice.")
    if st.button("Run with maps", type="primary", icon=":material/speed:"):
        session.goto("score", maps=1)


def _data(project: Project, findings: Findings, decisions: pd.DataFrame, view: View) -> MapData:
    chosen = view.classes if len(project.classes) > MOST_COLOURS and _by_class(view) else ()
    return points.map_data(findings, decisions, view.space, view.colour, view.ranking, view.budget, view.split, chosen)


def _by_class(view: View) -> bool:
    return view.colour in (points.GIVEN, points.SUGGESTED)


# The controls: the address holds what they say.


def _controls(project: Project, findings: Findings, view: View, spaces: tuple[str, ...]) -> None:
    scores = (SUSPICION, *findings.score_names)
    with st.container(key="map-controls", horizontal=True, vertical_alignment="bottom", gap="medium"):
        _segments("space", "Map of", spaces, view.space, spaces[0], SPACE_TITLES)
        _colour((SUSPICION, points.GIVEN, points.SUGGESTED, *scores[1:]), view)
        _segments(
            "score", "Flagged by", rankings(view.ranking, findings.score_names), view.ranking, SUSPICION, RANKING_TITLES
        )
        _budget(project, findings, view)
    if len(project.classes) > MOST_COLOURS:
        _many_classes(project, view)


def _segments(name: str, title: str, values: tuple[str, ...], now: str, default: str, titles: dict[str, str]) -> None:
    session.keep(f"m-{name}", now)
    st.segmented_control(
        title, values, key=f"m-{name}", required=True, on_change=_write, args=(name, default),
        format_func=lambda value: titles.get(value) or _title(value),
    )  # fmt: skip


def _colour(values: tuple[str, ...], view: View) -> None:
    session.keep("m-colour", view.colour)
    st.selectbox(
        "Colour", values, key="m-colour", on_change=_write, args=("colour", SUSPICION), width=210,
        format_func=lambda value: COLOUR_TITLES.get(value) or _title(value),
    )  # fmt: skip


def _budget(project: Project, findings: Findings, view: View) -> None:
    total = int((findings.samples["split"] == "train").sum())
    words = budgets(total, view.budget, project.config.budget)
    session.keep("m-budget", view.budget)
    st.select_slider(
        "Budget: flag the worst", list(words), key="m-budget", on_change=_write, args=("budget", project.config.budget),
        format_func=lambda value: words[value], width=230,
    )  # fmt: skip


def _many_classes(project: Project, view: View) -> None:
    session.keep("m-stand", list(view.classes))
    st.multiselect(
        "Classes that stand out", list(project.classes), key="m-stand", max_selections=MOST_CHOSEN,
        placeholder="All classes", on_change=_write_classes, args=(project.classes,),
    )  # fmt: skip


def _title(score: str) -> str:
    return SCORE_INFO[score].title if score in SCORE_INFO else score


def _write(name: str, default: str) -> None:
    value = str(session.kept(f"m-{name}"))
    session.set_query(**{name: None if value == default else value})


def _write_classes(classes: tuple[str, ...]) -> None:
    session.set_query(stand=places(session.kept("m-stand"), classes))


def _write_split() -> None:
    session.set_query(split="all" if session.kept("m-split") else None)


def _press(project: Project) -> None:
    """Take a class in or out whose chip was pressed."""
    name = map_view.pressed(LEGEND, {str(row) for row in range(len(project.classes))})
    if name is not None:
        now = [each for each in session.query("stand").split(".") if each]
        then = [each for each in now if each != name] if name in now else [*now, name]
        session.set_query(stand=".".join(then) if len(then) < len(project.classes) else None)


# The map itself.


def _legend(shown: Shown) -> None:
    """Shapes, then classes; the classes can be pressed where there are few enough for chips."""
    kind = charts.kinds(shown.data.flagged, shown.data.action)
    colours = charts.look(session.dark()).decisions
    counts = np.bincount(kind, minlength=len(charts.MARKS))
    shapes = [
        map_view.Chip(mark.name, mark.title, mark.sign, colours.get(mark.name, ""), int(counts[row]))
        for row, mark in enumerate(charts.MARKS)
        if counts[row] and mark.name != "ordinary"
    ]
    map_view.chips(LEGEND, [*reversed(shapes), *_class_chips(shown)])


def _class_chips(shown: Shown) -> list[map_view.Chip]:
    view, classes = shown.view, shown.project.classes
    by_class = _by_class(view)
    names = shown.data.categories if by_class else classes
    if len(classes) > MOST_COLOURS and not by_class:
        return []
    colours = charts.class_colours(names, classes, session.dark())
    labels = shown.findings.samples.loc[selection.drawn(shown.findings, view), view.label].value_counts()
    few = len(classes) <= MOST_COLOURS
    return [
        map_view.Chip(
            str(classes.index(name)) if few else f"c{row}", name, "●" if by_class else "",
            colours[row] if by_class else "", int(labels[name]) if name in labels else None,
            name in view.classes if few else None,
        )
        for row, name in enumerate(names)
    ]  # fmt: skip


def _draw(shown: Shown) -> None:
    view, data = shown.view, shown.data
    faded = None
    if view.classes:
        faded = ~selection.standing(shown.findings, view)[shown.findings.samples.index.get_indexer(pd.Index(data.ids))]
    figure = charts.map_figure(
        data, session.dark(), space=view.space, title=_title(view.colour) if view.colour != SUSPICION else "suspicion",
        classes=shown.project.classes, faded=faded, webgl=not session.kept("no-webgl"), height=HEIGHT,
    )  # fmt: skip
    map_view.chart(
        KEY, figure, f"Map of the {view.space}: {len(data.ids):,} images, {int(data.flagged.sum()):,} flagged"
    )
    note, switch = st.columns([5, 1.3], vertical_alignment="center")
    faded_note = " Classes that are not chosen are grey." if view.classes else ""
    note.caption(notices.plain(f"{data.note}{faded_note} Neighbourhoods mean something, distances do not."))
    session.keep("m-split", view.split == points.ALL)
    switch.toggle("Held-out too", key="m-split", on_change=_write_split)


# Beside the map: what is selected, and the image that was chosen.


@st.fragment
def _side(shown: Shown) -> None:
    with notices.shown():
        _fill(shown)


def _fill(shown: Shown) -> None:
    shown.fresh()
    receipt = large.received(GRID, shown.review, shown.findings)
    _hear(shown)
    chosen = _chosen(shown)
    ids = list(chosen.ids)
    decisions = shown.review.current()
    table = shown.findings.samples
    opened = session.query("id")
    opened = opened if opened in table.index else ""
    ring = session.kept(_noted(shown, "ring"))
    _listen(shown, chosen, ring if ring in table.index else opened, decisions)
    with st.container():  # one place for each part: a gallery that changes its place is built anew and loses its focus
        _words(shown, chosen)
    with st.container():
        if opened:
            panel.draw(shown.project, shown.findings, decisions, opened)
            _panel_buttons(shown, opened)
    first = ids[:SHOWN] if not opened or opened in ids[:SHOWN] else [opened, *ids[: SHOWN - 1]]
    frame = gallery.ranked(table, decisions, shown.filters, first)
    pictures = cached.thumb_urls(shown.project, [str(sample) for sample in frame.index])
    cards = [{**card, "src": pictures.get(card["id"])} for card in gallery.cards(frame, shown.findings)]
    if cards:
        _strip(shown, decisions, cards, receipt, opened)
    _buttons(shown, chosen)


def _noted(shown: Shown, name: str) -> str:
    """Under which name a tab notes something of this project."""
    return f"map-{name}-{shown.owner}"


def _hear(shown: Shown) -> None:
    """Write into the address what the person did on the map and in the gallery beside it."""
    known = shown.findings.samples.index
    heard, said = map_view.sent(KEY, known), large.said(GRID, shown.review)
    if heard.drew:
        drawn = selection.drawn_on(shown.findings, shown.view.space, heard.outline) if heard.outline else None
        session.set_query(lasso=polygon.written(drawn) if drawn else None, id=None)
    if _changed(shown, "opened", (said.opened, said.opened_number)) and said.opened in known:
        session.set_query(id=said.opened)
    if _changed(shown, "focus", said.focus) and said.focus in known:
        session.keep(_noted(shown, "ring"), said.focus)
    if heard.clicked:
        session.set_query(id=heard.clicked)
        session.keep(_noted(shown, "ring"), heard.clicked)
    if not heard.webgl and not session.kept("no-webgl"):
        session.keep("no-webgl", True)
        st.rerun()


def _strip(shown: Shown, decisions: pd.DataFrame, cards: list[dict[str, Any]], receipt: Receipt, opened: str) -> None:
    """The gallery beside the map: the same keys as in Review."""
    ids = [str(card["id"]) for card in cards]
    grid.grid(
        cards, key=GRID, owner=large.owner(shown.project, shown.review.reviewer),
        decisions=inbox.state_of(decisions, ids), history=inbox.history(shown.review, ids), receipt=receipt.plain(),
        classes=list(shown.project.classes), focus=opened or None, read_only=session.read_only(), layout="strip",
        height=STRIP_BELOW if opened else STRIP,
    )  # fmt: skip


def _changed(shown: Shown, name: str, value: object) -> bool:
    """Whether the gallery says something else than when it was heard last."""
    key = _noted(shown, f"heard-{name}")
    if session.kept(key) == value:
        return False
    session.keep(key, value)
    return True


def _chosen(shown: Shown) -> Chosen:
    """What the address selects, worked out when it changes and not with every key."""
    text = session.query("lasso")
    key = (str(shown.project.folder), shown.stamp, shown.view, text)
    kept: dict[Any, Chosen] = session.kept_or("map-chosen", dict)
    if key not in kept:
        kept.clear()
        kept[key] = selection.chosen(shown.findings, shown.view, text, shown.flagged)
    return kept[key]


def _listen(shown: Shown, chosen: Chosen, focus: str, decisions: pd.DataFrame) -> None:
    rows, lasso = chosen.rows, chosen.lasso
    here = lasso is not None and lasso.space == shown.view.space
    xy = np.asarray(shown.findings.maps[shown.view.space])
    ring = xy[shown.findings.samples.index.get_loc(focus)].tolist() if focus else None
    map_view.listen(
        KEY, selected=rows is not None, outline=lasso.outline if lasso and here else None, ring=ring,
        said=chosen.text,
        dots=[] if rows is None or here else selection.thinned(xy[rows], map_view.MOST_DOTS),
        marks=_decided_since(shown, decisions),
    )  # fmt: skip


def _decided_since(shown: Shown, decisions: pd.DataFrame) -> list[list[float]]:
    """Where the points lie that were decided on since the chart was drawn."""
    changed = selection.changed(shown.decided, selection.actions(decisions))
    rows = shown.findings.samples.index.get_indexer(pd.Index(changed, dtype=object))
    rows = rows[rows >= 0]
    rows = rows[selection.drawn(shown.findings, shown.view)[rows]]
    return selection.thinned(np.asarray(shown.findings.maps[shown.view.space])[rows], map_view.MOST_DOTS)


def _words(shown: Shown, chosen: Chosen) -> None:
    rows, ids = chosen.rows, chosen.ids
    if chosen.message:
        notices.warning(f"{chosen.message} The flagged images are shown.")
    if rows is None:
        most = f"The {SHOWN} most suspicious of {len(ids):,} flagged images"
        st.markdown(f"**{most if len(ids) > SHOWN else f'The {len(ids):,} flagged images, most suspicious first'}**")
        st.caption("Draw around a patch of the map to see its images here. A click opens one image.")
        return
    st.markdown(f"**{notices.plain(chosen.text)}**")
    held = int(rows.sum()) - len(ids)
    notes = [f"The {SHOWN} most suspicious are shown."] if len(ids) > SHOWN else []
    notes += [f"{held:,} of them are held out: not shown, not decided on."] if held else []
    notes += ["Only the chosen classes are selected."] if shown.view.classes else []
    if notes:
        st.caption(" ".join(notes))


def _panel_buttons(shown: Shown, focus: str) -> None:
    with st.container(horizontal=True, key="map-panel-buttons"):
        if st.button("Open in review", key="map-open", icon=":material/open_in_full:"):
            session.goto("review", id=focus, flagged=None if focus in shown.flagged else "0", **_taken_along(RANKED))
        if st.button("Close", key="map-close"):
            session.set_query(id=None)
            st.rerun(scope="fragment")


def _taken_along(names: tuple[str, ...]) -> dict[str, str]:
    """What another page's address takes of this one's: what that page reads, and the rest for the way back."""
    return {name: value for name, value in session.whole_query().items() if name in names}


def _buttons(shown: Shown, chosen: Chosen) -> None:
    ids = list(chosen.ids)
    with st.container(horizontal=True, key="map-buttons"):
        if st.button(f"Review these {len(ids):,}", type="primary", key="map-review", disabled=not ids):
            _go_review(chosen)
        st.download_button(
            "Export selection", lambda: panel.csv_of(shown.findings, shown.review.current(), shown.flagged, ids),
            file_name="selection.csv", mime="text/csv", key="map-export", disabled=not ids, on_click="ignore",
        )  # fmt: skip
        if session.query("lasso") and st.button("Clear", key="map-clear"):
            session.set_query(lasso=None)
            st.rerun(scope="fragment")


def _go_review(chosen: Chosen) -> None:
    drawn = chosen.lasso is not None
    taken = _taken_along(TAKEN if drawn else tuple(name for name in TAKEN if name != "lasso"))
    session.goto("review", **taken, flagged="0" if drawn else None)


@st.fragment
def _card(shown: Shown) -> None:
    """The card beside the pointer."""
    with notices.shown():
        shown.fresh()
        name = map_view.hovered(KEY, shown.findings.samples.index)
        answer = panel.answer(shown.project, shown.findings, name) if name is not None else None
        map_view.hover(KEY, answer, stamp="-".join(map(str, (shown.owner, *shown.stamp))))


def _wait_for_thumbnails(project: Project) -> None:
    """Run the page once more when the thumbnails are whole; nothing polls where they are."""
    if cached.pictures(project).ready >= 1:
        return

    @st.fragment(run_every=1.5)
    def wait() -> None:
        ready = cached.pictures(project).ready
        if ready >= 1 or not cached.pictures(project).working:
            st.rerun()
        st.caption(f"Thumbnails are being made: {ready:.0%}.")

    if cached.pictures(project).working:
        wait()


def _below(shown: Shown) -> None:
    found = points.overlap(
        shown.findings.samples, rankings(shown.view.ranking, shown.findings.score_names), shown.view.budget
    )
    with st.expander("How far the rankings agree", key="map-overlap"):
        st.markdown(notices.plain(found["sentence"]))
        pairs = pd.DataFrame(found["pairs"])
        pairs["a"], pairs["b"] = pairs["a"].map(_named), pairs["b"].map(_named)
        st.dataframe(pairs, hide_index=True, column_config={
            "a": "Ranking", "b": "and ranking", "both": "Both flag",
            "jaccard": st.column_config.NumberColumn("of those either flags", format="percent"),
        })  # fmt: skip
    with st.expander(f"The {len(shown.flagged):,} flagged images as a table", key="map-table"):
        st.dataframe(panel.table_of(shown.findings, shown.review.current(), shown.flagged, shown.view.ranking))


def _named(score: str) -> str:
    return COLOUR_TITLES.get(score) or _title(score)


session.open_page("Map")
st.html(panel.STYLE)
with notices.shown():
    page()
