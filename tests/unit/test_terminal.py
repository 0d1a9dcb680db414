"""Progress and tables for people."""

import io

import pytest

from core import terminal
from core.progress import Event
from core.terminal import Narrator, describe, duration, table


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0.0 s"), (0.44, "0.4 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min 00 s"),
     (185, "3 min 05 s"), (3599.4, "59 min 59 s"), (3599.6, "1 h 00 min"), (7800, "2 h 10 min"),
     (90_000, "25 h 00 min")],
)  # fmt: skip
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_an_event_says_share_rate_and_time_left() -> None:
    said = describe(Event("training", 3000, 12_000, "images"), seconds=10, done=2000)
    assert said == "training         3,000 of 12,000 images · 200/s · 45 s left"
    assert describe(Event("forest", 1, 3, "forests"), 2, 1) == "forest           1 of 3 forests · 0.5/s · 4.0 s left"


def test_a_finished_stage_says_what_it_took() -> None:
    assert describe(Event("forest", 3, 3, "forests"), 2, 3).endswith("1.5/s · took 2.0 s")


def test_no_rate_is_said_before_it_settles_or_without_progress() -> None:
    assert describe(Event("map", 1, 2, "maps"), 0.1, 1) == "map              1 of 2 maps"
    assert describe(Event("map", 0, 2, "maps"), 60, 0) == "map              0 of 2 maps"


def test_training_says_epoch_loss_and_accuracy() -> None:
    figures = {"epoch": 2, "epochs": 20, "loss": 1.23456, "accuracy": 0.5}
    said = describe(Event("training", 1, 2, "images", figures), 0, 0)
    assert said.endswith("epoch 2 of 20 · loss 1.235, accuracy on given labels 50.0%")


class Clock:
    """A clock that a test sets."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(terminal, "time", made)
    return made


def test_on_a_pipe_lines_are_few_and_whole(clock: Clock) -> None:
    stream = io.StringIO()
    narrator = Narrator.on(stream)
    for done in range(1, 101):
        clock.now += 0.25
        narrator(Event("training", done, 100, "images"))
    narrator.close()
    lines = stream.getvalue().splitlines()
    assert 3 <= len(lines) <= 5  # the first, one every ten of 25 seconds, the last
    assert "\x1b" not in stream.getvalue()
    assert "100 of 100" in lines[-1]


def test_on_a_terminal_one_line_moves_and_each_stage_ends_it(clock: Clock) -> None:
    stream = io.StringIO()
    stream.isatty = lambda: True  # type: ignore[method-assign]
    narrator = Narrator.on(stream)
    for stage in ("pixels", "training"):
        for done in range(1, 11):
            clock.now += 0.2
            narrator(Event(stage, done, 10, "images"))
    narrator.close()
    narrator.close()
    assert stream.getvalue().count("\n") == 2
    assert stream.getvalue().count("\r") == 20


def test_the_rate_of_a_resumed_stage_counts_from_where_it_resumed(clock: Clock) -> None:
    stream = io.StringIO()
    narrator = Narrator(stream, False)
    narrator(Event("training", 900, 1000, "images"))
    clock.now += 20
    narrator(Event("training", 1000, 1000, "images"))
    assert "5.0/s" in stream.getvalue()


def test_a_table_is_laid_out_and_obeys_nothing() -> None:
    rows: list[dict[str, object]] = [
        {"a": "x\ny\x1b[31m\t", "b": 1.25}, {"a": None, "b": 12}, {"a": "<img src=x onerror=1>", "b": "=cmd()"},
    ]  # fmt: skip
    assert table(rows, {"a": "first", "b": "second"}).splitlines() == [
        "first                  second",
        r"x\ny\x1b[31m\t         1.2",
        "                       12",
        "<img src=x onerror=1>  =cmd()",
    ]


def test_a_table_without_rows_is_its_headings() -> None:
    assert table([], {"a": "first", "b": "second"}) == "first  second"
