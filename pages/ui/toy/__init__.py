"""The pictures of the learn page: points that can be dragged and flipped, views of them, and one image taken apart.

    heard = toy.sent("toy", owner, rows)                   # what the person did since the page looked last
    toy.points("toy", answer, owner=owner, edits=..., heard=heard, ...)
    toy.views("toy-views", answer, owner=owner, ...)
    toy.image("lesson", told, pictures, ...)

`points` holds the one picture that can be changed; `views` the small ones beside it, in the same frame. A point under
the pointer or in focus is ringed in all of them. The browser shows a change at once and sends all edits of the world,
so a message that is lost is made good by the next; while a point is dragged it waits for each answer before it sends
again. What it sends is input: `sent` reads it, `core.toys` checks it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

from core.lesson import Lesson, Look
from core.toys import FRAME, MEASURES, Answer, Edit, sentences
from pages.ui import session

FOLDER = Path(__file__).parent
LONGEST_NONCE = 40
VIEWS = tuple(MEASURES)


@dataclass(frozen=True)
class Heard:
    """What the person did: the edits of the whole world, None where nothing new was said.

    Attributes:
        nonce: of the message that was heard last, to be sent back.
        live: whether a point is still in the person's hand.
    """

    edits: tuple[Edit, ...] | None = None
    nonce: str = ""
    live: bool = False


def sent(key: str, owner: str, rows: int) -> Heard:
    """What the points of this key said since the last time, if it is about this world; call it before `points`.

    Args:
        key: that of `points`.
        owner: names the world: what was said of another one is dropped.
        rows: how many points the world has.
    """
    state = session.kept(key)
    said = state.get("said") if isinstance(state, Mapping) else None
    if not isinstance(said, Mapping) or said.get("owner") != owner:
        return Heard()
    nonce = said.get("nonce")
    if not isinstance(nonce, str) or not 0 < len(nonce) <= LONGEST_NONCE:
        return Heard()
    if session.kept(f"{key}-seen") == nonce:
        return Heard(nonce=nonce)
    session.keep(f"{key}-seen", nonce)
    return Heard(_edits(said.get("edits"), rows), nonce, said.get("live") is True)


def points(
    key: str, answer: Answer, *, owner: str, edits: Sequence[Edit], heard: Heard, rings: bool, dark: bool, about: str
) -> None:
    """Draw the picture that can be changed, with the border, and the new one where points were taken away.

    Args:
        key: of the mount.
        answer: what is shown.
        owner: names the world; another one makes the browser forget what it holds.
        edits: what is in effect of what was done to the points.
        heard: what `sent` returned.
        rings: whether wrong labels are marked.
        dark: which colours to use.
        about: says what is shown to those who do not see it.
    """
    trimmed = answer.trimmed
    data = _frame(answer, owner, rings, dark) | {
        "edits": [[edit.row, int(edit.flipped), *(edit.at or ())] for edit in edits],
        "heard": heard.nonce,
        "border": answer.border,
        "after": trimmed.border if trimmed else None,
        "taken": trimmed.taken.nonzero()[0].tolist() if trimmed else [],
        "places": {name: _places(answer, name) for name in answer.measured.values},
        "names": {name: each.most for name, each in MEASURES.items()},
        "about": about,
    }
    _component("points")(key=key, data=data, on_said_change=_nothing)


def views(key: str, answer: Answer, *, owner: str, rings: bool, dark: bool) -> None:
    """Draw the small pictures with their titles and sentences."""
    told, measured = sentences(answer), answer.measured
    arrows = [[round(float(x), 2), round(float(y), 2)] for x, y in measured.direction]
    data = _frame(answer, owner, rings, dark) | {
        "border": answer.border,
        "views": [
            {
                "name": name,
                "title": MEASURES[name].title,
                "text": told[name],
                "heat": [round(float(each), 3) for each in measured.heat(name)] if name in measured.values else None,
                "arrows": arrows if name == "push" else None,
            }
            for name in VIEWS
        ],
    }
    _component("views")(key=key, data=data)


def image(key: str, told: Lesson, pictures: Mapping[str, str | None], *, dark: bool) -> None:
    """Draw a suspect and an ordinary image of its class side by side, each with the two parts of its gradient."""
    looks = [look for look in (told.suspect, told.ordinary) if look]
    largest = max((abs(value) for look in looks for value in look.saw), default=1.0) or 1.0
    data = {
        "looks": [_look(look, pictures) for look in looks],
        "largest": largest,
        "decided": told.decided,
        "dots": told.dots,
        "space": told.space,
        "dark": dark,
    }
    _component("lesson")(key=key, data=data)


def _frame(answer: Answer, owner: str, rings: bool, dark: bool) -> dict[str, Any]:
    """What every picture of a world needs."""
    return {
        "owner": owner,
        "frame": FRAME,
        "xy": [[round(float(x), 3), round(float(y), 3)] for x, y in answer.world.xy],
        "labels": answer.world.labels.tolist(),
        "wrong": answer.world.wrong.nonzero()[0].tolist(),
        "rings": rings,
        "dark": dark,
    }


def _places(answer: Answer, name: str) -> list[int]:
    """The place of every point in the order of a measure, from 1."""
    places = [0] * len(answer.world.xy)
    for place, row in enumerate(answer.measured.order(name).tolist(), start=1):
        places[row] = place
    return places


def _look(look: Look, pictures: Mapping[str, str | None]) -> dict[str, Any]:
    near = [
        {"id": str(each["id"]), "label": str(each["label"]), "src": pictures.get(str(each["id"]))} for each in look.near
    ]
    return asdict(look) | {"near": near, "src": pictures.get(look.id)}


def _edits(said: object, rows: int) -> tuple[Edit, ...] | None:
    """The edits of a message; those that are none are left out, None where it is no list."""
    if not isinstance(said, list):
        return None
    found = {each.row: each for each in map(_edit, said[:rows]) if each is not None and each.row < rows}
    return tuple(found.values())


def _edit(said: object) -> Edit | None:
    if not isinstance(said, list) or len(said) not in (2, 4) or not all(isinstance(e, int | float) for e in said):
        return None
    row, flipped, *at = said
    if not isinstance(row, int) or row < 0 or not all(math.isfinite(each) and abs(each) < 100 for each in at):
        return None
    # Thousandths, as an address keeps them: what is shown while dragging is what a reload shows.
    return Edit(row, bool(flipped), (round(float(at[0]), 3), round(float(at[1]), 3)) if at else None)


_COMPONENTS = {
    "points": ("toy.css", ("palette.js", "frame.js", "points.js")),
    "views": ("toy.css", ("palette.js", "frame.js", "views.js")),
    "lesson": ("lesson.css", ("palette.js", "lesson.js")),
}


@cache
def _component(name: str) -> Any:
    """A component of this folder. Its code takes nothing from data."""
    css, scripts = _COMPONENTS[name]
    js = "\n".join((FOLDER / each).read_text("utf-8") for each in scripts)
    return st.components.v2.component(f"gradsift_{name}", js=js, css=(FOLDER / css).read_text("utf-8"))


def _nothing() -> None:
    """Make Streamlit give the component a state of this name."""
