"""Settings are checked when they are made; the message names the setting, the value and the range."""

import dataclasses
import re
from typing import Any

import pytest

from core.errors import SettingsError
from core.settings import EXPLAINED, SiftSettings
from tests.helpers import unchecked


def test_the_defaults_hold_and_survive_a_round_trip() -> None:
    plain = SiftSettings().as_dict()
    assert SiftSettings.from_dict(plain) == SiftSettings()
    assert list(plain) == [field.name for field in dataclasses.fields(SiftSettings)]
    changed = SiftSettings(epochs=3, flip=False, image_size=32, maps=False, device="cpu", precision="float32", seed=9)
    assert SiftSettings.from_dict(changed.as_dict()) == changed
    assert changed != SiftSettings()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seed": -1}, "seed is -1; give a whole number from 0 to 9223372036854775807."),
        ({"seed": 1.5}, "seed is 1.5; give a whole number from 0"),
        ({"seed": "0"}, "seed is '0'"),
        ({"epochs": 0}, "epochs is 0; give a whole number from 1 to 10000."),
        ({"epochs": 2.0}, "epochs is 2.0; give a whole number"),
        ({"epochs": True}, "epochs is True"),
        ({"batch_size": 1}, "batch_size is 1; give a whole number from 2 to 65536."),
        ({"learning_rate": 0.0}, "learning_rate is 0.0; give a number from 1e-06 to 10."),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"weight_decay": 1.1}, "weight_decay is 1.1; give a number from 0 to 1."),
        ({"image_size": 7}, "image_size is 7; give a whole number from 8 to 512."),
        ({"trees": 0}, "trees is 0"),
        ({"neighbours": 0}, "neighbours is 0"),
        ({"device": "tpu"}, "device is 'tpu'; choose one of auto, cpu, cuda, mps."),
        ({"precision": "float64"}, "precision is 'float64'; choose one of auto, float32, bfloat16."),
        ({"augment": "no"}, "augment is 'no'; choose one of True, False."),
        ({"maps": "yes"}, "maps is 'yes'"),
        ({"flip": "never"}, "flip is 'never'; choose one of True, False, None."),
    ],
)
def test_values_outside_their_range(values: dict[str, Any], message: str) -> None:
    with unchecked(), pytest.raises(SettingsError, match=re.escape(message)):
        SiftSettings(**values)


@pytest.mark.parametrize(
    "values",
    [{"seed": 2**63 - 1}, {"epochs": 1}, {"batch_size": 2}, {"image_size": 8}, {"weight_decay": 0.0}, {"flip": None}],
)
def test_the_ends_of_a_range_are_inside(values: dict[str, Any]) -> None:
    assert SiftSettings(**values).as_dict() == SiftSettings().as_dict() | values


def test_an_unknown_name_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(SettingsError, match="Unknown setting 'epoch'; the settings are augment, .*epochs, "):
        SiftSettings.from_dict({"epoch": 3})


def test_settings_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        SiftSettings().seed = 1  # type: ignore[misc]


def test_every_setting_has_a_title_and_a_reason() -> None:
    assert list(EXPLAINED) == [field.name for field in dataclasses.fields(SiftSettings)]
    assert len({title for title, _ in EXPLAINED.values()}) == len(EXPLAINED)
    assert all(reason.endswith(".") and len(reason) < 120 for _, reason in EXPLAINED.values())
