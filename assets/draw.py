"""Draw the README's picture from a sifted project of built-in digits: `python assets/draw.py PROJECT`.

    gradsift demo PROJECT --headless
    python assets/draw.py PROJECT

writes `overview-light.png` and `overview-dark.png` beside this file. Every number in them is computed from the project.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from core import Manifest, Project
from core.data.images import decode
from core.opening import planted_found
from core.review.flags import Budget, flag

WIDTH, HEIGHT, SCALE = 1400, 700, 2  # drawn at twice the size and brought down, so that edges are smooth
MARGIN, TOP = 40, 112
MAP_RIGHT, GRID_LEFT = 640, 692
COLUMNS, LINES = 6, 3


@dataclass(frozen=True)
class Theme:
    """The colours of one picture; `suspicion` runs from 0 to 100."""

    name: str
    background: str
    raised: str
    text: str
    muted: str
    border: str
    suspicion: tuple[str, ...]


THEMES = (
    Theme("light", "#FFFFFF", "#F4F5F7", "#1B1F24", "#59616B", "#D5DAE1",
          ("#D5DAE1", "#F2C078", "#E58A3C", "#BC4A1B", "#6B1B16")),
    Theme("dark", "#14171A", "#1F242A", "#E8EAED", "#A3ABB5", "#3B4149",
          ("#3B4149", "#7D4423", "#C2621F", "#F09A45", "#FFE6AE")),
)  # fmt: skip


class Canvas:
    """A picture in units of 1400 x 700, whatever the scale it is drawn at."""

    def __init__(self, theme: Theme) -> None:
        self.theme = theme
        self.image = Image.new("RGB", (WIDTH * SCALE, HEIGHT * SCALE), theme.background)
        self.draw = ImageDraw.Draw(self.image)

    def text(self, x: float, y: float, words: str, size: float, colour: str, anchor: str = "la") -> float:
        """Write one line and return its width."""
        font = ImageFont.load_default(size * SCALE)
        self.draw.text((x * SCALE, y * SCALE), words, font=font, fill=colour, anchor=anchor)
        return self.draw.textlength(words, font=font) / SCALE

    def dot(self, x: float, y: float, radius: float, colour: str, edge: str | None = None) -> None:
        """Draw a filled circle, with a thin edge where one is named."""
        box = [(x - radius) * SCALE, (y - radius) * SCALE, (x + radius) * SCALE, (y + radius) * SCALE]
        self.draw.ellipse(box, fill=colour, outline=edge, width=SCALE if edge else 0)

    def box(self, left: float, top: float, right: float, bottom: float, fill: str, edge: str) -> None:
        """Draw a rounded rectangle."""
        corners = [left * SCALE, top * SCALE, right * SCALE, bottom * SCALE]
        self.draw.rounded_rectangle(corners, radius=6 * SCALE, fill=fill, outline=edge, width=SCALE)

    def arrow(self, x: float, y: float, length: float, colour: str) -> None:
        """Draw an arrow to the right; Pillow's own font has none."""
        ends = [((x + a) * SCALE, (y + b) * SCALE) for a, b in ((0, 0), (length, 0), (length - 4, -4), (length - 4, 4))]
        for start, end in ((0, 1), (2, 1), (3, 1)):
            self.draw.line([ends[start], ends[end]], fill=colour, width=round(1.4 * SCALE))

    def paste(self, picture: Image.Image, x: float, y: float, side: float) -> None:
        """Put a small picture in, every pixel of it a sharp square."""
        big = picture.resize((round(side * SCALE),) * 2, Image.Resampling.NEAREST)
        self.image.paste(big, (round(x * SCALE), round(y * SCALE)))

    def save(self, path: Path) -> None:
        """Write the picture at its final size."""
        final = self.image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
        final.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def colour_of(share: float, stops: tuple[str, ...]) -> str:
    """Return the colour of a suspicion of 0 to 100, between the stops."""
    channels = np.array([[int(stop[i : i + 2], 16) for i in (1, 3, 5)] for stop in stops])
    at = np.linspace(0, 100, len(stops))
    return "#" + "".join(f"{round(float(np.interp(share, at, channels[:, i]))):02X}" for i in range(3))


def draw_map(canvas: Canvas, points: np.ndarray, ranked: pd.DataFrame) -> None:
    """Draw the map: one dot per training image, the least suspicious first, the flagged ones large and on top."""
    theme, bottom = canvas.theme, HEIGHT - MARGIN
    canvas.box(MARGIN, TOP, MAP_RIGHT, bottom, theme.raised, theme.border)
    low, high = points.min(0), points.max(0)
    frame = np.array([MAP_RIGHT - MARGIN - 48, bottom - TOP - 88])
    scale = float((frame / (high - low)).min())
    placed = (points - (low + high) / 2) * scale + [(MARGIN + MAP_RIGHT) / 2, (TOP + bottom) / 2 - 22]
    for (x, y), row in zip(placed[::-1], ranked[::-1].itertuples(), strict=True):
        colour = colour_of(row.suspicion, theme.suspicion)
        canvas.dot(x, y, 5 if row.flagged else 2.4, colour, theme.raised if row.flagged else None)
    draw_scale(canvas, MARGIN + 20, bottom - 30)


def draw_scale(canvas: Canvas, x: float, y: float) -> None:
    """Draw the colour scale and what a dot means, in one line."""
    theme = canvas.theme
    x += canvas.text(x, y, "suspicion 0", 14, theme.muted) + 8
    for step in range(101):
        corners = [(x + step) * SCALE, (y + 2) * SCALE, (x + step + 1) * SCALE, (y + 14) * SCALE]
        canvas.draw.rectangle(corners, fill=colour_of(step, theme.suspicion))
    x += 109
    x += canvas.text(x, y, "100", 14, theme.muted) + 26
    canvas.dot(x, y + 8, 5, theme.suspicion[-1])
    x += 12
    x += canvas.text(x, y, "flagged", 14, theme.muted) + 26
    canvas.text(x, y, "only nearness means something", 14, theme.muted)


def draw_grid(canvas: Canvas, pictures: list[Image.Image], ranked: pd.DataFrame) -> None:
    """Draw the most suspicious images, each with its label and what the evidence prefers."""
    theme, gap = canvas.theme, 14
    width = (WIDTH - MARGIN - GRID_LEFT - gap * (COLUMNS - 1)) / COLUMNS
    height = (HEIGHT - MARGIN - TOP - gap * (LINES - 1)) / LINES
    for place, (picture, row) in enumerate(zip(pictures, ranked.itertuples(), strict=False)):
        left = GRID_LEFT + place % COLUMNS * (width + gap)
        top = TOP + place // COLUMNS * (height + gap)
        canvas.box(left, top, left + width, top + height, theme.raised, theme.border)
        side = width - 16
        canvas.paste(picture, left + 8, top + 8, side)
        below = top + side + 8
        middle = (below + top + height) / 2
        canvas.text(left + 8, middle - 13, "labelled", 13, theme.muted, "lm")
        x = left + 8
        x += canvas.text(x, middle + 10, str(row.given_label), 19, theme.text, "lm") + 7
        canvas.arrow(x, middle + 10, 16, theme.muted)
        canvas.text(x + 24, middle + 10, f"{row.suggested_label}?", 19, theme.text, "lm")


def draw(project: Project, theme: Theme, path: Path) -> None:
    """Draw one picture."""
    manifest, findings = project.manifest(), project.findings()
    ranked = flag(findings.samples, "suspicion", Budget.parse(project.config.budget))
    found = planted_found(manifest, findings)
    canvas = Canvas(theme)
    flagged = int(ranked["flagged"].sum())
    canvas.text(MARGIN, 34, f"{flagged:,} of {len(ranked):,} training images are flagged", 30, theme.text)
    canvas.text(
        MARGIN, 76, f"The map of their gradients; {found['planted']:,} wrong labels were planted.", 17, theme.muted
    )
    canvas.text(GRID_LEFT, 34, f"The first {COLUMNS * LINES} of the ranking", 30, theme.text)
    canvas.text(
        GRID_LEFT, 76, f"Of the first {found['reviewed']:,} images {found['found']:,} are planted errors; "
        f"in a random order {found['found_at_random']:.0f} would be.", 17, theme.muted,
    )  # fmt: skip
    points = np.asarray(findings.maps["gradients"])[findings.samples.index.get_indexer(ranked.index)]
    draw_map(canvas, points, ranked)
    draw_grid(canvas, pictures_of(manifest, list(ranked.index[: COLUMNS * LINES])), ranked)
    canvas.save(path)


def pictures_of(manifest: Manifest, ids: list[str]) -> list[Image.Image]:
    """Return the images of these ids, in their order."""
    found = {sample: data for sample, data in manifest.source.read(ids) if isinstance(data, bytes)}
    return [Image.fromarray(decode(found[sample])) for sample in ids]


def main() -> None:
    """Draw both pictures."""
    if len(sys.argv) != 2:
        sys.exit("usage: python assets/draw.py PROJECT (a sifted project of built-in digits)")
    project = Project.open(sys.argv[1])
    for theme in THEMES:
        draw(project, theme, Path(__file__).with_name(f"overview-{theme.name}.png"))


if __name__ == "__main__":
    main()
