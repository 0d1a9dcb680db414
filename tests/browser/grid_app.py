"""The grid on drawn images, for the tests of the browser: what it shows comes from the address bar.

streamlit run tests/browser/grid_app.py -- LOG      then ?n=60&layout=strip&blind=1&locked=1&hostile=1&pending=1

With ?switch=1 buttons change, in the same tab, the project (its log is LOG.other), the name and what the rows say;
with ?far=1 the grid lies below the window; with ?full=1 nothing is stored for the address's reviewer while LOG.full
is there.
"""

import io
import math
import random
import sys
import time
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import streamlit as st
from PIL import Image, ImageDraw

sys.path.insert(0, str(Path(__file__).parents[2]))

from core.review import inbox
from core.review.decisions import Review
from core.review.inbox import Receipt
from pages.ui import grid

CLASSES = ["boat", "clock", "cup", "fish", "flower", "house", "key", "star", "tree", "umbrella"]
HOSTILE = '<img src=x onerror="window.hit=1">'
LATER = st.session_state.get("later", False)
PROJECT = st.session_state.get("project", "sandbox")
LOG = Path(sys.argv[1] + ("" if PROJECT == "sandbox" else f".{PROJECT}"))
SCORES = (
    ("Gradient norm", "Length of the gradient of the loss.", 98.2),
    ("Self-confidence", "Probability of the given label out of sample.", 99.7),
    ("Neighbour agreement", "Share of the nearest images with the given label.", 96.4),
    ("Forest outlier", "Isolation forest on gradients.", 88.0),
    ("Loss while training", "Mean loss over the epochs.", 93.1),
    ("Forgetting", "How often it was learnt and lost.", 71.5),
    ("L1 outlier", "L1 distance to the class centre of gradients.", 63.0),
    ("Duplicate", "Similarity to the nearest other image.", 12.0),
)


def classes() -> list[str]:
    return [HOSTILE, *CLASSES[1:]] if "hostile" in st.query_params else CLASSES


def later(row: dict[str, Any]) -> dict[str, Any]:
    """A row as it is sent when its thumbnail has been made, and the budget and the scores are others."""
    fresh = {"src": url(3, 7), "flagged": False, "suspicion": 12.5, "reason": "Another reason.", "rank": 399}
    return {**row, **fresh, "top": row["top"][::-1]}


def polygon(corners: int, turn: float, inner: float = 1.0) -> list[tuple[float, float]]:
    radii = [1.0, inner] * corners if inner < 1 else [1.0] * corners
    return [
        (r * math.sin(turn + 6.283 * i / len(radii)), -r * math.cos(turn + 6.283 * i / len(radii)))
        for i, r in enumerate(radii)
    ]


@cache
def url(kind: int, seed: int, side: int = 64) -> str:
    from core.pictures import data_url

    return data_url(drawn(kind, seed, side))


def drawn(kind: int, seed: int, side: int) -> bytes:
    dice = random.Random(seed)
    ground = tuple(dice.randint(150, 250) for _ in range(3))
    ink = tuple(dice.randint(0, 150) for _ in range(3))
    image = Image.new("RGB", (256, 256), ground)
    pen = ImageDraw.Draw(image)
    for _ in range(40):
        x, y, r = dice.randint(0, 256), dice.randint(0, 256), dice.randint(4, 24)
        pen.ellipse(
            (x - r, y - r, x + r, y + r), fill=tuple(min(255, max(0, c + dice.randint(-14, 14))) for c in ground)
        )
    size, x, y = dice.uniform(60, 100), dice.uniform(110, 146), dice.uniform(110, 146)
    shape = polygon(3 + kind // 2, dice.uniform(0, 1), 0.45 if kind % 2 else 1.0)
    pen.polygon([(x + size * a, y + size * b) for a, b in shape], fill=ink)
    kept = io.BytesIO()
    image.resize((side, side), Image.Resampling.LANCZOS).save(kept, "WEBP", quality=82)
    return kept.getvalue()


def rows_of(count: int, blind: bool) -> list[dict[str, Any]]:
    names = classes()
    rows = [row(place, names, blind) for place in range(count)]
    return [*map(later, rows[:8]), *rows[8:]] if LATER else rows


def row(place: int, names: list[str], blind: bool) -> dict[str, Any]:
    dice = random.Random(place)
    given, suggested = dice.sample(range(10), 2)
    none = place == 4  # one image for which nothing else is suggested
    share = dice.uniform(0.5, 0.97)
    others = [i for i in range(10) if i not in (given, suggested)]
    dice.shuffle(others)
    top = [[names[suggested], share]] + [[names[i], (1 - share) * 0.5**k * 0.6] for k, i in enumerate(others, 1)]
    if blind:
        top = [[name, None] for name in sorted(names) if name != names[given]][:9]
    guess = None if none or blind else names[suggested]
    other = names[suggested]
    reason = f"The model gives {other} {share:.0%} out of sample, and 5 of its 6 nearest images are {other}."
    return {
        "id": f"train/{names[given]}/{place:05d}.png",
        "given": names[given],
        "suggested": guess,
        "suspicion": round(100 - place * 0.37, 1),
        "rank": place + 1,
        "flagged": place < 40,
        "reason": "" if blind else reason,
        "kind": "probably wrong",
        "top": top[:9],
        "given_prob": None if blind else (1 - share) * 0.2,
        "alt": f"train/{names[given]}/{place:05d}.png, labelled {names[given]}"
        + (f", suggested {guess}" if guess else ""),
        "src": None if place == 7 else url(suggested, place, 32 if place % 9 == 8 else 64),
    }


def evidence(row: dict[str, Any], review: Review) -> dict[str, Any]:
    place = int(row["id"].rsplit("/")[-1][:5])
    dice = random.Random(place)
    given, suggested = dice.sample(range(10), 2)
    names = classes()
    near = [(f"near-{place}-{space}-{k}", suggested if k else given) for space in "fg" for k in range(6)]
    images = {name: url(kind, hash(name) % 9999) for name, kind in near}
    images |= {"a": url(given, 1, 128), "b": url(suggested, 2, 128), row["id"]: url(suggested, place, 256)}
    told = [{"id": name, "label": names[kind], "similarity": 0.93} for name, kind in near]
    rows = [
        {
            "when": e["decided_at"][:16],
            "who": e["reviewer"],
            "what": e["action"] or e["kind"],
            "note": e["note"],
            "in_effect": e["in_effect"],
        }
        for e in reversed(review.history(row["id"]))
    ]
    return {
        "id": row["id"],
        "path": row["id"],
        "split": "train",
        "size": [64, 64],
        "group": None,
        "scores": [
            {"name": t, "title": t, "meaning": m, "percentile": p, "raw": p / 31.7, "suspicious_end": "high"}
            for t, m, p in SCORES
        ],
        "neighbours": {"features": told[:6], "gradients": told[6:]},
        "examples": {"given": "a", "suggested": "b"},
        "curve": [0.1 + 0.05 * dice.random() + 0.01 * e for e in range(20)],
        "images": images,
        "history": rows,
    }


def project() -> Any:
    names = classes()
    ids = [f"train/{names[random.Random(i).sample(range(10), 2)[0]]}/{i:05d}.png" for i in range(400)]
    rows = pd.DataFrame(
        {"sample_id": ids, "given_label": [i.split("/", 1)[1].rsplit("/", 1)[0] for i in ids], "split": "train"}
    )
    return SimpleNamespace(manifest=lambda: SimpleNamespace(rows=rows, classes=tuple(names)), review_path=LOG)


@st.fragment
def suspects(review: Review) -> None:
    asked = st.query_params
    owner = f"{PROJECT}|{review.reviewer}"
    said = grid.sent("suspects").of(owner)
    full = "full" in asked and review.reviewer == asked.get("who") and Path(f"{LOG}.full").exists()
    receipt = (Receipt(failed="the disk is full") if full else inbox.accept(review, said.outbox)).plain()
    if slow := float(asked.get("slow", 0)):
        time.sleep(slow)
    rows = rows_of(int(asked.get("n", 60)), "blind" in asked)
    start = int(asked.get("from", 0))
    rows = rows[start:]
    ids = [row["id"] for row in rows]
    focused = next((row for row in rows if row["id"] == said.focus), None)
    grid.grid(
        rows,
        key="suspects",
        owner=owner,
        decisions=inbox.state_of(review.current(), ids),
        history=inbox.history(review, ids),
        receipt=receipt,
        classes=classes()[::-1] if LATER else classes(),
        detail=evidence(focused, review) if focused and "plain" not in asked else None,
        focus=asked.get("id") if PROJECT == "sandbox" else None,
        read_only="This project is open for reading only." if "locked" in asked else None,
        blind="blind" in asked,
        layout="strip" if asked.get("layout") == "strip" else "review",
    )
    if "switch" in asked:
        st.text(f"Opened {said.opened} {said.opened_number}")


@st.fragment
def leftovers(review: Review) -> None:
    owner = f"{PROJECT}|{review.reviewer}"
    grid.pending("left", owner, inbox.accept(review, grid.sent("left").of(owner).outbox).plain())


st.set_page_config(layout="wide", page_title="Grid", page_icon=Image.new("RGB", (16, 16), "#0b62b8"))
st.html("<style>.stMainBlockContainer{padding-top:3.5rem;padding-bottom:0}</style>")
REVIEW = Review(project(), reviewer=st.session_state.get("who") or st.query_params.get("who", "ann"))
if "switch" in st.query_params:
    for name in ("other", "sandbox"):
        st.button(f"Project {name}", on_click=lambda name=name: st.session_state.update(project=name))
    st.button("As bea", on_click=lambda: st.session_state.update(who="bea"))
    st.button("Later", on_click=lambda: st.session_state.update(later=True))
    st.button("Take out", on_click=lambda: st.session_state.update(out=not st.session_state.get("out")))
if "far" in st.query_params:
    st.expander("More").text("Text")
    st.button("Far")
    st.html("<div style='height: 1500px'></div>")
if "pending" in st.query_params:
    st.text("Another page")
    leftovers(REVIEW)
else:
    if "typing" in st.query_params:
        st.text_input("Search")
        st.button("Press")
    if st.query_params.get("layout") == "strip":
        _, side = st.columns([2, 1])
        with side:
            suspects(REVIEW)
    elif not st.session_state.get("out"):
        suspects(REVIEW)
