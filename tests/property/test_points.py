"""The lasso against its slow twin, and what has to hold for any polygon."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from core.review.points import inside

whole = st.integers(-4, 4)  # few values, so that points often share a height with a corner
corner = st.tuples(whole, whole)
polygons = st.lists(corner, min_size=3, max_size=12)
clouds = st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), max_size=40)


def slow(point: tuple[float, float], polygon: list[tuple[int, int]]) -> bool:
    """Walk around the polygon and count the edges that a ray to the right crosses."""
    x, y = point
    crossed = 0
    for (x1, y1), (x2, y2) in zip(polygon, [*polygon[1:], polygon[0]], strict=True):
        if y1 > y2:
            x1, y1, x2, y2 = x2, y2, x1, y1
        if y1 <= y < y2 and x < x1 + (y - y1) / (y2 - y1) * (x2 - x1):
            crossed += 1
    return crossed % 2 == 1


def within(points: list[tuple[float, float]], polygon: list[tuple[int, int]]) -> list[bool]:
    return inside(np.array(points, dtype=np.float64).reshape(-1, 2), [list(each) for each in polygon]).tolist()


@given(clouds, polygons)
def test_it_is_what_a_walk_around_the_polygon_says(points: list[tuple[float, float]], polygon: list) -> None:
    assert within(points, polygon) == [slow(point, polygon) for point in points]


@given(st.lists(corner, max_size=40), polygons)
def test_so_it_is_on_edges_and_corners(points: list, polygon: list) -> None:
    points = [(float(x), float(y)) for x, y in points]
    assert within(points, polygon) == [slow(point, polygon) for point in points]


@given(clouds, polygons, st.integers(0, 11))
def test_where_the_line_begins_and_which_way_it_runs_does_not_matter(points: list, polygon: list, turn: int) -> None:
    turned = polygon[turn % len(polygon) :] + polygon[: turn % len(polygon)]
    assert within(points, polygon) == within(points, turned) == within(points, polygon[::-1])


@given(clouds, polygons, st.permutations(range(6)))
def test_a_point_does_not_depend_on_the_others(points: list, polygon: list, order: list[int]) -> None:
    points = (points + [(0.0, 0.0)] * 6)[:6]
    together = within(points, polygon)
    assert [together[i] for i in order] == within([points[i] for i in order], polygon)
    assert together == [within([point], polygon)[0] for point in points]


@settings(max_examples=50)
@given(st.lists(st.tuples(whole, whole), max_size=30), st.integers(-3, 3))
def test_of_two_halves_that_share_an_edge_exactly_one_holds_a_point(points: list, cut: int) -> None:
    points = [(float(x), float(y)) for x, y in points]
    left, right = [(-4, -4), (cut, -4), (cut, 4), (-4, 4)], [(4, 4), (cut, 4), (cut, -4), (4, -4)]
    both = [(-4, -4), (4, -4), (4, 4), (-4, 4)]
    parts = zip(within(points, left), within(points, right), within(points, both), strict=True)
    assert all(one + other == whole_one for one, other, whole_one in parts)
