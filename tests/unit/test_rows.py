"""Rows that are worked out when asked for, against the matrix they stand for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.gradients.rows import LazyRows, blocks, by_blocks


def doubled(matrix: np.ndarray, asked: list[int]) -> LazyRows:
    def work(rows: object) -> np.ndarray:
        asked.append(len(matrix[rows]))
        return 2 * matrix[rows]

    return LazyRows(matrix.shape, matrix.dtype, work)


@pytest.mark.parametrize(
    "rows", [slice(2, 5), slice(None), np.array([4, 0, 4]), np.arange(7) % 2 == 0, 3, np.int64(-1)]
)
def test_rows_are_those_of_the_matrix(rows: object) -> None:
    matrix = np.arange(21.0).reshape(7, 3)
    np.testing.assert_array_equal(doubled(matrix, [])[rows], 2 * matrix[rows])


def test_it_looks_like_an_array_and_works_out_the_whole_in_blocks() -> None:
    matrix, asked = np.arange(40_000, dtype=np.float32).reshape(20_000, 2), []
    lazy = doubled(matrix, asked)
    assert (len(lazy), lazy.shape, lazy.dtype, lazy.ndim) == (20_000, (20_000, 2), np.float32, 2)
    assert asked == []
    np.testing.assert_array_equal(np.asarray(lazy), 2 * matrix)
    assert asked == [16_384, 3_616]
    assert np.asarray(lazy, dtype=np.float64).dtype == np.float64


def test_another_type_is_worked_out_when_asked_for_too() -> None:
    matrix, asked = np.full((4, 2), 1 / 3), []
    short = doubled(matrix, asked).astype(np.float32)
    assert (short.dtype, asked) == (np.float32, [])
    np.testing.assert_array_equal(short[1:3], (2 * matrix[1:3]).astype(np.float32))
    assert short[1:3].dtype == np.asarray(short).dtype == np.float32


def test_what_it_cannot_do_is_refused() -> None:
    lazy = doubled(np.ones((3, 2)), [])
    with pytest.raises(TypeError, match="Take the rows first"):
        lazy[0, 1]
    with pytest.raises(ValueError, match="nothing to share"):
        np.asarray(lazy, copy=False)


@given(st.integers(0, 50), st.integers(1, 20))
def test_blocks_cover_every_row_once(n: int, size: int) -> None:
    covered = [row for rows in blocks(n, size) for row in range(n)[rows]]
    assert covered == list(range(n))
    assert all(len(range(n)[rows]) <= size for rows in blocks(n, size))


@given(st.integers(0, 30), st.integers(1, 7))
def test_a_number_per_row_does_not_depend_on_the_blocks(n: int, size: int) -> None:
    matrix, factor = np.arange(3.0 * n).reshape(n, 3), np.arange(n)
    found = by_blocks(lambda some, by: some.sum(1) * by, doubled(matrix, []), factor, size=size)
    np.testing.assert_array_equal(found, 2 * matrix.sum(1) * factor)
