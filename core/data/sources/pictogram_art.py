"""How the pictograms are drawn: ten things in flat colours on a coloured ground, 64 pixels wide.

- `pictogram`: one thing, its form, colours, outline, size, turn and place varied.
- `mixture`: two things at half each, one through the other, halved, or side by side.
- `chalk`: one thing in chalk lines on a dark board.
- `junk`: no thing at all, or so little of one that nobody can name it.
- `near_copy`: a picture once more, shifted by a pixel or two, its brightness changed a little.

Every form is drawn by a function of `FORMS` in coordinates from -1 to 1, y down, with a `Pen` that turns, scales and
shifts. Everything is drawn three times as large and averaged down, which smooths the edges. All chance comes from the
generator that is passed in: an equal generator draws an equal picture.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from core.axes import Array, Float32, UInt8

SIDE = 64
SCALE = 3
LARGE = SIDE * SCALE
GROUNDS = {"blue": (0.52, 0.66), "warm": (0.99, 1.12)}  # the hues of a ground, 1 being red again
PAINTS = (
    "#d8413a", "#ef7d2d", "#f2b632", "#8db33a", "#3c9a5f", "#2a9d9a", "#3c7dc4", "#27488f", "#7a4fa3", "#c64f8e",
    "#f08aa0", "#8a5a3b", "#5f6b7a",
)  # fmt: skip
INK: tuple[int, int, int] = (38, 34, 46)
JUNK = ("noise", "blank", "scribble", "corner")

Colour = tuple[int, int, int]
Point = tuple[float, float]


@dataclass(frozen=True)
class Colours:
    """The colours of one thing: its two fills, its light parts, its lines and its outline (None: without)."""

    main: Colour | None
    second: Colour | None
    light: Colour | None
    line: Colour
    outline: Colour | None

    @property
    def mark(self) -> Colour:
        """The colour of a mark on a light part."""
        return self.line if self.light is None else INK


def _colour(hue: float, lightness: float, saturation: float) -> Colour:
    red, green, blue = colorsys.hls_to_rgb(hue % 1.0, lightness, saturation)
    return round(red * 255), round(green * 255), round(blue * 255)


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(rng.random())


def _one_of(rng: np.random.Generator, n: int) -> int:
    return int(rng.random() * n)


class Pen:
    """Draws in coordinates from -1 to 1 on a large image, turned by `turn` degrees and mirrored where `mirror`."""

    def __init__(
        self, image: Image.Image, colours: Colours, centre: Point, size: float, turn: float, mirror: bool, width: float
    ) -> None:
        self.draw = ImageDraw.Draw(image)
        self.colours, self.centre, self.size, self.width = colours, centre, size, width
        self.cos, self.sin = math.cos(math.radians(turn)) * size, math.sin(math.radians(turn)) * size
        self.side = -1.0 if mirror else 1.0

    def _place(self, points: Iterable[Point]) -> list[Point]:
        (left, top), cos, sin, side = self.centre, self.cos, self.sin, self.side
        return [(left + cos * x * side - sin * y, top + sin * x * side + cos * y) for x, y in points]

    def _stroke(self, placed: list[Point], colour: Colour, width: float) -> None:
        self.draw.line(placed, colour, max(1, round(width * self.size)), joint="curve")

    def shape(self, points: Sequence[Point], fill: Colour | None) -> None:
        """Fill a closed shape and draw its outline."""
        placed = self._place(points)
        if fill is not None:
            self.draw.polygon(placed, fill)
        if self.colours.outline is not None:
            self._stroke([*placed, *placed[:2]], self.colours.outline, self.width)

    def disc(self, x: float, y: float, across: float, down: float | None, fill: Colour | None) -> None:
        """Fill an ellipse of the half axes `across` and `down` (None: a circle)."""
        self.shape(arc(x, y, across, across if down is None else down, 0.0, 360.0), fill)

    def dot(self, x: float, y: float, radius: float, colour: Colour) -> None:
        """Fill a small circle without an outline."""
        [(left, top)] = self._place([(x, y)])
        r = radius * self.size
        self.draw.ellipse((left - r, top - r, left + r, top + r), colour)

    def line(self, points: Sequence[Point], width: float, colour: Colour | None = None) -> None:
        """Draw an open line with round ends."""
        colour = colour or self.colours.line
        self._stroke(self._place(points), colour, width)
        for x, y in (points[0], points[-1]):
            self.dot(x, y, width / 2, colour)

    def tube(self, points: Sequence[Point], width: float, fill: Colour | None) -> None:
        """Draw a thick line with the outline on both sides of it."""
        if self.colours.outline is not None and fill is not None:
            self.line(points, width + 2 * self.width, self.colours.outline)
        self.line(points, width, fill or self.colours.line)


def arc(x: float, y: float, across: float, down: float, start: float, stop: float) -> list[Point]:
    """The points of an elliptic arc from `start` to `stop` degrees, 0 to the right, 90 below."""
    steps = max(4, round(abs(stop - start) / 12))
    angles = [math.radians(start + (stop - start) * i / steps) for i in range(steps + 1)]
    return [(x + across * math.cos(angle), y + down * math.sin(angle)) for angle in angles]


def box(left: float, top: float, right: float, bottom: float) -> list[Point]:
    """The corners of a rectangle."""
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def _house(pen: Pen, rng: np.random.Generator) -> None:
    c, form, half = pen.colours, _one_of(rng, 3), _between(rng, 0.5, 0.68)
    if rng.random() < 0.6:
        pen.shape(box(0.28, -0.75, 0.5, -0.2), c.main)
    eaves = half + 0.2
    pen.shape(box(-half, -0.12, half, 0.8), c.main)
    roofs = [(0.0, -0.85)], [(-0.3, -0.7), (0.3, -0.7)], [(0.0, -0.68)]
    pen.shape([(-eaves, -0.1), *roofs[form], (eaves, -0.1)], c.second)
    if form == 2:
        pen.shape(box(-0.15, 0.28, 0.15, 0.8), c.second)
        for x in (-half + 0.17, half - 0.17):
            pen.shape(box(x - 0.1, 0.12, x + 0.1, 0.36), c.light)
        return
    door = _between(rng, -0.3, -0.2)
    pen.shape(box(door - 0.14, 0.28, door + 0.14, 0.8), c.second)
    pen.shape(box(0.08, 0.16, 0.4, 0.46), c.light)
    pen.line([(0.24, 0.16), (0.24, 0.46)], 0.05)


def _boat(pen: Pen, rng: np.random.Generator) -> None:
    c, form = pen.colours, _one_of(rng, 3)
    if form == 2:
        pen.shape(box(-0.42, -0.1, 0.4, 0.3), c.light)
        pen.shape(box(-0.05, -0.62, 0.22, -0.1), c.second)
        for x in (-0.25, 0.02, 0.26):
            pen.dot(x, 0.1, 0.075, c.mark)
    else:
        pen.line([(0.0, -0.9), (0.0, 0.3)], 0.09)
        pen.shape([(0.08, -0.85), (0.72, 0.16), (0.08, 0.16)], c.second)
        if form == 0:
            pen.shape([(-0.08, -0.62), (-0.58, 0.16), (-0.08, 0.16)], c.light)
        else:
            pen.shape([(0.0, -0.92), (-0.34, -0.78), (0.0, -0.64)], c.main)
    depth = _between(rng, 0.68, 0.82)
    pen.shape([(-0.92, 0.28), (0.92, 0.28), (0.58, depth), (-0.55, depth)], c.main)
    if rng.random() < 0.4:
        pen.line([(x, depth + 0.12 + 0.06 * (-1) ** i) for i, x in enumerate(np.linspace(-0.9, 0.9, 9))], 0.07)


def _fish(pen: Pen, rng: np.random.Generator) -> None:
    c, form, down = pen.colours, _one_of(rng, 3), _between(rng, 0.32, 0.52)
    pen.shape([(0.42, 0.0), (0.95, -0.42), (0.8, 0.0), (0.95, 0.42)], c.second)
    if form != 1:
        pen.shape([(-0.3, -down * 0.75), (0.1, -down - 0.3), (0.28, -down * 0.6)], c.second)
    pen.disc(-0.15, 0.0, 0.72, down, c.main)
    if form == 2:
        for x in (0.0, 0.22):
            reach = down * math.sqrt(1 - ((x + 0.15) / 0.72) ** 2) - 0.06
            pen.line([(x, -reach), (x + 0.04, 0.0), (x, reach)], 0.1, c.second or c.line)
    else:
        pen.shape([(0.0, 0.05), (0.3, 0.22), (0.02, 0.26)], c.second)
    pen.line(arc(-0.52, 0.0, 0.2, down * 0.75, -62.0, 62.0), 0.06)
    pen.dot(-0.58, -0.1, 0.12, c.light or c.line)
    pen.dot(-0.6, -0.1, 0.065, c.mark)


def _cup(pen: Pen, rng: np.random.Generator) -> None:
    c, form = pen.colours, _one_of(rng, 3)
    pen.tube(arc(0.46, 0.08, 0.36, 0.26, -100.0, 100.0), 0.13, c.main)
    if form == 0:
        pen.disc(-0.05, 0.72, 0.85, 0.13, c.second)
        pen.shape([*arc(-0.05, -0.2, 0.62, 0.88, 0.0, 180.0)], c.main)
        pen.disc(-0.05, -0.2, 0.62, 0.13, c.light)
    else:
        foot = 0.5 if form == 1 else 0.36
        top = -0.5 if form == 1 else -0.35
        pen.shape([(-0.57, top), (0.47, top), (foot - 0.05, 0.75), (-foot - 0.05, 0.75)], c.main)
        pen.disc(-0.05, top, 0.52, 0.13, c.light)
        if form == 1:
            pen.shape([(-0.54, 0.12), (0.44, 0.12), (0.43, 0.38), (-0.53, 0.38)], c.second)
    if rng.random() < 0.5:
        for x in (-0.28, 0.14):
            start = -0.5 if form == 0 else -0.68
            pen.line([(x, start), (x + 0.09, start - 0.13), (x - 0.03, start - 0.25)], 0.07)


def _key(pen: Pen, rng: np.random.Generator) -> None:
    c, form, teeth = pen.colours, _one_of(rng, 3), 2 + _one_of(rng, 2)
    pen.tube([(-0.2, 0.0), (0.9, 0.0)], 0.16, c.main)
    for i in range(teeth):
        x, reach = 0.84 - 0.22 * i, _between(rng, 0.24, 0.4)
        pen.tube([(x, 0.04), (x, reach)], 0.13, c.main)
    if form == 0:
        pen.tube(arc(-0.56, 0.0, 0.3, 0.3, 0.0, 360.0), 0.17, c.main)
    elif form == 1:
        pen.tube([*box(-0.86, -0.28, -0.32, 0.28), (-0.86, -0.28), (-0.5, -0.28)], 0.16, c.main)
    else:
        for x, y in ((-0.42, -0.25), (-0.42, 0.25), (-0.74, 0.0)):
            pen.tube(arc(x, y, 0.19, 0.19, 0.0, 360.0), 0.13, c.main)
    if c.outline is not None:
        pen.line([(-0.16, 0.0), (0.9, 0.0)], 0.14, c.main)


def _tree(pen: Pen, rng: np.random.Generator) -> None:
    c, form = pen.colours, _one_of(rng, 3)
    pen.shape(box(-0.13, 0.2, 0.13, 0.9), c.second)
    if form == 0:
        for top, half in ((0.0, 0.72), (-0.42, 0.58), (-0.88, 0.44)):
            pen.shape([(0.0, top), (half, top + 0.6), (-half, top + 0.6)], c.main)
    elif form == 1:
        pen.disc(0.0, -0.22, 0.56, _between(rng, 0.55, 0.7), c.main)
        pen.line([(0.0, 0.4), (0.0, -0.1), (0.2, -0.3)], 0.07)
        pen.line([(0.0, 0.12), (-0.2, -0.08)], 0.07)
    else:
        for x, y, radius in ((-0.4, -0.02, 0.4), (0.4, -0.02, 0.4), (0.0, -0.42, 0.46)):
            pen.disc(x, y, radius, None, c.main)
        for x, y in ((-0.38, 0.05), (0.34, -0.08), (0.02, -0.5)):
            pen.dot(x, y, 0.08, c.light or c.line)


def _star(pen: Pen, rng: np.random.Generator) -> None:
    c, points = pen.colours, (5, 5, 5, 6, 8)[_one_of(rng, 5)]
    inner = _between(rng, 0.36, 0.5) if points == 5 else _between(rng, 0.5, 0.6)

    def ring(size: float) -> list[Point]:
        angles = [math.pi * i / points - math.pi / 2 for i in range(2 * points)]
        radii = [size * (inner if i % 2 else 1.0) for i in range(2 * points)]
        return [(r * math.cos(angle), r * math.sin(angle)) for r, angle in zip(radii, angles, strict=True)]

    pen.shape(ring(0.95), c.main)
    if rng.random() < 0.4:
        pen.shape(ring(0.5), c.second)


def _umbrella(pen: Pen, rng: np.random.Generator) -> None:
    c, panels, high = pen.colours, 3 + _one_of(rng, 3), _between(rng, 0.72, 0.95)
    pen.line([(0.0, -high), (0.0, -high + 0.02)], 0.12)
    hook = arc(-0.18, 0.68, 0.18, 0.2, 0.0, 170.0)
    pen.tube([(0.0, 0.0), (0.0, 0.68), *hook], 0.09, c.second)
    edges = np.linspace(-0.92, 0.92, panels + 1).tolist()
    half = 0.92 / panels
    rim = [point for x in edges[:0:-1] for point in arc(x - half, 0.06, half, 0.16, 0.0, -180.0)]
    pen.shape([*arc(0.0, 0.06, 0.92, high, 180.0, 360.0), *rim], c.main)
    if panels > 3:
        middle = edges[1:-1]
        inner = [(middle[0], 0.06), *arc(0.0, 0.06, abs(middle[0]), high * 0.97, 180.0, 360.0), (middle[-1], 0.06)]
        scallops = [p for x in middle[:0:-1] for p in arc(x - half, 0.06, half, 0.16, 0.0, -180.0)]
        pen.shape([*inner, *scallops], c.second)
    else:
        for x in edges[1:-1]:
            pen.line([(x, 0.0), (x * 0.6, 0.06 - high * 0.75), (0.0, 0.06 - high)], 0.06)


def _flower(pen: Pen, rng: np.random.Generator) -> None:
    c, form, petals = pen.colours, _one_of(rng, 3), 5 + _one_of(rng, 4)
    if form == 2:
        pen.line([(0.0, 0.1), (0.0, 0.92)], 0.11)
        pen.shape([(0.0, 0.85), (0.2, 0.5), (0.6, 0.35), (0.4, 0.7)], c.second)
        pen.shape([(0.0, 0.85), (-0.2, 0.5), (-0.6, 0.35), (-0.4, 0.7)], c.second)
        cup = arc(0.0, -0.25, 0.5, 0.5, 0.0, 180.0)
        pen.shape([*cup, (-0.52, -0.9), (-0.22, -0.5), (0.0, -0.95), (0.22, -0.5), (0.52, -0.9)], c.main)
        return
    form = 1 if c.main is None else form  # without fills, petals alone are mere circles
    y, ring, radius = (0.0, 0.52, 0.36) if form == 0 else (-0.3, 0.36, 0.27)
    if form == 1:
        pen.line([(0.0, 0.0), (0.0, 0.92)], 0.11)
        pen.shape([(0.02, 0.75), (0.2, 0.45), (0.62, 0.38), (0.4, 0.68)], c.second)
    for i in range(petals):
        angle = 2 * math.pi * i / petals
        wide = radius * (1.0 if petals < 7 else 0.8)
        pen.disc(ring * math.cos(angle), y + ring * math.sin(angle), wide, None, c.main)
    pen.disc(0.0, y, radius * 0.85, None, c.light)


def _clock(pen: Pen, rng: np.random.Generator) -> None:
    c, form = pen.colours, _one_of(rng, 3)
    y, radius = (0.08, 0.68) if form == 1 else (0.0, 0.85)
    if form == 1:
        for side in (-1.0, 1.0):
            pen.line([(side * 0.4, 0.6), (side * 0.58, 0.88)], 0.13)
            pen.disc(side * 0.46, -0.62, 0.25, 0.2, c.second)
    if form == 2:
        pen.shape(box(-0.82, -0.82, 0.82, 0.82), c.main)
        radius = 0.78
    else:
        pen.disc(0.0, y, radius, None, c.main)
    pen.disc(0.0, y, radius * 0.78, None, c.light)
    ticks, reach = (12 if rng.random() < 0.5 else 4), radius * 0.64
    for i in range(ticks):
        angle = 2 * math.pi * i / ticks
        pen.dot(reach * math.cos(angle), y + reach * math.sin(angle), 0.055, c.mark)
    for length, width in ((0.38, 0.1), (0.6, 0.08)):
        angle, reach = 2 * math.pi * float(rng.random()), length * radius
        pen.line([(0.0, y), (reach * math.cos(angle), y + reach * math.sin(angle))], width, c.mark)


FORMS: dict[str, Callable[[Pen, np.random.Generator], None]] = {
    "house": _house,
    "boat": _boat,
    "fish": _fish,
    "cup": _cup,
    "key": _key,
    "tree": _tree,
    "star": _star,
    "umbrella": _umbrella,
    "flower": _flower,
    "clock": _clock,
}
TURNS = {"key": 60.0, "star": 40.0, "flower": 20.0, "fish": 25.0}  # greatest turn in degrees; others 18


def pictogram(name: str, ground: str, rng: np.random.Generator) -> Image.Image:
    """Draw one thing of `FORMS` on a ground of `GROUNDS`."""
    image, dark = _ground(ground, rng)
    _thing(image, name, _colours(dark, rng), rng)
    return _down(image)


def mixture(first: str, second: str, ground: str, rng: np.random.Generator) -> Image.Image:
    """Draw two things at half each: one through the other, the halves of both, or both side by side."""
    image, dark = _ground(ground, rng)
    colours, how = _colours(dark, rng), _one_of(rng, 3)
    if how == 2:
        across = _between(rng, -12.0, 12.0)
        _thing(image, first, colours, rng, size=0.5, centre=(LARGE * 0.28, LARGE * 0.5 + across))
        _thing(image, second, _colours(dark, rng), rng, size=0.5, centre=(LARGE * 0.72, LARGE * 0.5 - across))
        return _down(image)
    other = image.copy()
    _thing(image, first, colours, rng)
    _thing(other, second, colours if how == 0 else _colours(dark, rng), rng)
    if how == 0:
        return _down(Image.blend(image, other, 0.5))
    image.paste(other.crop((LARGE // 2, 0, LARGE, LARGE)), (LARGE // 2, 0))
    return _down(image)


def chalk(name: str, rng: np.random.Generator) -> Image.Image:
    """Draw one thing in chalk lines on a dark board."""
    board = np.array(_colour(_between(rng, 0.3, 0.45), _between(rng, 0.14, 0.22), 0.2), dtype=np.float32)
    stroke, white = Image.new("RGB", (LARGE, LARGE)), (255, 255, 255)
    _thing(stroke, name, Colours(None, None, None, white, white), rng, width=0.09)
    share = np.asarray(stroke.reduce(SCALE), dtype=np.float32) / 255
    grain = np.clip(rng.random((SIDE, SIDE, 1), dtype=np.float32) * 1.5, 0.15, 1.0)
    tint = np.array(_colour(float(rng.random()), 0.9, 0.5), dtype=np.float32)
    dust = rng.random((SIDE, SIDE, 1), dtype=np.float32) * 16
    return _image(board + dust + (tint - board) * share * grain)


def junk(kind: str, name: str, ground: str, rng: np.random.Generator) -> Image.Image:
    """Draw what nobody can name: a kind of `JUNK`; `corner` shows a corner of the thing `name`."""
    if kind == "noise":
        return _image(rng.random((SIDE, SIDE, 3), dtype=np.float32) * 255)
    image, dark = _ground(ground, rng)
    colours = _colours(dark, rng)
    if kind == "scribble":
        pen = Pen(image, colours, (LARGE / 2, LARGE / 2), LARGE / 2, 0.0, False, 0.06)
        points = [(_between(rng, -0.8, 0.8), _between(rng, -0.8, 0.8)) for _ in range(14)]
        pen.line(points, 0.07)
    elif kind == "corner":
        angle = _between(rng, 0.0, 2 * math.pi)
        away = LARGE * _between(rng, 0.86, 0.98)
        centre = (LARGE / 2 + away * math.cos(angle), LARGE / 2 + away * math.sin(angle))
        _thing(image, name, colours, rng, size=1.3, centre=centre)
    return _down(image)


def near_copy(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return the picture shifted by up to 2 pixels to each side, a little lighter or darker, with faint noise."""
    pixels = np.asarray(image, dtype=np.float32)
    across, down = _one_of(rng, 5) - 2, _one_of(rng, 5) - 2
    rows = np.clip(np.arange(SIDE) + down, 0, SIDE - 1)
    columns = np.clip(np.arange(SIDE) + across, 0, SIDE - 1)
    moved = pixels[rows][:, columns] * _between(rng, 0.94, 1.06)
    return _image(moved + rng.random((SIDE, SIDE, 1), dtype=np.float32) * 4 - 2)


def _thing(
    image: Image.Image,
    name: str,
    colours: Colours,
    rng: np.random.Generator,
    *,
    size: float | None = None,
    centre: Point | None = None,
    width: float | None = None,
) -> None:
    """Draw a thing: its half side is `size` of half the image; without `size` and `centre` both are by chance."""
    most = TURNS.get(name, 18.0)
    turn, mirror = _between(rng, -most, most), bool(rng.random() < 0.5)
    size = size or _between(rng, 0.7, 0.92)
    room = (1 - size) * LARGE * 0.42
    by_chance = (LARGE / 2 + _between(rng, -room, room), LARGE / 2 + _between(rng, -room, room))
    stroke = width or _between(rng, 0.05, 0.09)
    FORMS[name](Pen(image, colours, centre or by_chance, size * LARGE / 2, turn, mirror, stroke), rng)


def _colours(dark: bool, rng: np.random.Generator) -> Colours:
    """Choose the colours of a thing so that it stands out from a dark or a light ground."""
    first = _one_of(rng, len(PAINTS))
    second = (first + 2 + _one_of(rng, len(PAINTS) - 3)) % len(PAINTS)
    fill, other = (_paint(paint, dark, rng) for paint in (first, second))
    light, style = (255, 250, 238), rng.random()
    if style < 0.5:
        return Colours(fill, other, light, INK, INK)
    if style < 0.7:
        return Colours(fill, other, light, light if dark else INK, None)
    if style < 0.78:
        line = _toned(fill, (255, 255, 255) if dark else (0, 0, 0), 0.55)
        return Colours(None, None, None, line, line)
    return Colours(fill, other, light, INK, (255, 255, 255))


def _paint(which: int, dark: bool, rng: np.random.Generator) -> Colour:
    """A paint of `PAINTS`, a little lighter or darker by chance, lighter for a dark ground."""
    red, green, blue = (int(PAINTS[which][i : i + 2], 16) for i in (1, 3, 5))
    share = _between(rng, 0.1, 0.4) if dark else _between(rng, -0.25, 0.05)
    return _toned((red, green, blue), (255, 255, 255) if share > 0 else (0, 0, 0), abs(share))


def _toned(colour: Colour, towards: Colour, share: float) -> Colour:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(colour, towards, strict=True))
    return red, green, blue


def _ground(name: str, rng: np.random.Generator) -> tuple[Image.Image, bool]:
    """Draw a ground: plain, gradient, noise, stripes or dots; return whether it is a dark one."""
    low, high = GROUNDS[name]
    hue, dark, pattern = _between(rng, low, high), bool(rng.random() < 0.3), _one_of(rng, 5)
    lightness = _between(rng, 0.2, 0.32) if dark else _between(rng, 0.7, 0.86)
    saturation = _between(rng, 0.25, 0.5) if dark else _between(rng, 0.4, 0.8)
    colour = _colour(hue, lightness, saturation)
    other = _colour(hue + _between(rng, -0.04, 0.04), lightness + (0.07 if dark else -0.09), saturation)
    if pattern in (1, 2):
        return _shaded(colour, other, pattern == 2, rng), dark
    image = Image.new("RGB", (LARGE, LARGE), colour)
    draw = ImageDraw.Draw(image)
    step = round(_between(rng, 20.0, 44.0))
    if pattern == 3:
        slant = round(LARGE * _between(rng, -1.0, 1.0))
        for x in range(-LARGE, 2 * LARGE, step):
            draw.line([(x, 0), (x + slant, LARGE)], other, step // 2)
    elif pattern == 4:
        radius = step * _between(rng, 0.15, 0.3)
        for row, y in enumerate(range(0, LARGE + step, step)):
            for x in range(-(step // 2) * (row % 2), LARGE + step, step):
                draw.ellipse((x - radius, y - radius, x + radius, y + radius), other)
    return image, dark


def _shaded(first: Colour, second: Colour, noisy: bool, rng: np.random.Generator) -> Image.Image:
    """A ground that goes from one colour to the other, along a direction or by chance."""
    if noisy:
        share = rng.random((SIDE // 2, SIDE // 2), dtype=np.float32)
    else:
        angle, line = _between(rng, 0.0, 2 * math.pi), np.linspace(-0.5, 0.5, SIDE // 2, dtype=np.float32)
        share = np.clip(0.5 + line[:, None] * math.sin(angle) + line[None, :] * math.cos(angle), 0, 1)
        share = share.astype(np.float32) * 1.6 - 0.3
    start, stop = np.array(first, dtype=np.float32), np.array(second, dtype=np.float32)
    if noisy:
        share = share * 0.6
    small = _image(start + (stop - start) * share[..., None])
    return small.resize((LARGE, LARGE), Image.Resampling.NEAREST if noisy else Image.Resampling.BILINEAR)


def _down(image: Image.Image) -> Image.Image:
    return image.reduce(SCALE)


def _image(values: Float32[Array, "h w 3"]) -> Image.Image:
    pixels: UInt8[Array, "h w 3"] = np.clip(values, 0, 255).astype(np.uint8)
    return Image.fromarray(pixels)
