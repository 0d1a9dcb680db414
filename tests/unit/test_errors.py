"""The error tree: as drawn, caught by its base, and stopped apart from mistakes."""

import re

import pytest

from core import errors
from core.progress import Event, Progress

RAISED = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]


def test_the_drawing_holds_the_whole_tree() -> None:
    drawn = re.findall(r"[├└]── (\w+)", errors.__doc__ or "")
    assert sorted(drawn) == sorted(kind.__name__ for kind in RAISED if kind is not errors.GradSiftError)


@pytest.mark.parametrize("kind", RAISED)
def test_one_base_catches_all(kind: type[Exception]) -> None:
    assert issubclass(kind, errors.GradSiftError)
    assert kind.__doc__


@pytest.mark.parametrize("kind", [errors.InputError, errors.SettingsError, errors.DecisionError])
def test_what_a_caller_got_wrong_is_a_value_error_too(kind: type[Exception]) -> None:
    assert issubclass(kind, ValueError)


def test_progress_tells_first_and_stops_then() -> None:
    heard: list[Event] = []
    progress = Progress(heard.append, lambda: len(heard) == 2)
    progress.report("training", 64, 12_000, "images", loss=1.5)
    with pytest.raises(errors.Stopped, match=r"training at 1,280 of 12,000 images. Run the same command to go on"):
        progress.report("training", 1280, 12_000, "images")
    assert heard[0] == Event("training", 64, 12_000, "images", {"loss": 1.5})
    assert len(heard) == 2


def test_nobody_listening_and_nobody_stopping() -> None:
    Progress().report("training", 1, 2, "images")
