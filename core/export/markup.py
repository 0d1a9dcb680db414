"""Small pieces of HTML that a report and a slide are made of. Every text from outside goes through `text`.

A piece takes plain values and gives a string of HTML without script, without style of its own and without a link that
leads anywhere but into the page. Images are data URLs of raster formats only.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

Images: TypeAlias = Callable[[list[str]], Mapping[str, bytes | None]]

# What would end a line, start a hidden one, or turn the direction of what follows.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_TYPES = ((b"\x89PNG\r\n\x1a\n", "png"), (b"\xff\xd8\xff", "jpeg"), (b"GIF8", "gif"))
ROW = 6  # images side by side on a screen
LONGEST_TITLE = 40
BADGES = {"keep": "✓ kept", "relabel": "⇄ relabelled", "exclude": "✕ excluded", "unsure": "? unsure"}


def plain(value: object) -> str:
    """A value as text on one line: control characters and half characters become `�`, spaces are joined."""
    whole = str(value).encode("utf-8", "replace").decode("utf-8")
    return " ".join(_CONTROL.sub(lambda found: " " if found[0] in "\t\n\r" else "�", whole).split())


def text(value: object) -> str:
    """A value as HTML text, which is also safe between the quotes of an attribute."""
    return html.escape(plain(value), quote=True)


def name(value: object) -> str:
    """A class, a file, a person: as text, kept apart from the direction of the writing around it."""
    return f"<bdi>{text(value)}</bdi>"


def element(tag: str, inner: str, kind: str = "") -> str:
    """One element around HTML."""
    return f'<{tag} class="{kind}">{inner}</{tag}>' if kind else f"<{tag}>{inner}</{tag}>"


def paragraph(value: object, kind: str = "") -> str:
    """A paragraph of text."""
    return element("p", text(value), kind)


def listed(items: Iterable[str], tag: str = "ul") -> str:
    """A list of HTML items."""
    return element(tag, "".join(element("li", item) for item in items))


def arrow(given: object, suggested: object) -> str:
    """`given → suggested`, both as names."""
    return f'{name(given)} <span class="to" aria-label="to">→</span> {name(suggested)}'


def data_url(data: bytes | None) -> str | None:
    """A data URL of a PNG, JPEG, GIF or WebP; None for anything else."""
    if not data:
        return None
    kind = next((kind for start, kind in _TYPES if data.startswith(start)), None)
    if kind is None and data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        kind = "webp"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}" if kind else None


def picture(data: bytes | None, alt: str) -> str:
    """An image, or a box that says that it could not be read."""
    url = data_url(data)
    if url is None:
        return f'<span class="gone" role="img" aria-label="{text(alt)}">image not available</span>'
    return f'<img src="{url}" alt="{text(alt)}">'


def card(data: bytes | None, alt: str, caption: str, kind: str = "") -> str:
    """An image with a caption of HTML."""
    return f'<figure class="card {kind}">{picture(data, alt)}<figcaption>{caption}</figcaption></figure>'


def badge(action: object) -> str:
    """What a person decided, as a small mark; nothing where nobody has."""
    key = str(action)
    return f'<span class="badge {key}">{BADGES[key]}</span>' if key in BADGES else ""


def figures(values: Iterable[tuple[str, str]]) -> str:
    """Large numbers, each with what it counts: (number, what)."""
    cells = "".join(f"<div><dt>{text(what)}</dt><dd>{text(number)}</dd></div>" for number, what in values)
    return f'<dl class="figures">{cells}</dl>'


def facts(values: Iterable[tuple[str, str]]) -> str:
    """A list of terms and HTML."""
    return f'<dl class="facts">{"".join(f"<dt>{text(term)}</dt><dd>{value}</dd>" for term, value in values)}</dl>'


def bar(share: float) -> str:
    """A bar over a share (0-1) of its width; decoration beside a number."""
    width = 100 * min(max(share, 0.0), 1.0)
    return (
        '<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect width="{width:.1f}" height="10"/></svg>'
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]], caption: str, numbers: Iterable[int] = ()) -> str:
    """A table of HTML cells; the first cell of a row names it, columns of `numbers` stand to the right."""
    right = set(numbers)
    top = "".join(f'<th scope="col"{_right(i, right)}>{text(title)}</th>' for i, title in enumerate(head))
    body = "".join(
        "<tr>" + "".join(
            f'<th scope="row">{cell}</th>' if i == 0 else f"<td{_right(i, right)}>{cell}</td>"
            for i, cell in enumerate(row)
        ) + "</tr>"
        for row in rows
    )  # fmt: skip
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{text(caption)}"><table>'
        f"<caption>{text(caption)}</caption><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _right(column: int, right: set[int]) -> str:
    return ' class="number"' if column in right else ""


def counted(number: int, one: str, many: str | None = None) -> str:
    """`1 image`, `1,200 images`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def percent(share: float) -> str:
    """A share as whole per cents; what is neither none nor all is not rounded to it."""
    whole = round(100 * share)
    if whole == 0 and share > 0:
        return "below 1 %"
    return "over 99 %" if whole == 100 and share < 1 else f"{whole} %"


def across(count: int) -> str:
    """How many columns hold `count` images in at most two rows of a screen, as the name of a class."""
    return f"c{max(count if count <= ROW else (count + 1) // 2, 1)}"


def short(label: object) -> str:
    """A name for a title, cut where it is long."""
    whole = plain(label)
    return whole if len(whole) <= LONGEST_TITLE else f"{whole[: LONGEST_TITLE - 1]}…"
