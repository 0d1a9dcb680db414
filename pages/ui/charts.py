"""Arrays to Plotly figures: every figure of the app is made here and nowhere else.

`map_figure` draws the map, `training_figure` a training's loss and accuracy, `classes_figure` the classes before and
after cleaning. Of a verification `differences_figure` draws differences with their intervals, `values_figure` each
class or group before and after, `learning_figure` the trainings side by side. A figure has no axes it does not need,
takes its colours by theme (`light` or `dark`), and shows names as text: Plotly reads `<b>`, `<br>` and `<a>` in every
string, so names go through `text`.
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
        legend=LEGEND,
    )  # fmt: skip
    figure.update_yaxes(tickvals=rows, ticktext=shown, autorange="reversed", showgrid=False)
    figure.update_xaxes(title={"text": "images"}, rangemode="tozero")
    return figure


def differences_figure(rows: Sequence[Mapping[str, Any]], dark: bool) -> go.Figure:
    """Draw differences with their intervals beside zero, measures of one unit on one axis.

    Args:
        rows: in the order of the screen; each has name, unit (its axis: a title), against (the legend), value, low and
            high (low and high None where there is no interval), and told (the same in words).
        dark: the theme.
    """
    theme, units = look(dark), list(dict.fromkeys(str(row["unit"]) for row in rows))
    against = list(dict.fromkeys(str(row["against"]) for row in rows))
    names = [list(dict.fromkeys(str(row["name"]) for row in rows if row["unit"] == unit)) for unit in units]
    figure = make_subplots(
        rows=max(len(units), 1), cols=1, row_heights=[len(each) for each in names] or None, vertical_spacing=0.2
    )
    styles = dict(zip(against, ((theme.accent, "circle"), (theme.muted, "diamond-open")), strict=False))
    step = 0.36 / max(len(against) - 1, 1)
    for place, (unit, measures) in enumerate(zip(units, names, strict=True), start=1):
        for number, series in enumerate(against):
            shown = [row for row in rows if row["unit"] == unit and row["against"] == series]
            ys = [measures.index(str(row["name"])) + step * number - 0.18 * (len(against) > 1) for row in shown]
            colour, symbol = styles.get(series, (theme.text, "square"))
            figure.add_trace(_intervals(shown, ys, colour, symbol, series, place == 1), row=place, col=1)
            for row, y in zip(shown, ys, strict=True):
                figure.add_annotation(
                    x=1.0, xref="x domain" if place == 1 else f"x{place} domain", y=y, text=text(str(row["told"])),
                    yref="y" if place == 1 else f"y{place}", xanchor="left", xshift=10, showarrow=False,
                )  # fmt: skip
        figure.add_vline(x=0, line={"color": theme.text, "width": 1}, row=place, col=1)
        figure.update_xaxes(title={"text": text(unit)}, range=_around_zero(rows, unit), row=place, col=1)
        ticks = {"tickvals": list(range(len(measures))), "ticktext": [text(each, LONGEST_NAME) for each in measures]}
        figure.update_yaxes(**ticks, range=[len(measures) - 0.5, -0.5], showgrid=False, row=place, col=1)
    _plain_axes(figure, theme, 70 + 46 * sum(map(len, names)) + 56 * len(units))
    figure.update_layout(margin={"l": 8, "r": 150, "t": 36, "b": 8}, showlegend=len(against) > 1, legend=LEGEND)
    return figure


LEGEND = {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "traceorder": "normal"}


def _intervals(
    rows: Sequence[Mapping[str, Any]], ys: Sequence[float], colour: Any, symbol: str, name: str, legend: bool
) -> go.Scatter:
    """Draw values as points, each on the line of its interval; `colour` is one or a list."""
    values = [float(row["value"]) for row in rows]
    above, below = (
        [abs(float(row[end]) - value) if row[end] is not None else 0.0 for row, value in zip(rows, values, strict=True)]
        for end in ("high", "low")
    )
    line = colour if isinstance(colour, str) else None
    return go.Scatter(
        x=values, y=list(ys), mode="markers", name=text(name), showlegend=legend,
        marker={"color": colour, "size": 10, "symbol": symbol, "line": {"width": 2, "color": colour}},
        error_x={"array": above, "arrayminus": below, "symmetric": False, "thickness": 2, "width": 0, "color": line},
        customdata=[text(f"{row['name']}: {row['told']}") for row in rows],
        hovertemplate="%{customdata}<extra></extra>",
    )  # fmt: skip


def _around_zero(rows: Sequence[Mapping[str, Any]], unit: str) -> list[float]:
    """Return the range of an axis that holds zero and every interval of a unit."""
    ends = [row[end] for row in rows if row["unit"] == unit for end in ("value", "low", "high")]
    return _range(np.array([0.0, *(each for each in ends if each is not None)]))


def values_figure(rows: Sequence[Mapping[str, Any]], dark: bool) -> go.Figure:
    """Draw each class or group: its accuracy before and after, and beside it the difference with its interval.

    Args:
        rows: each has name, before and after (0-1), value, low and high (points; None without an interval), told, and
            pays: whether it loses, which is drawn in the colour of what is left out.
        dark: the theme.
    """
    theme = look(dark)
    figure = make_subplots(
        rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.06, column_widths=[0.45, 0.55],
        subplot_titles=("Accuracy before and after, %", "Difference, points"),
    )  # fmt: skip
    places = list(range(len(rows)))
    colours = [theme.decisions["exclude"] if row["pays"] else theme.accent for row in rows]
    ends = [[100 * row[end] for row in rows] for end in ("before", "after")]
    xs = [x for pair in zip(*ends, strict=True) for x in (*pair, None)]
    line = {"color": theme.border, "width": 3}
    ys = [y for place in places for y in (place, place, None)]
    figure.add_trace(go.Scatter(x=xs, y=ys, mode="lines", line=line, hoverinfo="skip", showlegend=False), row=1, col=1)
    for name, values, colour in zip(("before", "after"), ends, (theme.muted, colours), strict=True):
        figure.add_trace(
            go.Scatter(x=values, y=places, mode="markers", name=name, showlegend=False,
                       marker={"color": colour, "size": 9, "symbol": "circle-open" if name == "before" else "circle",
                               "line": {"width": 2, "color": colour}},
                       hovertemplate=f"{name}: %{{x:.1f}} %<extra></extra>"),
            row=1, col=1,
        )  # fmt: skip
    for colour in dict.fromkeys(colours):  # error bars have one colour each
        chosen = [place for place in places if colours[place] == colour]
        drawn = _intervals([rows[place] for place in chosen], chosen, colour, "circle", "difference", False)
        figure.add_trace(drawn, row=1, col=2)
    figure.add_vline(x=0, line={"color": theme.text, "width": 1}, row=1, col=2)
    _plain_axes(figure, theme, 80 + 26 * max(len(rows), 3))
    figure.update_yaxes(
        tickvals=places, ticktext=[text(str(row["name"]), LONGEST_NAME) for row in rows],
        range=[len(rows) - 0.5, -0.5], showgrid=False,
    )  # fmt: skip
    return figure


def learning_figure(curves: Mapping[str, Sequence[Mapping[str, Any]]], dark: bool) -> go.Figure:
    """Draw the trainings of every arm side by side, a picture for each measure.

    Args:
        curves: title of a measure to a line for each arm: name, random (a control, drawn broken), mean, low and high
            (a value per epoch; low and high are the lowest and highest of the seeds).
        dark: the theme.
    """
    theme = look(dark)
    titles = [text(title) for title in curves]
    figure = make_subplots(rows=1, cols=max(len(titles), 1), horizontal_spacing=0.07, subplot_titles=titles)
    own = (theme.muted, theme.accent, *CLASS_COLOURS[1:])
    names = list(dict.fromkeys(str(line["name"]) for lines in curves.values() for line in lines))
    for column, lines in enumerate(curves.values(), start=1):
        for line in lines:
            colour = own[names.index(str(line["name"])) % len(own)]
            epochs = list(range(1, len(line["mean"]) + 1))
            outline, there = [*line["high"], *reversed(line["low"])], [*epochs, *reversed(epochs)]
            figure.add_trace(
                go.Scatter(x=there, y=outline, fill="toself", fillcolor=colour, opacity=0.15, line={"width": 0},
                           mode="lines", hoverinfo="skip", showlegend=False),
                row=1, col=column,
            )  # fmt: skip
            figure.add_trace(
                go.Scatter(x=epochs, y=list(line["mean"]), mode="lines", name=text(str(line["name"])),
                           legendgroup=str(names.index(str(line["name"]))), showlegend=column == 1,
                           line={"color": colour, "width": 2, "dash": "dash" if line["random"] else "solid"},
                           hovertemplate="epoch %{x}: %{y:.3g}<extra>%{fullData.name}</extra>"),
                row=1, col=column,
            )  # fmt: skip
    _plain_axes(figure, theme, 300)
    figure.update_xaxes(title={"text": "epoch"})
    figure.update_layout(showlegend=True, legend={**LEGEND, "y": -0.28, "yanchor": "top"}, margin={"b": 70})
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
