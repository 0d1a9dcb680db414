"""Still pictures with a line of text: samples of each class, and strips of what was decided. Names are text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import streamlit as st

from core.pictures import data_url
from core.preview import Preview

STYLE = """<style>
.gs-classes { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 10px 24px; }
.gs-class { display: flex; align-items: center; gap: 8px; min-width: 0; }
.gs-class b, .gs-cards figcaption { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.gs-class b { flex: 0 0 8em; font-weight: 600; }
.gs-class small { opacity: .75; font-weight: 400; display: block; }
.gs-class img, .gs-cards img { object-fit: contain; background: var(--st-secondary-background-color, #8882); }
.gs-class img { width: 34px; height: 34px; border-radius: 4px; }
.gs-cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(84px, 1fr)); gap: 10px; }
.gs-cards figure { margin: 0; min-width: 0; }
.gs-cards img { width: 100%; aspect-ratio: 1; border-radius: 6px; }
.gs-cards figcaption { font-size: .8rem; }
.gs-out img { filter: grayscale(1); opacity: .45; }
</style>"""


def samples(found: Preview, pictures: Mapping[str, bytes], limit: int) -> None:
    """Draw a strip of images for each of the first `limit` classes, with its name and its number of images."""
    lines = []
    for each in found.classes[:limit]:
        name = escape(str(each["name"]))
        images = "".join(_image(data_url(pictures[s]), name) for s in each["samples"] if s in pictures)
        lines.append(
            f'<div class="gs-class"><b title="{name}">{name}<small>{each["count"]:,} images</small></b>{images}</div>'
        )
    st.html(f'{STYLE}<div class="gs-classes">{"".join(lines)}</div>')


def strip(cards: Sequence[Mapping[str, Any]]) -> None:
    """Draw cards of {id, src, given, to}: `to` is the new label, None where the image is left out."""
    figures = []
    for card in cards:
        given, to = escape(str(card["given"])), card["to"]
        words = f"{given} → <b>{escape(str(to))}</b>" if to is not None else given
        image = _image(card["src"], f"{escape(str(card['id']))}, labelled {given}") if card["src"] else ""
        kind = "" if to is not None else ' class="gs-out"'
        figures.append(f"<figure{kind}>{image}<figcaption>{words}</figcaption></figure>")
    st.html(f'{STYLE}<div class="gs-cards">{"".join(figures)}</div>')


def _image(url: str | None, alt: str) -> str:
    return f'<img src="{escape(url or "")}" alt="{alt}" loading="lazy">'
