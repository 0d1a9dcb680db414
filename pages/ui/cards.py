"""Still pictures with a line of text: samples of each class, and strips of what was decided. Names are text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import streamlit as st

from core.pictures import data_url
from core.preview import Preview
from core.project import Project
from pages.ui import cached

STYLE = """<style>
.gs-classes { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 380px), 1fr)); gap: 10px 24px; }
.gs-class { display: flex; align-items: center; gap: 6px; min-width: 0; overflow: hidden; }
.gs-class b, .gs-cards figcaption { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.gs-class b { flex: 0 0 7em; font-weight: 600; }
.gs-class small { opacity: .75; font-weight: 400; display: block; }
.gs-class img, .gs-cards img { object-fit: contain; background: var(--st-secondary-background-color, #8882); }
.gs-class img { flex: none; width: 36px; height: 36px; border-radius: 4px; }
.gs-cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(84px, 1fr)); gap: 10px; }
.gs-cards figure { margin: 0; min-width: 0; }
.gs-cards img { width: 100%; aspect-ratio: 1; border-radius: 6px; }
.gs-cards figcaption { font-size: .8rem; }
.gs-out img { filter: grayscale(1); opacity: .45; }
.gs-cards figcaption small { display: block; opacity: .75; overflow: hidden; text-overflow: ellipsis; }
.gs-gain img { box-shadow: 0 0 0 2px light-dark(#0F6B57, #4FC3A1); }
.gs-loss img { box-shadow: 0 0 0 2px light-dark(#B23A0C, #FF9466); }
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


def some_of(project: Project, per_class: int = 3, most: int = 36) -> None:
    """Draw a few images of each class with their labels, as far as thumbnails are there: something to look at."""
    rows = cached.rows(project)
    few = rows.groupby("given_label", sort=True).head(per_class).sort_values("given_label", kind="stable").head(most)
    urls = cached.thumb_urls(project, [str(sample) for sample in few["sample_id"]])
    given = dict(zip(few["sample_id"], few["given_label"], strict=True))
    cards = [{"id": s, "src": url, "given": given[s], "to": None} for s, url in urls.items() if url]
    if cards:
        st.caption("Meanwhile, some of the images with the labels they came with")
        strip(cards, dimmed=False)


def strip(cards: Sequence[Mapping[str, Any]], dimmed: bool = True) -> None:
    """Draw cards of {id, src, given, to}: `to` is the new label; without one the card is dimmed, as left out."""
    figures = []
    for card in cards:
        given, to = escape(str(card["given"])), card["to"]
        words = f"{given} → <b>{escape(str(to))}</b>" if to is not None else given
        image = _image(card["src"], f"{escape(str(card['id']))}, labelled {given}") if card["src"] else ""
        kind = ' class="gs-out"' if to is None and dimmed else ""
        figures.append(f"<figure{kind}>{image}<figcaption>{words}</figcaption></figure>")
    st.html(f'{STYLE}<div class="gs-cards">{"".join(figures)}</div>')


def moved(cards: Sequence[Mapping[str, Any]], kind: str) -> None:
    """Draw test images of {id, src, label, before, after, seen} whose prediction changed; `kind` is gain or loss."""
    figures = []
    for card in cards:
        label, before, after = (escape(str(card[name])) for name in ("label", "before", "after"))
        image = _image(card["src"], f"{escape(str(card['id']))}, labelled {label}") if card["src"] else ""
        words = f"{before} → <b>{after}</b>"
        hint = escape(
            f"labelled {card['label']}: predicted {card['before']}, then {card['after']} {card['seen']}".strip()
        )
        small = f"<small>{escape(str(card['seen']))}</small>" if card["seen"] else ""
        figures.append(
            f'<figure class="gs-{kind}" title="{hint}">{image}<figcaption>{words}{small}</figcaption></figure>'
        )
    st.html(f'{STYLE}<div class="gs-cards">{"".join(figures)}</div>')


def _image(url: str | None, alt: str) -> str:
    return f'<img src="{escape(url or "")}" alt="{alt}" loading="lazy">'
