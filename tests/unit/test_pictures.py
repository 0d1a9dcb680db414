"""Thumbnails and originals of a project: made in the background, and nothing from outside the roots."""

import base64
import io
import json
import os
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from core import pictures as module
from core.data.manifest import Manifest
from core.data.sources import open_source
from core.data.thumbs import Thumbs
from core.errors import InputError
from core.pictures import Guarded, Pictures, data_url
from core.project import Project
from core.roots import OUTSIDE, Roots
from tests.helpers import drawn, drawn_folder, unchecked


def opened(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def exact(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def made(folder: Path, spec: str) -> Project:
    return Project.create(folder, Manifest.read(spec))


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A root, and a secret image beside it."""
    (tmp_path / "root").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/secret.png").write_bytes(drawn(0, 99))
    (tmp_path / "secret.png").write_bytes(drawn(0, 99))
    return tmp_path


@pytest.fixture
def folder_project(world: Path) -> Project:
    drawn_folder(world / "root/images", 12)
    return made(world / "root/project", f"folder:{world}/root/images")


def roots_of(world: Path) -> Roots:
    return Roots.parse([f"{world}/root"])


def with_paths(project: Project, changes: dict[str, str]) -> Project:
    """Write other file names into a project's manifest, as somebody could who sends a project around."""
    path = project.folder / "manifest.parquet"
    rows = pd.read_parquet(path)
    rows["filepath"] = [
        changes.get(sample, old) for sample, old in zip(rows["sample_id"], rows["filepath"], strict=True)
    ]
    rows.to_parquet(path, index=False)
    return Project.open(project.folder)


# --- what is shown ---


def test_thumbnails_and_originals_of_a_folder(folder_project: Project, world: Path) -> None:
    pictures = Pictures(folder_project, roots_of(world))
    assert pictures.ready == 0.0
    assert pictures.thumbs(["left/000.png"]) == {"left/000.png": None}
    pictures.ensure(background=False)
    assert pictures.ready == 1.0
    found = pictures.thumbs(["left/000.png", "top/003.png", "nobody", "../../secret.png"])
    assert list(found) == ["left/000.png", "top/003.png", "nobody", "../../secret.png"]
    assert (found["nobody"], found["../../secret.png"]) == (None, None)
    np.testing.assert_array_equal(opened(found["left/000.png"] or b""), exact(drawn(0, 0)))
    np.testing.assert_array_equal(opened(pictures.original("top/003.png")), exact(drawn(1, 3)))
    assert (folder_project.folder / "thumbs").is_dir()


def test_an_original_is_shrunk_to_the_side_asked_for(world: Path) -> None:
    for name in ("a/1.png", "b/1.png"):
        path = world / "root/images" / name
        path.parent.mkdir(parents=True)
        Image.new("RGB", (3000, 1500), "teal").save(path)
    pictures = Pictures(made(world / "root/p", f"folder:{world}/root/images"), roots_of(world))
    assert opened(pictures.original("a/1.png")).shape == (512, 1024, 3)
    assert opened(pictures.original("a/1.png", 300)).shape == (150, 300, 3)


@pytest.mark.parametrize("spec", ["digits"])
def test_built_in_images_have_no_file_and_are_shown(spec: str, world: Path) -> None:
    manifest = Manifest.read(spec, limit=20)
    project = Project.create(world / "root/p", manifest)
    pictures = Pictures(project, roots_of(world))
    pictures.ensure(background=False)
    first = str(manifest.ids[0])
    assert opened(pictures.thumbs([first])[first] or b"").shape == (8, 8, 3)
    assert opened(pictures.original(first)).shape == (8, 8, 3)


def embedded(path: Path, cells: list[dict[str, object]], group_rows: int = 3) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(cells, kind), "label": [f"c{row % 2}" for row in range(len(cells))]})
    pq.write_table(table, path, row_group_size=group_rows)
    return path


def test_images_inside_a_parquet_file_are_shown(world: Path) -> None:
    file = embedded(world / "root/t.parquet", [{"bytes": drawn(row % 2, row), "path": None} for row in range(10)])
    pictures = Pictures(made(world / "root/p", f"table:{file}"), roots_of(world))
    pictures.ensure(background=False)
    for row in (0, 4, 9):
        name = f"{row:08d}"
        np.testing.assert_array_equal(opened(pictures.thumbs([name])[name] or b""), exact(drawn(row % 2, row)))
        np.testing.assert_array_equal(opened(pictures.original(name)), exact(drawn(row % 2, row)))


def test_an_image_file_that_a_parquet_cell_names_beside_it_is_shown(world: Path) -> None:
    (world / "root/data").mkdir()
    (world / "root/data/1.png").write_bytes(drawn(1, 1))
    cells: list[dict[str, object]] = [{"bytes": drawn(0, 0), "path": None}, {"bytes": None, "path": "1.png"}] * 2
    cells = [{**cell, "path": cell["path"]} for cell in cells]
    file = embedded(world / "root/data/t.parquet", cells)
    pictures = Pictures(made(world / "root/p", f"table:{file}"), roots_of(world))
    np.testing.assert_array_equal(opened(pictures.original("00000001")), exact(drawn(1, 1)))


def test_an_export_shows_the_images_of_the_source_it_came_from(world: Path) -> None:
    original = embedded(world / "root/t.parquet", [{"bytes": drawn(row % 2, row), "path": None} for row in range(8)])
    export = exported(world / "root/export", f"table:{original}", [f"{row:08d}" for row in range(8)])
    pictures = Pictures(made(world / "root/p", f"table:{export}"), roots_of(world))
    np.testing.assert_array_equal(opened(pictures.original("00000005")), exact(drawn(1, 5)))


def exported(folder: Path, spec: str, ids: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rows = {"sample_id": ids, "filepath": [None] * len(ids), "split": "train",
            "label": [f"c{row % 2}" for row in range(len(ids))]}  # fmt: skip
    pd.DataFrame(rows).to_csv(folder / "cleaned.csv", index=False)
    (folder / "run.json").write_text(json.dumps({"tool": "gradsift", "source": {"spec": spec, "options": {}}}))
    return folder / "cleaned.csv"


# --- what is gone or changed ---


def test_an_image_that_changed_is_not_shown(folder_project: Project, world: Path) -> None:
    pictures = Pictures(folder_project, roots_of(world))
    (world / "root/images/left/000.png").write_bytes(drawn(0, 50))
    with pytest.raises(InputError, match=r"left/000.png is not the image it was"):
        pictures.original("left/000.png")
    pictures.ensure(background=False)
    assert pictures.thumbs(["left/000.png", "left/002.png"])["left/000.png"] is None


def test_of_a_source_that_is_gone_the_thumbnails_stay(folder_project: Project, world: Path) -> None:
    Pictures(folder_project, roots_of(world)).ensure(background=False)
    (world / "root/images").rename(world / "root/elsewhere")
    pictures = Pictures(Project.open(folder_project.folder), roots_of(world))
    assert opened(pictures.thumbs(["left/000.png"])["left/000.png"] or b"").shape == (12, 12, 3)
    with pytest.raises(InputError, match=r"^The image left/000.png cannot be shown: no such file$"):
        pictures.original("left/000.png")


def test_of_a_table_that_is_gone_the_thumbnails_stay(world: Path) -> None:
    file = embedded(world / "root/t.parquet", [{"bytes": drawn(row % 2, row), "path": None} for row in range(6)])
    project = made(world / "root/p", f"table:{file}")
    Pictures(project, roots_of(world)).ensure(background=False)
    file.unlink()
    pictures = Pictures(Project.open(project.folder), roots_of(world))
    assert pictures.thumbs(["00000000"])["00000000"] is not None
    with pytest.raises(InputError, match=r"cannot be shown: The table .*no such file"):
        pictures.original("00000000")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" * 50])
def test_a_damaged_table_is_told(content: bytes, world: Path) -> None:
    file = embedded(world / "root/t.parquet", [{"bytes": drawn(row % 2, row), "path": None} for row in range(6)])
    project = made(world / "root/p", f"table:{file}")
    pictures = Pictures(project, roots_of(world))
    file.write_bytes(content)
    with pytest.raises(InputError, match="cannot be shown"):
        pictures.original("00000000")


@pytest.mark.parametrize(
    "name", ["", "nobody", "../../secret.png", "/etc/passwd", "left/000.png\0", "left/../left/000.png"]
)
def test_a_sample_that_is_not_in_the_project_is_told(name: str, folder_project: Project, world: Path) -> None:
    with pytest.raises(InputError, match="There is no sample"):
        Pictures(folder_project, roots_of(world)).original(name)


# --- nothing from outside ---

# What a manifest's column filepath may say; {0} is the folder above the root.
FILEPATHS = {
    "absolute": "{0}/secret.png",
    "dots": "{0}/root/images/../../secret.png",
    "dots from a file": "{0}/root/images/left/000.png/../../../../secret.png",
    "relative": "../../secret.png",
    "link to a file": "{0}/root/link.png",
    "through a linked folder": "{0}/root/linked/secret.png",
    "dots after a link": "{0}/root/linked/../secret.png",
    "neighbour with the same beginning": "{0}/root-evil/secret.png",
    "zero byte": "{0}/secret.png\0.png",
    "home": "~/secret.png",
    "other's home": "~root/secret.png",
    "file address": "file://{0}/secret.png",
    "top through the process": "/proc/self/root{0}/secret.png",
    "process": "/proc/self/environ",
    "device": "/dev/zero",
    "upper case": "{0}/ROOT/images/left/000.png",
    "trailing dot": "{0}/secret.png.",
    "pipe": "{0}/root/pipe",
    "device through a link": "{0}/root/zero",
    "folder": "{0}/root/images",
}


@pytest.mark.parametrize("spelling", FILEPATHS.values(), ids=FILEPATHS.keys())
def test_no_file_name_in_a_manifest_leads_out(
    spelling: str, folder_project: Project, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(world))
    monkeypatch.chdir(world / "root/images")
    (world / "root-evil").mkdir()
    (world / "root-evil/secret.png").write_bytes(drawn(0, 99))
    (world / "root/link.png").symlink_to(world / "secret.png")
    (world / "root/linked").symlink_to(world / "out")
    (world / "root/zero").symlink_to("/dev/zero")
    os.mkfifo(world / "root/pipe")
    digest = pd.read_parquet(folder_project.folder / "manifest.parquet").set_index("sample_id")["sha256"]
    project = with_paths(folder_project, {"left/000.png": spelling.format(world)})
    pictures = Pictures(project, roots_of(world))
    assert len(digest) == 12
    with pytest.raises(InputError, match="cannot be shown"):
        pictures.original("left/000.png")
    pictures.ensure(background=False)
    found = pictures.thumbs(["left/000.png", "left/002.png"])
    assert found["left/000.png"] is None
    assert found["left/002.png"] is not None


def test_a_thumbnail_of_a_file_outside_is_not_served_even_from_a_pack(world: Path) -> None:
    """A run started in a terminal reads what its person may read; the app still shows only what lies in the roots."""
    drawn_folder(world / "out/images", 8)
    project = made(world / "root/p", f"folder:{world}/out/images")
    Pictures(project, Roots.parse([str(world)])).ensure(background=False)
    pictures = Pictures(project, roots_of(world))
    assert pictures.ready == 1.0
    assert set(pictures.thumbs(["left/000.png", "top/001.png"]).values()) == {None}
    assert pictures.refusal is not None
    assert OUTSIDE in pictures.refusal
    with pytest.raises(InputError, match=OUTSIDE):
        pictures.original("left/000.png")
    with pytest.raises(InputError, match=OUTSIDE):
        pictures.ensure(background=False)


# What a cell of a Parquet file may name instead of holding the image; {0} is the folder above the root.
CELLS = {
    "dots": "../secret.png",
    "two steps": "../../secret.png",
    "dots inside": "x/../../secret.png",
    "absolute": "{0}/secret.png",
    "absolute with dots": "{0}/root/../secret.png",
    "link": "link.png",
    "through a linked folder": "linked/secret.png",
    "zero byte": "../secret.png\0",
    "device": "/dev/zero",
    "process": "/proc/self/environ",
    "pipe": "pipe",
    "home": "~/secret.png",
    "file address": "file://{0}/secret.png",
    "current folder": ".",
    "no name": "",
}


@pytest.mark.parametrize("spelling", CELLS.values(), ids=CELLS.keys())
def test_no_name_in_a_parquet_cell_leads_out(spelling: str, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(world))
    (world / "root/link.png").symlink_to(world / "secret.png")
    (world / "root/linked").symlink_to(world / "out")
    os.mkfifo(world / "root/pipe")
    cells: list[dict[str, object]] = [{"bytes": drawn(row % 2, row), "path": None} for row in range(6)]
    file = embedded(world / "root/t.parquet", cells)
    project = made(world / "root/p", f"table:{file}")
    cells[2] = {"bytes": None, "path": spelling.format(world)}
    embedded(file, cells)
    pictures = Pictures(Project.open(project.folder), roots_of(world))
    with pytest.raises(InputError, match="cannot be shown"):
        pictures.original("00000002")
    read = dict(Guarded(open_source(f"table:{file}"), roots_of(world), {"00000002": ""}).read(["00000002"]))
    assert isinstance(read["00000002"], InputError)
    pictures.ensure(background=False)
    found = pictures.thumbs(["00000002", "00000003"])
    assert found["00000002"] is None
    assert found["00000003"] is not None


def test_a_cell_that_names_a_file_elsewhere_in_the_roots_by_dots_is_refused_too(world: Path) -> None:
    (world / "root/other").mkdir()
    (world / "root/other/1.png").write_bytes(drawn(0, 1))
    cells: list[dict[str, object]] = [{"bytes": None, "path": "../other/1.png"}, {"bytes": drawn(0, 0), "path": None}]
    file = embedded(world / "root/data/t.parquet", cells)
    read = dict(Guarded(open_source(f"table:{file}"), roots_of(world), {"00000000": ""}).read(["00000000"]))
    assert "leaves the table's folder" in str(read["00000000"])


@pytest.mark.parametrize("link", [False, True], ids=["named", "by a link"])
def test_a_table_outside_the_roots_is_not_read(link: bool, world: Path) -> None:
    file = embedded(world / "out/t.parquet", [{"bytes": drawn(row % 2, row), "path": None} for row in range(6)])
    if link:
        (world / "root/t.parquet").symlink_to(file)
        file = world / "root/t.parquet"
    project = made(world / "root/p", f"table:{file}")
    Pictures(project, Roots.parse([str(world)])).ensure(background=False)
    pictures = Pictures(project, roots_of(world))
    assert pictures.thumbs(["00000000"]) == {"00000000": None}
    with pytest.raises(InputError, match=OUTSIDE):
        pictures.original("00000000")
    with pytest.raises(InputError, match=OUTSIDE):
        pictures.ensure(background=False)


@pytest.mark.parametrize("kind", ["table", "folder", "chain", "link", "pipe"])
def test_an_export_does_not_lead_out(kind: str, world: Path) -> None:
    ids = [f"{row:08d}" for row in range(6)]
    cells: list[dict[str, object]] = [{"bytes": drawn(row % 2, row), "path": None} for row in range(6)]
    outside = embedded(world / "out/t.parquet", cells)
    inside = embedded(world / "root/t.parquet", cells)
    export = exported(world / "root/export", f"table:{inside}", ids)
    project = made(world / "root/p", f"table:{export}")
    run = world / "root/export/run.json"
    if kind == "table":
        exported(world / "root/export", f"table:{outside}", ids)
    elif kind == "folder":
        exported(world / "root/export", f"folder:{world}/out", ids)
    elif kind == "chain":
        further = exported(world / "root/further", f"table:{outside}", ids)
        exported(world / "root/export", f"table:{further}", ids)
    elif kind == "link":
        run.rename(world / "out/run.json")
        run.symlink_to(world / "out/run.json")
    else:
        run.unlink()
        os.mkfifo(run)
    with unchecked():  # the check of a protocol looks at every attribute, so it would wait for the pipe
        pictures = Pictures(project, roots_of(world))
        with pytest.raises(InputError, match="cannot be shown"):
            pictures.original("00000001")


def test_a_project_outside_the_roots_is_refused(world: Path) -> None:
    drawn_folder(world / "root/images", 8)
    project = made(world / "out/p", f"folder:{world}/root/images")
    with pytest.raises(InputError, match=OUTSIDE):
        Pictures(project, roots_of(world))
    (world / "root/p").symlink_to(world / "out/p")
    with pytest.raises(InputError, match=OUTSIDE):
        Pictures(Project.open(world / "root/p"), roots_of(world))


def test_a_folder_of_thumbnails_that_is_a_link_out_is_neither_read_nor_written(
    folder_project: Project, world: Path
) -> None:
    Pictures(folder_project, roots_of(world)).ensure(background=False)
    thumbs = folder_project.folder / "thumbs"
    thumbs.rename(world / "out/thumbs")
    thumbs.symlink_to(world / "out/thumbs")
    pictures = Pictures(folder_project, roots_of(world))
    assert pictures.thumbs(["left/000.png"]) == {"left/000.png": None}
    assert pictures.ready == 0.0
    with pytest.raises(InputError, match=OUTSIDE):
        pictures.ensure(background=False)


def test_a_pack_that_is_a_link_out_is_not_read(folder_project: Project, world: Path) -> None:
    pictures = Pictures(folder_project, roots_of(world))
    pictures.ensure(background=False)
    (pack,) = (folder_project.folder / "thumbs").glob("*.pack")
    pack.rename(world / "out/pack")
    pack.symlink_to(world / "out/pack")
    assert pictures.thumbs(["left/000.png"]) == {"left/000.png": None}


def test_an_image_swapped_for_a_link_between_check_and_opening_is_not_read(
    folder_project: Project, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, real = world / "root/images/left/000.png", os.path.realpath
    secret = world / "same.png"
    secret.write_bytes(image.read_bytes())  # even the digest would be right
    pictures = Pictures(folder_project, roots_of(world))

    def realpath(path, **named):
        found = real(path, **named)
        if not image.is_symlink():
            image.unlink()
            image.symlink_to(secret)
        return found

    monkeypatch.setattr(os.path, "realpath", realpath)
    with pytest.raises(InputError, match="cannot be shown"):
        pictures.original("left/000.png")
    assert image.is_symlink()


# --- in the background ---


def test_missing_packs_are_made_in_the_background_by_one_thread(folder_project: Project, world: Path) -> None:
    pictures = [Pictures(folder_project, roots_of(world)) for _ in range(4)]
    for each in pictures:
        each.ensure()
    assert sum(thread.name == "thumbnails" for thread in threading.enumerate()) <= 1
    assert pictures[0].wait(30)
    assert (pictures[3].ready, pictures[3].working, pictures[3].problem) == (1.0, False, None)
    before = module._works[pictures[0]._key]
    pictures[0].ensure()
    assert module._works[pictures[0]._key] is before  # nothing is missing, no thread was started


def test_what_went_wrong_in_the_background_is_told_and_tried_again_later(
    folder_project: Project, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (world / "root/images").rename(world / "root/away")
    pictures = Pictures(folder_project, roots_of(world))
    pictures.ensure()
    assert pictures.wait(30)
    assert "No image could be read" in (pictures.problem or "")
    (world / "root/away").rename(world / "root/images")
    pictures.ensure()  # too soon
    assert pictures.ready == 0.0
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)
    pictures.ensure()
    assert pictures.wait(30)
    assert (pictures.ready, pictures.problem) == (1.0, None)


def test_an_unforeseen_error_in_the_background_is_told(
    folder_project: Project, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_given: object) -> int:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(module, "make_thumbs", fail)
    pictures = Pictures(folder_project, roots_of(world))
    pictures.ensure()
    assert pictures.wait(30)
    assert pictures.problem == "The thumbnails could not be made (RuntimeError)."


def test_another_folder_may_hold_the_packs(folder_project: Project, world: Path) -> None:
    cache = world / "out/cache"
    pictures = Pictures(folder_project, roots_of(world), cache)
    pictures.ensure(background=False)
    assert pictures.thumbs(["left/000.png"])["left/000.png"] is not None
    assert not (folder_project.folder / "thumbs").exists()
    assert Thumbs(cache, folder_project.manifest().rows).missing == ()


# --- for the browser ---


@pytest.mark.parametrize(("kind", "named"), [("PNG", "png"), ("JPEG", "jpeg"), ("WEBP", "webp")])
def test_a_data_url_names_the_type_of_its_bytes(kind: str, named: str) -> None:
    target = io.BytesIO()
    Image.new("RGB", (2, 2)).save(target, kind)
    head, _, text = data_url(target.getvalue()).partition(",")
    assert head == f"data:image/{named};base64"
    assert base64.b64decode(text) == target.getvalue()


@pytest.mark.parametrize("data", [b"", b"<svg onload=alert(1)>", b"GIF89a", b"RIFF1234WAVE", b"<html>"])
def test_other_bytes_become_no_data_url(data: bytes) -> None:
    with pytest.raises(InputError):
        data_url(data)
