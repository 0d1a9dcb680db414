"""The grid of images on which labels are decided: a Streamlit component, and the way its decisions come to Python.

    said = grid.sent("suspects").of(owner)             # what the browser says: outbox, focus, opened
    receipt = inbox.accept(review, said.outbox, ...)   # into the log
    grid.grid(rows, key="suspects", owner=owner, decisions=..., history=..., receipt=receipt, ...)

Call both in one `st.fragment`, `sent` first. The component has three mounts: the *stage* holds code, rows and images,
and is sent when one of them changes; the *wire* carries decisions and acknowledgements with every answer; the *detail*
carries the evidence of the focused image. The browser shows a decision at once, keeps it in an outbox in
`localStorage`, and sends the whole outbox until Python acknowledges it, so a repeat must be harmless: store by
`event_id`.

Streamlit keeps the last message while the session lasts, also when the person goes to another project or takes another
name. Each message says whose it is, and `Sent.of` drops one that is not the owner's: decisions go into one log only.

`pending` is the same protocol without a picture, for pages that have no grid.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

import streamlit as st

Rows: TypeAlias = Sequence[Mapping[str, Any]]
Layout: TypeAlias = Literal["review", "strip"]

HERE = Path(__file__).parent
CODES = {"keep": "k", "relabel": "r", "exclude": "x", "unsure": "u", "undecided": "n"}
SHOWN = ("id", "given", "suggested", "suspicion", "rank", "flagged", "reason", "top", "given_prob", "alt", "src")
NO_RECEIPT: Mapping[str, Any] = {"stored": (), "refused": {}, "failed": None}


@dataclass(frozen=True)
class Sent:
    """What the browser said last.

    Attributes:
        outbox: the events it has no acknowledgement for, oldest first; unchecked input.
        focus: the sample id in focus, once the focus has rested; unchecked input.
        opened: the sample id clicked last; unchecked input.
        number: names this message; the answer carries it back.
        owner: whose outbox this is, as `grid` or `pending` was told.
        opened_number: another for each click, so that a second click on the same image is seen.
    """

    outbox: tuple[Mapping[str, Any], ...] = ()
    focus: str | None = None
    opened: str | None = None
    number: str | None = None
    owner: str | None = None
    opened_number: str | None = None

    def of(self, owner: str) -> Sent:
        """The message if it is `owner`'s, else an empty one."""
        return self if self.owner == owner else Sent()


def sent(key: str) -> Sent:
    """What the grid (or `pending`) of `key` said last; empty before it has spoken. Call it before `grid`.

    It may be another owner's, of before a change of project or name: see `Sent.of`.
    """
    state = st.session_state.get(f"{key}-wire")
    return read(state.get("say") if isinstance(state, Mapping) else None)


def read(said: object) -> Sent:
    """A message of the browser as `Sent`; what has not the right shape is left out."""
    if not isinstance(said, Mapping):
        return Sent()
    outbox = said.get("outbox")
    events = tuple(e for e in outbox if isinstance(e, Mapping)) if isinstance(outbox, list) else ()
    clicked = said.get("opened")
    opened, click = (_text(clicked.get(part)) for part in ("id", "n")) if isinstance(clicked, Mapping) else (None, None)
    return Sent(events, _text(said.get("focus")), opened, _text(said.get("n")), _text(said.get("owner")), click)


def grid(
    rows: Rows,
    *,
    key: str,
    owner: str,
    decisions: Mapping[str, Mapping[str, Any]],
    history: Mapping[str, Any],
    receipt: Mapping[str, Any] | None,
    classes: Sequence[str],
    detail: Mapping[str, Any] | None = None,
    focus: str | None = None,
    read_only: str | None = None,
    blind: bool = False,
    layout: Layout = "review",
    height: int | None = None,
) -> None:
    """Draw the grid and answer what the browser said.

    Args:
        rows: the page of images (`core.review.gallery.cards`), each with `src`, a data URL or None.
        key: one per grid of the app.
        owner: whose outbox this is: project and reviewer.
        decisions: `core.review.inbox.state_of` the rows.
        history: `core.review.inbox.history` of the rows.
        receipt: what `core.review.inbox.accept` made of the outbox; None for nothing.
        classes: the class names of the project.
        detail: `core.review.detail.detail` of the focused image, with `images` (id to data URL) and `history`.
        focus: the image to put the focus on; obeyed when it changes and is not `sent(key).focus`, so it may stay as it
            is, or follow what the browser says.
        read_only: why nothing can be decided now, or None.
        blind: hide what the model thinks.
        layout: "review" with the large view, "strip" without it, for a narrow column.
        height: pixels; None takes what is left of the window.
    """
    said = sent(key).of(owner)
    stage = {
        "key": key,
        "owner": owner,
        "rows": [{name: row.get(name) for name in SHOWN} for row in rows],
        "classes": list(classes),
        "blind": blind,
        "layout": layout,
        "height": height,
    }
    page = _digest(stage)
    places = {str(row["id"]): place for place, row in enumerate(rows)}
    wire = {
        "grid": key,
        "part": "wire",
        "owner": owner,
        "page": page,
        "n": said.number,
        "decisions": packed(
            {i: (d["action"], d.get("label"), d.get("reviewer")) for i, d in decisions.items()}, places, classes
        ),
        **batches(history, places, classes),
        **_receipt(receipt),
        "readOnly": read_only,
        "focus": focus,
        "echo": focus == said.focus,
    }
    with st.container(key=f"{key}-grid", gap=None):
        _components()["stage"](key=f"{key}-stage", data=stage | {"page": page})
        _components()["wire"](key=f"{key}-wire", data=wire, on_say_change=_nothing)
        if detail is not None:
            _components()["wire"](key=f"{key}-detail", data={"grid": key, "part": "detail", "detail": detail})


def pending(key: str, owner: str, receipt: Mapping[str, Any] | None = None, read_only: str | None = None) -> None:
    """Bring in what an earlier page or a closed tab left in the outbox of `owner`; draws nothing.

    Use `sent(key)` and `core.review.inbox.accept` before it, as with `grid`, in a fragment.
    """
    wire = {"grid": key, "part": "wire", "owner": owner, "n": sent(key).of(owner).number, "readOnly": read_only}
    wire |= _receipt(receipt)
    with st.container(key=f"{key}-pending", gap=None):
        _components()["pending"](key=f"{key}-stage", data={"key": key, "owner": owner})
        _components()["wire"](key=f"{key}-wire", data=wire, on_say_change=_nothing)


def packed(
    values: Mapping[str, Sequence[str | None]], places: Mapping[str, int], classes: Sequence[str]
) -> list[list[int | str | None]]:
    """Decisions (id to action, label and perhaps reviewer) as short rows: place, code, place of the class, reviewer."""
    numbers = {name: place for place, name in enumerate(classes)}
    rows: list[list[int | str | None]] = []
    for sample, (action, label, *rest) in values.items():
        if sample in places and action in CODES:
            row = [places[sample], CODES[str(action)], None if label is None else numbers.get(label, label), *rest]
            while row[-1] is None:
                row.pop()
            rows.append(row)
    return rows


def batches(history: Mapping[str, Any], places: Mapping[str, int], classes: Sequence[str]) -> dict[str, list[Any]]:
    """The undo and redo lists of `core.review.inbox.history`, their decisions packed."""
    return {
        kind: [
            {"b": one["batch"], "c": one.get("count", len(one[values])), "v": packed(one[values], places, classes)}
            for one in history.get(kind, ())
        ]
        for kind, values in (("undo", "before"), ("redo", "after"))
    }


def _receipt(receipt: Mapping[str, Any] | None) -> dict[str, Any]:
    told = NO_RECEIPT if receipt is None else receipt
    return {"stored": list(told["stored"]), "refused": dict(told["refused"]), "failed": told["failed"]}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _nothing() -> None:
    """Streamlit keeps a component's state only where a callback is given."""


@cache
def _components() -> dict[str, Any]:
    """The three components. Their code is this folder's, and takes nothing from data."""

    def text(*names: str) -> str:
        return "\n".join((HERE / name).read_text(encoding="utf-8") for name in names)

    stage = text("outbox.js", "decisions.js", "cards.js", "panel.js", "zoom.js", "stage.js")
    make = st.components.v2.component
    return {
        "stage": make("gradsift_grid", js=stage, css=text("grid.css")),
        "wire": make("gradsift_wire", js=text("wire.js")),
        "pending": make("gradsift_pending", js=text("outbox.js", "pending.js")),
    }
