"""A map as one picture: all points as a PNG, the flagged ones as shapes over it, and what it shows in words.

The PNG has no ground of its own and middle colours, so that it lies on a light page as well as on a dark one. Up to
ten classes are told by colour, more by suspicion; flagged images are told by shape.
"""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image, ImageDraw

from core.export.markup import name, text
from core.export.story import SPACE_TITLES, MapPoints

CLASS_COLOURS = (
    "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd",
)  # fmt: skip
SUSPICION_COLOURS = ("#d5dae1", "#f2c078", "#e58a3c", "#bc4a1b", "#6b1b16")
WIDTH, HEIGHT, MARGIN = 1000, 640, 14
CROSS = '<path class="cross" d="M3 3l10 10m0-10l-10 10"/>'
DIAMOND = '<path class="diamond" d="M8 1l7 7-7 7-7-7z"/>'
MANY = 500  # flagged images; beyond, each is drawn smaller
FINER = 2  # drawn so many times larger, then reduced: smooth edges


def by_class(classes: tuple[str, ...]) -> bool:
    """Whether colour tells the class: up to ten colours can be told apart."""
    return len(classes) <= len(CLASS_COLOURS)


def drawing(points: MapPoints, classes: tuple[str, ...]) -> str:
    """The map as an `<svg>` with a text that says what it shows."""
    places = placed(points.xy)
    url = base64.b64encode(raster(places, colours(points, classes), radius(len(places)))).decode()
    plain, wrong = points.flagged & ~points.wrong, points.wrong
    many = int(points.flagged.sum()) > MANY
    size = 2.6 if many else 5.5
    marks = crosses(places[plain], size)
    kind, said = "map many" if many else "map", text(words(points, classes))
    return (
        f'<svg class="{kind}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{said}">'
        f'<image href="data:image/png;base64,{url}" width="{WIDTH}" height="{HEIGHT}"/>'
        f'<path class="halo" d="{marks}"/><path class="cross" d="{marks}"/>'
        f'<path class="diamond" d="{diamonds(places[wrong], size + 1.5)}"/></svg>'
    )


def legend(points: MapPoints, classes: tuple[str, ...]) -> str:
    """What the colours and the shapes mean, as a list."""
    shapes = [f"{_mark(CROSS)}flagged, unchanged {int((points.flagged & ~points.wrong).sum()):,}"]
    if points.wrong.any():
        shapes.append(f"{_mark(DIAMOND)}relabelled or excluded by a person {int(points.wrong.sum()):,}")
    if by_class(classes):
        shades = [(name(label), CLASS_COLOURS[code]) for code, label in enumerate(classes)]
    else:
        shades = [
            (f"suspicion {round(100 * i / (len(SUSPICION_COLOURS) - 1))}", shade)
            for i, shade in enumerate(SUSPICION_COLOURS)
        ]
    dots = [_mark(f'<circle cx="8" cy="8" r="5" fill="{shade}"/>') + label for label, shade in shades]
    items = [f'<li class="shape">{each}</li>' for each in shapes] + [f"<li>{each}</li>" for each in dots]
    return f'<ul class="legend">{"".join(items)}</ul>'


def words(points: MapPoints, classes: tuple[str, ...]) -> str:
    """What the map shows, for who does not see it."""
    counts = np.bincount(points.codes[points.flagged & (points.codes >= 0)], minlength=len(classes))
    order = np.argsort(-counts, kind="stable")[:3]
    most = ", ".join(f"{classes[code]} {counts[code]:,}" for code in order if counts[code])
    told = f"; most flags by given label: {most}" if most else ""
    flagged = int(points.flagged.sum())
    return (
        f"Map of {SPACE_TITLES[points.space].lower()}: {len(points.xy):,} training images, {flagged:,} flagged{told}."
    )


def placed(xy: np.ndarray) -> np.ndarray:
    """Coordinates in the picture, `n 2`; y grows downwards."""
    if not len(xy):
        return np.empty((0, 2))
    low, high = xy.min(0), xy.max(0)
    share = (xy - low) / np.where(high > low, high - low, 1)
    room = np.array([WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN])
    return np.asarray(MARGIN + np.column_stack([share[:, 0], 1 - share[:, 1]]) * room, dtype=float)


def radius(count: int) -> float:
    """Of a point, so that many points still leave room."""
    return float(np.clip(150 / max(count, 1) ** 0.5, 1.0, 4.5))


def colours(points: MapPoints, classes: tuple[str, ...]) -> np.ndarray:
    """Index into the palette of `raster` for every point."""
    if by_class(classes):
        return np.asarray(np.maximum(points.codes, 0))
    top = len(SUSPICION_COLOURS) - 1
    steps = np.nan_to_num(points.suspicion, nan=0.0) / 100 * top
    return np.asarray(len(CLASS_COLOURS) + np.clip(np.rint(steps), 0, top), dtype=int)


def raster(places: np.ndarray, shades: np.ndarray, size: float) -> bytes:
    """All points as a PNG with a clear ground, in an order that favours no class."""
    palette = (*CLASS_COLOURS, *SUSPICION_COLOURS)
    image = Image.new("RGBA", (WIDTH * FINER, HEIGHT * FINER))
    pen = ImageDraw.Draw(image)
    for row in np.random.default_rng(0).permutation(len(places)):
        x, y = places[row] * FINER
        reach = size * FINER
        pen.ellipse((x - reach, y - reach, x + reach, y + reach), fill=palette[int(shades[row])])
    small = image.reduce(FINER) if len(places) > 5000 else image  # few points stay fine: their picture is small anyway
    target = io.BytesIO()
    small.quantize(64, method=Image.Quantize.FASTOCTREE).save(target, format="PNG", optimize=True)
    return target.getvalue()


def crosses(places: np.ndarray, size: float) -> str:
    """A path of one ✕ at each place."""
    return "".join(
        f"M{x - size:.1f} {y - size:.1f}l{2 * size:g} {2 * size:g}m0-{2 * size:g}l-{2 * size:g} {2 * size:g}"
        for x, y in places
    )


def diamonds(places: np.ndarray, size: float) -> str:
    """A path of one ◆ at each place."""
    return "".join(
        f"M{x:.1f} {y - size:.1f}l{size:g} {size:g}l-{size:g} {size:g}l-{size:g}-{size:g}z" for x, y in places
    )


def _mark(inner: str) -> str:
    return f'<svg class="mark" viewBox="0 0 16 16" aria-hidden="true">{inner}</svg>'
