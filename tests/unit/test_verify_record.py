"""The record of a verification: what goes to disk comes back, and nothing half-written is read."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.errors import InputError, ProjectError
from core.verify.record import Verification, latest, place, stored
from tests.fake_verification import fake_quick, fake_verification


@pytest.fixture(params=["quick", "full"])
def made(request: pytest.FixtureRequest) -> Verification:
    return fake_quick(k=4, scored=True) if request.param == "quick" else fake_verification(scored=True)


def test_what_is_saved_comes_back(made: Verification, tmp_path: Path) -> None:
    folder = place(tmp_path / "verify", made)
    assert folder.name == f"20260301T120000-{made.form}"
    made.save(folder)
    back = Verification.load(folder)
    assert (back.names, back.arms, back.seeds, back.classes) == (made.names, made.arms, made.seeds, made.classes)
    assert (back.groups, back.group_sizes, back.decisions) == (made.groups, made.group_sizes, made.decisions)
    assert (back.test.ids, back.test.noise, back.test.note) == (made.test.ids, made.test.noise, made.test.note)
    np.testing.assert_array_equal(back.test.labels, made.test.labels)
    for one, other in zip(back.outcomes, made.outcomes, strict=True):
        assert (one.name, one.title, one.control_of, one.counts) == (
            other.name, other.title, other.control_of, other.counts,
        )  # fmt: skip
        assert one.changed_per == other.changed_per
        np.testing.assert_array_equal(one.predicted, other.predicted)
        np.testing.assert_allclose(one.given_prob, other.given_prob, rtol=1e-6)
        assert list(one.curves) == list(other.curves)
        for name, curve in one.curves.items():
            np.testing.assert_allclose(curve, other.curves[name], rtol=1e-6)


def test_nothing_else_is_left(tmp_path: Path) -> None:
    fake_verification().save(tmp_path / "verify" / "x")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["outcomes.npz", "verification.json", "verify", "x"]


def test_names_of_arms_may_hold_anything(tmp_path: Path) -> None:
    made = fake_verification()
    named = replace(made, outcomes=(made.outcomes[0], replace(made.outcomes[1], name="file:../ä/x\ny.csv")))
    named.save(tmp_path / "x")
    assert Verification.load(tmp_path / "x").arms == ("file:../ä/x\ny.csv",)


def test_it_is_written_over_nothing(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(ProjectError, match="exists already"):
        fake_verification().save(tmp_path / "x")


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ProjectError, match="cannot be written.*nothing was left there"):
        fake_verification().save(tmp_path / "file" / "x")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_newest_is_found(tmp_path: Path) -> None:
    root = tmp_path / "verify"
    assert stored(root) == []
    assert latest(root) is None
    for made_at, form in (("2026-03-01T12:00:00", "quick"), ("2026-03-02T09:00:00", "full")):
        for effect in (0.1, 0.2):  # two in one second
            made = fake_verification(form=form, made_at=made_at, effect=effect)
            made.save(place(root, made))
    (root / ".20260401T000000-quick.part").mkdir()
    (root / "notes").mkdir()
    names = [path.name for path in stored(root)]
    assert names == [
        "20260302T090000-2-full", "20260302T090000-full", "20260301T120000-2-quick", "20260301T120000-quick",
    ]  # fmt: skip
    quick = latest(root, "quick")
    assert quick is not None
    assert quick.form == "quick"
    np.testing.assert_array_equal(
        quick.outcome("decided").predicted, fake_verification(form="quick", effect=0.2).outcome("decided").predicted
    )


@pytest.mark.parametrize("name", ["verification.json", "outcomes.npz"])
@pytest.mark.parametrize("damage", ["gone", "empty", "half", "other"])
def test_a_damaged_one_is_named(name: str, damage: str, tmp_path: Path) -> None:
    made = fake_verification()
    folder = place(tmp_path, made)
    made.save(folder)
    whole = (folder / name).read_bytes()
    (folder / name).unlink()
    if damage != "gone":
        (folder / name).write_bytes({"empty": b"", "half": whole[: len(whole) // 2], "other": b"[1]"}[damage])
    with pytest.raises(ProjectError, match=rf"{folder.name} cannot be read.*Delete that folder and verify again"):
        latest(tmp_path)


def test_another_format_is_told(tmp_path: Path) -> None:
    fake_verification().save(tmp_path / "x")
    path = tmp_path / "x" / "verification.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(ProjectError, match="of format 99, this version reads 1"):
        Verification.load(tmp_path / "x")


def test_parts_have_to_belong_together() -> None:
    made = fake_verification()
    with pytest.raises(InputError, match="its form is 'slow'"):
        replace(made, form="slow")
    with pytest.raises(InputError, match="its first arm is not 'given'"):
        replace(made, outcomes=made.outcomes[1:])
    with pytest.raises(InputError, match="two of its arms have one name"):
        replace(made, outcomes=(*made.outcomes, made.outcomes[1]))
    with pytest.raises(InputError, match="lack the grouping 'class'"):
        replace(made, groups={})
    with pytest.raises(InputError, match="60 test rows were named, and its parts have 59, 60"):
        replace(made, groups={"class": made.groups["class"][1:]})
    one = made.outcomes[1]
    fewer = replace(one, predicted=one.predicted[:2], given_prob=one.given_prob[:2], curves={})
    with pytest.raises(InputError, match="differ in their number of trainings: 2, 3"):
        replace(made, outcomes=(made.outcomes[0], fewer))


def test_arms_and_controls_by_name() -> None:
    made = fake_verification(scored=True)
    assert made.arms == ("decided", "remove:oga_l2:30")
    control = made.control("decided")
    assert control is not None
    assert control.name == "random for decided"
    assert made.control("random for decided") is None
    assert made.outcome("decided").changes == 30
    with pytest.raises(InputError, match=r"no arm 'other' in this verification. Choose from given, decided"):
        made.outcome("other")
