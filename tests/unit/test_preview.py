"""What a source holds before a project is made: the same rows that the project would have, and nothing from outside."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from core.data.manifest import Manifest
from core.data.sources import SOURCES
from core.errors import InputError, ModelError, SettingsError
from core.models.specs import MODELS
from core.preview import (
    MODEL_FIELDS,
    SOURCE_FIELDS,
    Preview,
    downloads,
    model_kinds,
    model_of,
    preview,
    sample_images,
    settings_of,
    spec_of,
)
from core.roots import OUTSIDE, Roots
from tests.helpers import drawn, drawn_folder


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    (tmp_path / "root").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/secret.png").write_bytes(drawn(0, 99))
    return Roots.parse([f"{tmp_path}/root"])


def table(roots: Roots, rows: list[tuple[str, str]], name: str = "t.csv") -> str:
    pd.DataFrame(rows, columns=["filepath", "label"]).to_csv(roots.folders[0] / name, index=False)
    return f"table:{name}"


def test_a_preview_says_what_the_project_would_hold(roots: Roots) -> None:
    root = roots.folders[0]
    drawn_folder(root / "images", 30)
    (root / "images/left/notes.txt").write_text("no image")
    found = preview("folder:images", roots)
    manifest = Manifest.read(f"folder:{root}/images")
    assert found.spec == manifest.source.spec
    assert found.images == len(manifest) == 30
    assert [(each["name"], each["count"]) for each in found.classes] == [("left", 15), ("top", 15)]
    assert found.splits == manifest.rows["split"].value_counts().to_dict()
    assert found.problems == 1
    assert found.problem_rows[0]["sample_id"] == "left/notes.txt"
    assert found.problem_rows[0]["reason"] == "not an image file"


def test_samples_are_six_of_each_class_and_the_same_each_time(roots: Roots) -> None:
    drawn_folder(roots.folders[0] / "images", 30)
    (roots.folders[0] / "images/rare").mkdir()
    (roots.folders[0] / "images/rare/1.png").write_bytes(drawn(0, 1))
    found = preview("folder:images", roots)
    assert [len(each["samples"]) for each in found.classes] == [6, 1, 6]
    assert all(name.startswith(f"{each['name']}/") for each in found.classes for name in each["samples"])
    assert preview("folder:images", roots).classes == found.classes
    images = sample_images(found, per_class=2)
    assert list(images) == [name for each in found.classes for name in each["samples"][:2]]
    name = next(iter(images))
    np.testing.assert_array_equal(
        np.asarray(Image.open(io.BytesIO(images[name])).convert("RGB")),
        np.asarray(Image.open(roots.folders[0] / "images" / name)),
    )


def test_a_sample_that_cannot_be_read_is_left_out(roots: Roots) -> None:
    drawn_folder(roots.folders[0] / "images", 8)
    (roots.folders[0] / "images/left/000.png").write_bytes(b"broken")
    found = preview("folder:images", roots)
    assert found.images == 8
    assert set(sample_images(found)) == {name for each in found.classes for name in each["samples"]} - {"left/000.png"}


def test_built_in_data_needs_no_path(roots: Roots) -> None:
    found = preview("digits", roots)
    assert (found.images, len(found.classes)) == (1797, 10)
    assert len(sample_images(found, per_class=1)) == 10


def test_labels_and_classes_come_from_files_in_the_roots(roots: Roots, tmp_path: Path) -> None:
    root = roots.folders[0]
    spec = table(roots, [(f"{row}.png", str(row % 2)) for row in range(8)])
    for row in range(8):
        (root / f"{row}.png").write_bytes(drawn(row % 2, row))
    pd.DataFrame({"sample_id": [f"{row}.png" for row in range(8)], "mine": [row // 4 for row in range(8)]}).to_csv(
        root / "labels.csv", index=False
    )
    (root / "classes.txt").write_text("cat\ndog\n")
    found = preview(spec, roots, labels="labels.csv:mine", classes="classes.txt")
    assert [(each["name"], each["count"]) for each in found.classes] == [("cat", 4), ("dog", 4)]
    for name in ("labels.csv", "classes.txt"):
        (root / name).rename(tmp_path / "out" / name)
        (root / name).symlink_to(tmp_path / "out" / name)
    for named in ({"labels": "labels.csv:mine"}, {"classes": "classes.txt"}, {"labels": f"{tmp_path}/out/labels.csv"},
                  {"classes": "../out/classes.txt"}):  # fmt: skip
        with pytest.raises(InputError, match=OUTSIDE):
            preview(spec, roots, **named)
    with pytest.raises(InputError, match=r"class file none.txt cannot be read: no such file"):
        preview(spec, roots, classes="none.txt")


def test_columns_are_chosen_by_name_and_empty_ones_left_out(roots: Roots) -> None:
    root = roots.folders[0]
    for row in range(6):
        (root / f"{row}.png").write_bytes(drawn(row % 2, row))
    rows = {"where": [f"{row}.png" for row in range(6)], "what": ["a", "b"] * 3, "label": ["same"] * 6}
    pd.DataFrame(rows).to_csv(root / "t.csv", index=False)
    columns = {"path_column": "where", "label_column": "what", "id_column": "", "seed": "7", "other": "x"}
    found = preview("table:t.csv", roots, columns)
    assert [each["name"] for each in found.classes] == ["a", "b"]
    with pytest.raises(InputError, match=r"'nowhere' is not there"):
        preview("table:t.csv", roots, {**columns, "path_column": "nowhere"})


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("folder:none", "does not exist"),
        ("folder:", "needs a path"),
        ("folder", "needs a path"),
        ("rar:x", "Unknown source"),
        ("", "Unknown source"),
        ("digits:x", "takes nothing after it"),
        ("table:empty.csv", "is empty"),
        ("folder:one", "training images of 1 class"),
        ("folder:empty", "no usable image"),
    ],
)
def test_what_cannot_be_used_is_told(spec: str, words: str, roots: Roots) -> None:
    root = roots.folders[0]
    (root / "empty.csv").write_text("")
    (root / "empty").mkdir()
    (root / "one/a").mkdir(parents=True)
    for row in range(3):
        (root / f"one/a/{row}.png").write_bytes(drawn(0, row))
    with pytest.raises(InputError, match=words):
        preview(spec, roots)


def test_a_held_out_share_out_of_range_is_told(roots: Roots) -> None:
    with pytest.raises(SettingsError, match="held-out share is 1.5"):
        preview("digits", roots, val_fraction=1.5)


@pytest.mark.parametrize(
    "spec",
    ["folder:{0}/out", "folder:../out", "folder:link", "folder:/", "folder:~", "folder:~root", "folder:/proc/self/cwd",
     "table:{0}/out/t.csv", "table:../out/t.csv", "table:link/t.csv", "table:linked.csv", "table:/dev/zero",
     "table:/proc/self/environ", "folder:file://{0}/out", "table:t.csv\0", "folder:{0}/root/../out",
     "folder:link/../out"],
)  # fmt: skip
def test_a_source_outside_the_roots_is_refused(
    spec: str, roots: Roots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "out"))
    drawn_folder(tmp_path / "out", 8)
    (tmp_path / "out/t.csv").write_text("filepath,label\nleft/000.png,a\ntop/001.png,b\n")
    (roots.folders[0] / "link").symlink_to(tmp_path / "out")
    (roots.folders[0] / "linked.csv").symlink_to(tmp_path / "out/t.csv")
    with pytest.raises(InputError):
        preview(spec.format(tmp_path), roots)


@pytest.mark.parametrize("path", ["{0}/out/secret.png", "{0}/root/../out/secret.png", "{0}/root/link.png",
                                  "{0}/root/linked/secret.png", "/proc/self/root{0}/out/secret.png"])  # fmt: skip
def test_a_table_that_names_a_file_outside_is_refused(path: str, roots: Roots, tmp_path: Path) -> None:
    root = roots.folders[0]
    (root / "link.png").symlink_to(tmp_path / "out/secret.png")
    (root / "linked").symlink_to(tmp_path / "out")
    for row in range(4):
        (root / f"{row}.png").write_bytes(drawn(row % 2, row))
    spec = table(roots, [(f"{row}.png", "ab"[row % 2]) for row in range(4)] + [(path.format(tmp_path), "a")])
    with pytest.raises(InputError, match=r"1 of 5 images lie outside the folders"):
        preview(spec, roots)


@pytest.mark.parametrize(
    "path", ["../out/secret.png", "../out/absent.png", "{0}/out/absent.png", "/dev/zero", "{0}/out"]
)
def test_a_problem_does_not_tell_whether_there_is_a_file_outside(path: str, roots: Roots, tmp_path: Path) -> None:
    for row in range(4):
        (roots.folders[0] / f"{row}.png").write_bytes(drawn(row % 2, row))
    spec = table(roots, [(f"{row}.png", "ab"[row % 2]) for row in range(4)] + [(path.format(tmp_path), "a")])
    found = preview(spec, roots)
    assert (found.images, found.problems) == (4, 1)
    assert found.problem_rows[0]["reason"] == OUTSIDE


def test_many_problems_are_counted_and_the_first_shown(roots: Roots) -> None:
    for row in range(4):
        (roots.folders[0] / f"{row}.png").write_bytes(drawn(row % 2, row))
    spec = table(roots, [(f"{row}.png", "ab"[row % 2]) for row in range(204)])
    found = preview(spec, roots)
    assert (found.images, found.problems, len(found.problem_rows)) == (4, 200, 50)
    assert isinstance(found, Preview)


def test_every_kind_of_source_has_its_fields() -> None:
    assert {kind.name for kind in SOURCES} <= set(SOURCE_FIELDS)
    for kind, fields in SOURCE_FIELDS.items():
        keys = [each.key for each in fields]
        assert len(set(keys)) == len(keys)
        required = [each.key for each in fields if each.required]
        assert required == ([] if not fields else ["name", "path"] if kind == "torchvision" else ["path"])
        assert all(each.label and each.help for each in fields), kind


def test_every_kind_of_model_has_just_its_fields() -> None:
    assert set(MODEL_FIELDS) == set(MODELS)
    for name, fields in MODEL_FIELDS.items():
        kind, keys = MODELS[name], [each.key for each in fields]
        assert keys == ["name"] * kind.named + ["weights"] * (kind.weights != "none"), name
        assert all(each.required for each in fields if each.key == "name" or kind.weights == "must")
        assert all(each.label and each.help for each in fields)
    assert "code" not in model_kinds(code=False)
    assert set(model_kinds(code=True)) == set(MODELS)


@pytest.mark.parametrize(
    ("kind", "values", "spec"),
    [
        ("reference", {}, "reference"),
        ("torchvision", {"name": "resnet18", "weights": "w.pt"}, "torchvision:resnet18@{root}/w.pt"),
        ("torchvision", {"name": "resnet18", "weights": "DEFAULT"}, "torchvision:resnet18@DEFAULT"),
        ("train", {"name": "resnet18"}, "train:resnet18"),
        ("train", {"name": " resnet18 ", "weights": " w.pt"}, "train:resnet18@{root}/w.pt"),
        ("code", {"name": "net.py:make", "weights": "w.pt"}, "code:{root}/net.py:make@{root}/w.pt"),
        ("features", {"weights": "f.npz"}, "features:{root}/f.npz"),
        ("dynamics", {"weights": "runs"}, "dynamics:{root}/runs"),
        ("recorded", {}, "recorded"),
    ],
)
def test_a_model_that_was_filled_in(kind: str, values: dict[str, str], spec: str, roots: Roots) -> None:
    root = roots.folders[0]
    (root / "runs").mkdir()
    for name in ("w.pt", "net.py", "f.npz"):
        (root / name).write_bytes(b"x")
    assert model_of(kind, values, roots) == spec.format(root=root)


@pytest.mark.parametrize(
    ("kind", "values", "words"),
    [
        ("torchvision", {"name": "resnet18"}, "names no weights"),
        ("torchvision", {"name": "resnet18", "weights": "none.pt"}, "none.pt cannot be read: no such file"),
        ("torchvision", {"name": "resnet18", "weights": "/etc/passwd"}, "outside the folders"),
        ("features", {"weights": "../f.npz"}, "outside the folders"),
        ("code", {"name": "/etc/x.py:make"}, "outside the folders"),
        ("code", {"name": "net.py"}, "is not of the form"),
    ],
)
def test_a_model_that_cannot_be_used(kind: str, values: dict[str, str], words: str, roots: Roots) -> None:
    with pytest.raises((InputError, ModelError), match=words):
        model_of(kind, values, roots)


def test_which_settings_a_model_has_and_what_it_downloads() -> None:
    assert settings_of("reference") == ("backbone", "models", "grand")
    assert settings_of("torchvision:resnet18@w.pt")[:4] == ("reference", "checkpoints", "layer", "transform")
    assert settings_of("dynamics:x")[0] == "reference"
    assert downloads("reference", "timm:vit@DEFAULT")
    assert not downloads("torchvision:resnet18@w.pt", None)


def test_columns_that_travel_along(roots: Roots) -> None:
    for row in range(4):
        (roots.folders[0] / f"{row}.png").write_bytes(drawn(row % 2, row))
    lines = "".join(f"{row}.png,{'ab'[row % 2]},ann\n" for row in range(4))
    (roots.folders[0] / "t.csv").write_text(f"path,label,who\n{lines}")
    assert preview("table:t.csv", roots, {"meta_columns": " who, "}).images == 4
    with pytest.raises(InputError, match="camera"):
        preview("table:t.csv", roots, {"meta_columns": "who,camera"})


def test_specs_of_sources() -> None:
    assert spec_of("folder", {"path": "pets"}) == "folder:pets"
    assert spec_of("torchvision", {"name": "CIFAR10", "path": "data"}) == "torchvision:CIFAR10@data"
    assert spec_of("folder", {"path": ""}) == "folder"
