"""Arrays to Plotly figures: every figure of the app is made here and nowhere else.

`map_figure` draws the map, `training_figure` a training's loss and accuracy, `classes_figure` the classes before and
after cleaning. A figure has no axes it does not need, takes its colours by theme (`light` or `dark`), and shows names
as text: Plotly reads `<b>`, `<br>` and `<a>` in every string, so names go through `text`.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from core.axes import Array, Bool, Float, Integer
from core.review.points import REST, MapData

CLASS_COLOURS = (
    "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd",
)  # fmt: skip
SMALL, LARGE = 3.5, 8.0  # pixels: an ordinary point, a flagged one
TOOLS = 44  # pixels above the points, for the buttons
LONGEST_NAME = 24  # characters of a name on an axis


@dataclass(frozen=True)
class Look:
    """The colours of one theme."""

    background: str
    raised: str
    text: str
    muted: str
    border: str
    accent: str
    rest: str  # points that are not spoken of
    scale: tuple[str, ...]  # suspicion 0 to 100, even in lightness
    decisions: Mapping[str, str]


LIGHT = Look("#FFFFFF", "#F4F5F7", "#1B1F24", "#59616B", "#D5DAE1", "#0B62B8", "#CDD3DA",
             ("#D5DAE1", "#F2C078", "#E58A3C", "#BC4A1B", "#6B1B16"),
             {"keep": "#0F6B57", "relabel": "#0B62B8", "exclude": "#B23A0C", "unsure": "#6A4C93"})  # fmt: skip
DARK = Look("#14171A", "#1F242A", "#E8EAED", "#A3ABB5", "#3B4149", "#2A76CC", "#434A53",
            ("#3B4149", "#7D4423", "#C2621F", "#F09A45", "#FFE6AE"),
            {"keep": "#4FC3A1", "relabel": "#6DB3F8", "exclude": "#FF9466", "unsure": "#C3A6F0"})  # fmt: skip


@dataclass(frozen=True)
class Mark:
    """A kind of point: its name, the words and sign of the legend, and its shape."""

    name: str
    title: str
    sign: str
    symbol: str
    size: float


MARKS = (
    Mark("ordinary", "not flagged", "·", "circle", SMALL),
    Mark("keep", "kept", "○", "circle", LARGE),
    Mark("relabel", "relabelled", "◇", "diamond", LARGE + 1),
    Mark("exclude", "excluded", "□", "square", LARGE),
    Mark("unsure", "unsure", "△", "triangle-up", LARGE + 1),
    Mark("flagged", "flagged", "✕", "x", LARGE + 1),
)  # drawn in this order, the last on top


def look(dark: bool) -> Look:
    """Return the colours of a theme."""
    return DARK if dark else LIGHT


def text(name: str, longest: int = 10_000) -> str:
    """Return a name so that Plotly shows it letter by letter, cut with … where it is longer."""
    flat = " ".join(name.split())
    return html.escape(flat if len(flat) <= longest else f"{flat[: longest - 1]}…", quote=False)


def kinds(flagged: Bool[Array, " n"], action: Any) -> Integer[Array, " n"]:
    """Return each point's place in `MARKS`: its decision if there is one, else flagged or ordinary."""
    names = [mark.name for mark in MARKS]
    found = np.where(np.asarray(flagged, dtype=bool), names.index("flagged"), 0)
    decided = np.asarray(action, dtype=object)
    for row, name in enumerate(names):
        if name not in ("ordinary", "flagged"):
            found[decided == name] = row
    return found


def class_colours(categories: Sequence[str], classes: Sequence[str], dark: bool) -> list[str]:
    """Return a colour for each category of a map.

    Up to as many classes as colours, each class has a colour of its own whatever else is shown; beyond that the first
    categories take the first colours. `REST`, standing last for all other classes, is grey.
    """
    own = dict(zip(classes, CLASS_COLOURS, strict=False)) if len(classes) <= len(CLASS_COLOURS) else {}
    found = [own.get(name, CLASS_COLOURS[row % len(CLASS_COLOURS)]) for row, name in enumerate(categories)]
    return [*found[:-1], look(dark).rest] if tuple(categories[-1:]) == (REST,) else found


def map_figure(
    data: MapData,
    dark: bool,
    *,
    space: str = "",
    title: str = "suspicion",
    classes: Sequence[str] = (),
    faded: Bool[Array, " n"] | None = None,
    webgl: bool = True,
    height: int = 640,
) -> go.Figure:
    """Draw the map: a trace for each kind of point, flagged ones larger, of another shape and on top.

    Args:
        data: what `core.review.points.map_data` made.
        dark: the theme.
        space: its name; zoom is kept while it stays the same.
        title: of the colour bar, where colour is a measure.
        classes: of the project, in their order, where colour is a class.
        faded: points that are drawn grey, such as those of classes that were not chosen.
        webgl: draw by WebGL; without it as SVG, which is slow beyond some thousand points.
        height: in pixels.
    """
    theme = look(dark)
    kind = kinds(data.flagged, data.action)
    paint = _Paint.of(data, dark, title, classes)
    figure = go.Figure()
    trace = go.Scattergl if webgl else go.Scatter
    values = np.asarray(data.value, dtype=np.float32)
    coloured = np.isfinite(values) & (values >= 0) & ~(np.zeros(len(values), bool) if faded is None else faded)
    for row, mark in enumerate(MARKS):
        for known in (False, True):
            here = np.flatnonzero((kind == row) & (coloured == known))
            if len(here):
                here = here[np.argsort(values[here], kind="stable")] if known and not paint.by_class else here
                figure.add_trace(_points(trace, data, mark, here, values if known else None, paint, theme))
    figure.update_layout(
        height=height, margin={"l": 0, "r": 0 if paint.by_class else 76, "t": TOOLS, "b": 0}, showlegend=False,
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", font=_font(theme), template="none",
        dragmode="pan", hovermode="closest", hoverdistance=14, uirevision=f"map-{space}",
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": theme.muted, "activecolor": theme.text},
    )  # fmt: skip
    if not paint.by_class:
        figure.update_layout(coloraxis=paint.axis(theme))
    for axis, column in ((figure.update_xaxes, 0), (figure.update_yaxes, 1)):
        axis(visible=False, zeroline=False, range=_range(data.xy[:, column]))
    return figure


@dataclass(frozen=True)
class _Paint:
    """How values become colours: a measure by the scale, a class by one colour each."""

    by_class: bool
    scale: list[tuple[float, str]]
    low: float
    high: float
    title: str

    @classmethod
    def of(cls, data: MapData, dark: bool, title: str, classes: Sequence[str]) -> _Paint:
        if not data.categories:
            steps = look(dark).scale
            scale = [(place / (len(steps) - 1), colour) for place, colour in enumerate(steps)]
            return cls(False, scale, 0.0, 100.0, title)
        colours = class_colours(data.categories, classes, dark)
        count = len(colours)
        scale = [(edge / count, colour) for place, colour in enumerate(colours) for edge in (place, place + 1)]
        return cls(True, scale, -0.5, count - 0.5, title)

    def axis(self, theme: Look) -> dict[str, Any]:
        bar = {
            "title": {"text": f"{text(self.title, 40)}, percentile", "side": "right", "font": {"color": theme.muted}},
            "thickness": 10, "len": 0.5, "x": 1.0, "xpad": 10, "y": 0.02, "yanchor": "bottom", "outlinewidth": 0,
            "tickvals": [0, 20, 40, 60, 80, 100], "tickfont": {"color": theme.muted, "size": 12},
        }  # fmt: skip
        return {"colorscale": self.scale, "cmin": self.low, "cmax": self.high, "colorbar": bar}


def _points(
    trace: Any, data: MapData, mark: Mark, here: Integer[Array, " m"], values: Any, paint: _Paint, theme: Look
) -> Any:
    marker: dict[str, Any] = {"symbol": mark.symbol, "size": mark.size, "opacity": 1.0, "line": {"width": 0}}
    if values is None:
        marker["color"] = theme.rest
    elif paint.by_class:
        marker |= {"color": values[here], "colorscale": paint.scale, "cmin": paint.low, "cmax": paint.high}
    else:
        marker |= {"color": values[here], "coloraxis": "coloraxis"}
    if mark.name == "ordinary":
        marker["opacity"] = 0.85
    elif mark.name in theme.decisions:  # hollow, in the decision's own colour
        edge = theme.rest if values is None else theme.decisions[mark.name]
        marker = {
            "symbol": mark.symbol,
            "size": mark.size,
            "color": theme.background,
            "line": {"width": 2.4, "color": edge},
        }
    return trace(
        x=data.xy[here, 0], y=data.xy[here, 1], mode="markers", name=mark.title, marker=marker,
        customdata=np.asarray(data.ids, dtype=object)[here], hoverinfo="none",
    )  # fmt: skip


def _range(values: Float[Array, " n"]) -> list[float]:
    finite = np.asarray(values, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    if not len(finite):
        return [-1.0, 1.0]
    low, high = float(finite.min()), float(finite.max())
    space = 0.04 * (high - low) or 1.0
    return [low - space, high + space]


def _font(theme: Look) -> dict[str, Any]:
    return {"family": '"Source Sans", "Source Sans Pro", sans-serif', "size": 13, "color": theme.text}


def training_figure(curve: Sequence[Mapping[str, Any]], dark: bool, *, height: int = 220) -> go.Figure:
    """Draw loss and accuracy per epoch side by side; each row of `curve` has epoch, loss and accuracy (0-1)."""
    theme = look(dark)
    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.1, subplot_titles=("Loss", "Accuracy, %"))
    epochs = [row["epoch"] for row in curve]
    for column, (name, factor) in enumerate((("loss", 1.0), ("accuracy", 100.0)), start=1):
        known = [row.get(name) for row in curve]
        heights = [None if value is None else factor * float(value) for value in known]
        line = {"color": theme.accent, "width": 2}
        figure.add_trace(
            go.Scatter(x=epochs, y=heights, mode="lines+markers", line=line, marker={"size": 5}, name=name,
                       hovertemplate=f"epoch %{{x}}: {name} %{{y:.3g}}<extra></extra>"),
            row=1, col=column,
        )  # fmt: skip
    _plain_axes(figure, theme, height)
    figure.update_xaxes(title={"text": "epoch"}, dtick=None if len(epochs) > 12 else 1)
    figure.update_yaxes(rangemode="tozero")
    figure.update_yaxes(range=[0, 102], col=2)
    return figure


def classes_figure(per_class: Sequence[Mapping[str, Any]], dark: bool, *, least_height: int = 160) -> go.Figure:
    """Draw a pair of bars for each class, images before cleaning and after; each row has name, before and after."""
    theme = look(dark)
    shown = [text(str(row["name"]), LONGEST_NAME) for row in per_class]
    rows = list(range(len(shown)))
    figure = go.Figure()
    for title, colour in (("before", theme.rest), ("after", theme.accent)):
        figure.add_trace(
            go.Bar(y=rows, x=[int(row[title]) for row in per_class], orientation="h", name=title,
                   marker={"color": colour}, hovertemplate=f"%{{x:,}} images {title}<extra></extra>")
        )  # fmt: skip
    _plain_axes(figure, theme, max(least_height, 60 + 34 * len(rows)))
    figure.update_layout(
        barmode="group", bargap=0.35, bargroupgap=0.05, showlegend=True,
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "traceorder": "normal"},
    )  # fmt: skip
    figure.update_yaxes(tickvals=rows, ticktext=shown, autorange="reversed", showgrid=False)
    figure.update_xaxes(title={"text": "images"}, rangemode="tozero")
    return figure


def _plain_axes(figure: go.Figure, theme: Look, height: int) -> None:
    figure.update_layout(
        height=height, margin={"l": 8, "r": 8, "t": 28, "b": 8}, showlegend=False, font=_font(theme), template="none",
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", dragmode=False,
        hoverlabel={"bgcolor": theme.raised, "font": {"color": theme.text}, "bordercolor": theme.border},
    )  # fmt: skip
    lines = {"gridcolor": theme.border, "zeroline": False, "automargin": True, "fixedrange": True}
    figure.update_xaxes(**lines, tickfont={"color": theme.muted})
    figure.update_yaxes(**lines, tickfont={"color": theme.muted})
    figure.update_annotations(font={"size": 13, "color": theme.text})
