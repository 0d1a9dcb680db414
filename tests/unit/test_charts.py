"""What the figures hold: who is drawn how, with which id, and that names stay text."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from core.review.points import REST, MapData
from pages.ui import charts
from pages.ui.map_view import polygon
from pages.ui.map_view.polygon import Lasso
from pages.ui.map_view.view import View, budgets, places, rankings

HOSTILE = "<b>cat</b><br><a href='x'>&"


def made(value: Any, categories: tuple[str, ...] = (), flagged: Any = None, action: Any = None) -> MapData:
    n = len(value)
    rng = np.random.default_rng(0)
    return MapData(
        ids=np.array([f"{row}.png" for row in range(n)], dtype=object),
        xy=rng.normal(size=(n, 2)).astype(np.float32),
        value=np.asarray(value),
        flagged=np.zeros(n, bool) if flagged is None else np.asarray(flagged, bool),
        action=np.full(n, "undecided", dtype=object) if action is None else np.asarray(action, dtype=object),
        hidden=0,
        note="",
        categories=categories,
    )


def drawn(figure: Any) -> dict[str, str]:
    """The symbol under which each id is drawn."""
    return {str(sample): str(each.marker.symbol) for each in figure.data for sample in each.customdata}


def test_each_kind_has_a_shape_and_each_point_is_drawn_once() -> None:
    data = made(
        [1.0, 99.0, 98.0, 97.0, 96.0, 5.0, 40.0],
        flagged=[0, 1, 1, 1, 1, 0, 0],
        action=["undecided", "undecided", "keep", "relabel", "exclude", "unsure", "undecided"],
    )
    figure = charts.map_figure(data, dark=False)
    assert drawn(figure) == {
        "0.png": "circle", "1.png": "x", "2.png": "circle", "3.png": "diamond", "4.png": "square",
        "5.png": "triangle-up", "6.png": "circle",
    }  # fmt: skip
    assert sum(len(each.x) for each in figure.data) == 7
    sizes = {sample: each.marker.size for each in figure.data for sample in each.customdata}
    assert sizes["0.png"] == charts.SMALL < sizes["2.png"] <= sizes["1.png"]
    assert figure.data[-1].name == "flagged"


def test_ids_travel_with_their_points() -> None:
    data = made(np.linspace(100, 0, 30), flagged=np.arange(30) < 4)
    for each in charts.map_figure(data, dark=True).data:
        for sample, x, y, colour in zip(each.customdata, each.x, each.y, each.marker.color, strict=True):
            row = list(data.ids).index(sample)
            assert (x, y) == tuple(data.xy[row])
            assert colour == pytest.approx(data.value[row], abs=1e-4)


@pytest.mark.parametrize(("dark", "scale"), [(False, charts.LIGHT.scale), (True, charts.DARK.scale)])
def test_a_measure_is_drawn_by_the_themes_scale_from_0_to_100(dark: bool, scale: tuple[str, ...]) -> None:
    axis = charts.map_figure(made([10.0, 20.0]), dark, title="<i>loss</i>").layout.coloraxis
    assert (axis.cmin, axis.cmax) == (0, 100)
    assert [(step, colour.upper()) for step, colour in axis.colorscale] == [
        (place / 4, each) for place, each in enumerate(scale)
    ]
    assert axis.colorbar.title.text == "&lt;i&gt;loss&lt;/i&gt;, percentile"


def test_what_has_no_value_and_what_is_faded_is_grey() -> None:
    figure = charts.map_figure(made([50.0, np.nan, 60.0]), dark=False, faded=np.array([False, False, True]))
    colours = {sample: each.marker.color for each in figure.data for sample in each.customdata}
    assert (colours["1.png"], colours["2.png"]) == (charts.LIGHT.rest, charts.LIGHT.rest)
    assert not isinstance(colours["0.png"], str)


def test_a_code_is_drawn_in_its_class_colour() -> None:
    figure = charts.map_figure(made([0, 1, 2, -1], ("cat", "dog", "fox")), dark=False, classes=("cat", "dog", "fox"))
    marker = next(each.marker for each in figure.data if "0.png" in each.customdata)
    assert [step[1] for step in marker.colorscale] == [c for c in charts.CLASS_COLOURS[:3] for _ in range(2)]
    assert (marker.cmin, marker.cmax) == (-0.5, 2.5)
    rest = next(each.marker for each in figure.data if "3.png" in each.customdata)
    assert rest.color == charts.LIGHT.rest


def test_a_class_keeps_its_colour_up_to_ten_and_the_rest_is_grey() -> None:
    few, many = ("cat", "dog", "fox"), tuple(map(str, range(12)))
    assert charts.class_colours(("fox", REST), few, dark=False) == [charts.CLASS_COLOURS[2], charts.LIGHT.rest]
    assert charts.class_colours(("11", "3", REST), many, dark=True) == [*charts.CLASS_COLOURS[:2], charts.DARK.rest]


def test_the_map_leaves_hover_and_selection_to_the_listener() -> None:
    layout = charts.map_figure(made([1.0]), dark=False, space="gradients").layout
    assert (layout.dragmode, layout.uirevision, layout.xaxis.visible) == ("pan", "map-gradients", False)
    assert all(each.hoverinfo == "none" for each in charts.map_figure(made([1.0]), dark=False).data)


@pytest.mark.parametrize("n", [0, 1])
def test_an_empty_map_and_a_single_point_have_an_area(n: int) -> None:
    low, high = charts.map_figure(made(np.full(n, 5.0)), dark=False).layout.xaxis.range
    assert low < high


def test_names_are_text() -> None:
    figure = charts.classes_figure([{"name": HOSTILE, "before": 3, "after": 1}], dark=False)
    assert figure.layout.yaxis.ticktext == ("&lt;b&gt;cat&lt;/b&gt;&lt;br&gt;&lt;a href='…",)
    assert "<b>" not in json.dumps(figure.to_plotly_json(), default=str)


def test_bars_show_before_and_after() -> None:
    rows = [{"name": "cat", "before": 5, "after": 4}, {"name": "dog", "before": 6, "after": 7}]
    before, after = charts.classes_figure(rows, dark=True).data
    assert (tuple(before.x), tuple(after.x)) == ((5, 6), (4, 7))


def test_curves_show_loss_and_accuracy() -> None:
    curve = [{"epoch": 1, "loss": 2.0, "accuracy": 0.25}, {"epoch": 2, "loss": 1.0, "accuracy": 0.5}]
    loss, accuracy = charts.training_figure(curve, dark=False).data
    assert (tuple(loss.y), tuple(accuracy.y), tuple(loss.x)) == ((2.0, 1.0), (25.0, 50.0), (1, 2))
    assert len(charts.training_figure([], dark=True).data) == 2


SQUARE = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]


@pytest.mark.parametrize(
    "sent",
    [
        None, "", 5, {}, [], SQUARE[:2], [*SQUARE, [1.0]], [*SQUARE, [1.0, 2.0, 3.0]], [*SQUARE, ["1", "2"]],
        [*SQUARE, [float("nan"), 0.0]], [*SQUARE, [float("inf"), 0.0]], [*SQUARE, [1e7, 0.0]], [*SQUARE, [True, False]],
        [*SQUARE, None], [[0.0, 0.0]] * (polygon.MOST + 1),
    ],
)  # fmt: skip
def test_what_is_no_outline_is_none(sent: object) -> None:
    assert polygon.checked(sent) is None


def test_an_outline_is_taken() -> None:
    assert polygon.checked([[0, 0], [1, 0], [1, 1]]) == [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]
    assert polygon.checked([[0.0, 0.0]] * polygon.MOST) is not None


def test_an_outline_of_few_corners_stays_what_it_is() -> None:
    along = [[x / 100, 0.0] for x in range(101)]
    assert polygon.shortened([*along, [1.0, 1.0], [0.0, 1.0]]) == [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]


@pytest.mark.parametrize("corners", [3, 61, 500, 2000])
def test_a_long_outline_is_shortened_to_nearly_the_same(corners: int) -> None:
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    wave = 1 + 0.2 * np.sin(7 * angle)
    outline = np.c_[wave * np.cos(angle), wave * np.sin(angle)].tolist()
    short = polygon.shortened(outline)
    assert 3 <= len(short) <= polygon.CORNERS
    assert _area(short) == pytest.approx(_area(outline), rel=0.02)


@pytest.mark.parametrize("outline", [[[1.0, 1.0]] * 5, [[0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [1.0, 1.0]]])
def test_an_outline_without_an_area_stays_one(outline: list[list[float]]) -> None:
    assert polygon.checked(polygon.shortened(outline)) is not None


def _area(outline: list[list[float]]) -> float:
    x, y = np.array(outline).T
    return float(abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2)


def test_an_address_holds_an_outline() -> None:
    short = polygon.shortened([[-12.3456789, 0.00012345], [3.0, 4.5], [100000.0, -7.25]])
    lasso = Lasso("features", "0a1b2c", short)
    assert polygon.read(polygon.written(lasso)) == lasso
    longest = Lasso("gradients", "ffffff", [[-12.345, -12.345]] * polygon.CORNERS)
    assert len(polygon.written(longest)) < 1_000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "g",
        "g-",
        "x-0a1b2c_0,0_1,0_1,1",
        "g-0a1b2c_0,0_1,0",
        "g-0a1b2c_0,0_1,0_1",
        "g-0a1b2c_0,0_1,nan_1,1",
        "g-0a1b2c_<b>",
        "_",
        "g_0,0_1,0_1,1",
        "g-0a1b2_0,0_1,0_1,1",
        "g-0a1b2cd_0,0_1,0_1,1",
        "g-0A1B2C_0,0_1,0_1,1",
        "g_1,2_3",
    ],
)
def test_an_address_that_cannot_be_read_is_none(text: str) -> None:
    assert polygon.read(text) is None


CLASSES = ("cat", "dog", "a.b|,")
SCORES = ("loss", "oga_l1")


def asked(**query: str) -> tuple[View, list[str]]:
    return View.from_query(query, CLASSES, SCORES, ("gradients", "features"), "5%")


def test_an_empty_address_asks_for_the_gradients_by_suspicion() -> None:
    assert asked() == (View("gradients", "suspicion", "suspicion", "5%", "train", ()), [])


def test_an_address_asks_for_a_view() -> None:
    view, said = asked(space="features", colour="suggested", score="oga_l1", budget="12", split="all", stand="2.0")
    assert view == View("features", "suggested", "oga_l1", "12", "all", ("a.b|,", "cat"))
    assert (view.label, said) == ("suggested_label", [])


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("space", "moon", "map 'moon'"), ("colour", "<b>", "colour '<b>'"), ("score", "x", "score 'x'"),
        ("budget", "-1", "budget"), ("budget", "200%", "budget"), ("split", "val", "split 'val'"),
        ("stand", "9", "classes"), ("stand", "x", "classes"), ("stand", "1..1", "classes"),
    ],
)  # fmt: skip
def test_what_an_address_asks_in_vain_is_said_and_passed_over(key: str, value: str, words: str) -> None:
    view, said = asked(**{key: value})
    assert len(said) == 1
    assert words in said[0]
    assert view in (asked()[0], View("gradients", classes=("dog",)))


def test_places_of_classes_come_back() -> None:
    assert asked(stand=places(["dog", "a.b|,"], CLASSES))[0].classes == ("dog", "a.b|,")


def test_budgets_are_in_order_and_distinct_and_hold_the_one_asked_for() -> None:
    found = budgets(1000, "37", "5%")
    assert list(found) == ["0.5%", "1%", "2%", "3%", "37", "5%", "7.5%", "10%", "15%", "20%", "30%", "50%"]
    assert (found["37"], found["5%"], found["0.5%"]) == ("37 images", "50 images (5 %)", "5 images (0.5 %)")
    assert list(budgets(10, "5%", "5%")) == ["5%", "15%", "30%", "50%"]
    assert len(set(budgets(10, "5%", "5%").values())) == len(budgets(10, "5%", "5%"))


def test_a_ranking_that_is_none_of_the_usual_can_still_be_chosen() -> None:
    every = ("loss", "oga_l1", "oga_l2", "oga_forest")
    assert rankings("loss", every) == ("suspicion", "oga_forest", "oga_l1", "oga_l2", "loss")
    assert rankings("oga_l1", every) == rankings("suspicion", every)
    assert rankings("suspicion", ("oga_l1",)) == ("suspicion", "oga_l1")  # what the run has


def difference(name: str, against: str, value: float, unit: str = "points", ends: float | None = 1.0) -> dict[str, Any]:
    low, high = (None, None) if ends is None else (value - ends, value + 2 * ends)
    return {"name": name, "unit": unit, "against": against, "value": value, "low": low, "high": high, "told": HOSTILE}


def test_differences_stand_on_the_lines_of_their_intervals() -> None:
    rows = [difference("all", "given", 2.0), difference("worst", "given", -3.0), difference("all", "random", 0.5),
            difference("loss", "given", 0.1, "nats", None)]  # fmt: skip
    figure = charts.differences_figure(rows, dark=False)
    points, random, nats = (each for each in figure.data if len(each.x))
    assert (points.name, tuple(points.x), tuple(points.error_x.array), tuple(points.error_x.arrayminus)) == (
        "given", (2.0, -3.0), (2.0, 2.0), (1.0, 1.0)
    )  # fmt: skip
    assert (tuple(random.x), tuple(nats.x), tuple(nats.error_x.array)) == ((0.5,), (0.1,), (0.0,))
    assert points.y[0] < random.y[0] < points.y[1], "two lines of one measure stand together"
    low, high = figure.layout.xaxis.range
    assert low < -4.0
    assert high > 4.0, "zero and every end are on the axis"
    assert figure.layout.xaxis2.range[0] < 0 < 0.1 < figure.layout.xaxis2.range[1]
    assert figure.layout.yaxis.ticktext == ("all", "worst")
    assert len([each for each in figure.layout.shapes if each.x0 == each.x1 == 0]) == 2
    assert points.marker.color != random.marker.color
    assert points.marker.symbol != random.marker.symbol


def test_one_series_needs_no_legend() -> None:
    assert not charts.differences_figure([difference("all", "given", 2.0)], dark=True).layout.showlegend
    assert charts.differences_figure([], dark=True).data == ()


def test_values_stand_before_and_after_and_who_pays_has_a_colour() -> None:
    fell = {"after": 0.25, "value": -25.0, "low": -30.0, "high": -10.0, "pays": True}
    rose = {"after": 0.75, "value": 25.0, "low": 5.0, "high": 30.0, "pays": False}
    rows = [{"name": name, "before": 0.5, "told": "x", **each} for name, each in ((HOSTILE, fell), ("dog", rose))]
    line, before, after, *differences = charts.values_figure(rows, dark=False).data
    assert tuple(line.x) == (50.0, 25.0, None, 50.0, 75.0, None)
    assert (tuple(before.x), tuple(after.x)) == ((50.0, 50.0), (25.0, 75.0))
    assert [(tuple(each.x), tuple(each.y)) for each in differences] == [((-25.0,), (0,)), ((25.0,), (1,))]
    assert differences[0].error_x.color == charts.LIGHT.decisions["exclude"] != differences[1].error_x.color
    assert charts.values_figure(rows, dark=False).layout.yaxis.ticktext[0].startswith("&lt;b&gt;")
    assert charts.values_figure([], dark=True).layout.height > 0


def test_each_arm_has_its_line_in_every_picture() -> None:
    lines = [
        {"name": name, "random": name == "random", "mean": [1.0, 2.0], "low": [0.5, 1.5], "high": [1.5, 2.5]}
        for name in (HOSTILE, "random")
    ]
    figure = charts.learning_figure({"Accuracy": lines, "Loss": lines[:1]}, dark=True)
    drawn = [each for each in figure.data if each.fill is None]
    assert [(each.line.dash, tuple(each.x)) for each in drawn] == [
        ("solid", (1, 2)), ("dash", (1, 2)), ("solid", (1, 2))
    ]  # fmt: skip
    assert drawn[0].line.color == drawn[2].line.color != drawn[1].line.color
    assert [each.showlegend for each in drawn] == [True, True, False]
    bands = [each for each in figure.data if each.fill == "toself"]
    assert tuple(bands[0].y) == (1.5, 2.5, 1.5, 0.5)
    assert "<b>" not in json.dumps(figure.to_plotly_json(), default=str)
    assert charts.learning_figure({}, dark=True).data == ()
