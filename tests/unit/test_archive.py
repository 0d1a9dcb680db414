"""`zip:FILE`: what is listed, what is read, and what an archive may not do."""

import io
import stat
import struct
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from core.data.manifest import Manifest
from core.data.sources import Contained, SourceOptions, open_source
from core.data.sources.base import open_file
from core.errors import InputError


def png(value: int = 0) -> bytes:
    target = io.BytesIO()
    Image.new("L", (4, 4), value).save(target, format="PNG")
    return target.getvalue()


def packed(path: Path, entries: dict[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> str:
    with zipfile.ZipFile(path, "w", method) as archive:
        for entry, data in entries.items():
            archive.writestr(entry, data)
    return f"zip:{path}"


def labels(spec: str, **options) -> dict[str, tuple]:
    frame = open_source(spec, SourceOptions(**options)).rows().frame
    return {row.sample_id: (row.given_label, row.split) for row in frame.itertuples()}


def reasons(spec: str) -> dict[str, str]:
    problems = open_source(spec).rows().problems
    return dict(zip(problems["sample_id"], problems["reason"], strict=True))


def unpacked(spec: str, folder: Path) -> str:
    with zipfile.ZipFile(spec.removeprefix("zip:")) as archive:
        archive.extractall(folder)
    return f"folder:{folder}"


LAYOUTS = {
    "classes": {"cat/1.png": png(1), "dog/deep/2.JPG": png(2), "loose.png": png(3), "notes.txt": b"x"},
    "splits": {
        "train/cat/1.png": png(1), "train/dog/1.png": png(5), "val/cat/2.png": png(2), "test/dog/3.png": png(3),
        "extra/x/1.png": png(4),
    },
    "metadata": {
        "a/1.png": png(1), "b/1.png": png(2), "metadata.csv": b"file_name,label\nb/1.png,dog\n./a/1.png,cat\n",
    },
    "metadata in splits": {
        "train/1.png": png(1), "train/2.png": png(3), "train/metadata.csv": b"file_name,label\n1.png,a\n2.png,b\n",
        "test/1.png": png(2), "test/metadata.jsonl": b'{"file_name": "1.png", "label": "b"}\n',
    },
    "a class called train": {"train/1.png": png(1), "bus/1.png": png(2)},
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_an_archive_is_read_as_the_folder_that_it_unpacks_to(tmp_path: Path, name: str) -> None:
    spec = packed(tmp_path / "x.zip", LAYOUTS[name])
    folder = unpacked(spec, tmp_path / "unpacked")
    assert labels(spec) == labels(folder)
    assert reasons(spec) == reasons(folder)
    ids = list(labels(spec))
    assert dict(open_source(spec).read(ids)) == dict(open_source(folder).read(ids))
    assert Manifest.read(spec, val_fraction=0, classes=None).digest() == Manifest.read(folder, val_fraction=0).digest()


def test_one_folder_around_everything_is_no_class(tmp_path: Path) -> None:
    around = {f"pets/{name}": data for name, data in LAYOUTS["classes"].items()}
    spec = packed(tmp_path / "pets.zip", {**around, "__MACOSX/pets/._1.png": b"x", "pets/.DS_Store": b"x"})
    assert labels(spec) == {"cat/1.png": ("cat", None), "dog/deep/2.JPG": ("dog", None), "loose.png": (None, None)}
    assert reasons(spec) == {"notes.txt": "not an image file"}
    one_class = packed(tmp_path / "cat.zip", {"cat/1.png": png(), "cat/2.png": png()})
    assert labels(one_class) == {"cat/1.png": ("cat", None), "cat/2.png": ("cat", None)}


def linked(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (mode | 0o777) << 16
    return info


def test_what_an_archive_may_not_do(tmp_path: Path) -> None:
    spec = packed(tmp_path / "bad.zip", {
        "cat/1.png": png(),
        "../climb.png": png(),
        "cat/../../climb.png": png(),
        "/etc/absolute.png": png(),
        "C:\\windows.png": png(),
        "..\\back.png": png(),
        linked("cat/link.png", stat.S_IFLNK): b"/etc/passwd",
        linked("cat/pipe.png", stat.S_IFIFO): b"",
        "cat/bomb.png": b"\0" * (20 * 2**20),
    })  # fmt: skip
    assert set(labels(spec)) == {"cat/1.png"}
    found = reasons(spec)
    assert found.pop("cat/bomb.png").startswith("the entry unpacks to 1,0")
    climbs = ("../climb.png", "cat/../../climb.png", "/etc/absolute.png")
    assert {name: found[name] for name in climbs} == dict.fromkeys(climbs, "an entry that climbs out of the archive")
    assert sum(reason == "an entry that climbs out of the archive" for reason in found.values()) == 5
    assert found["cat/link.png"] == "a link; put the image itself into the archive"
    assert found["cat/pipe.png"] == "not a regular file (a pipe, socket or device)"
    read = dict(open_source(spec).read(["../climb.png", "cat/link.png"]))
    assert {str(error) for error in read.values()} == {"no such image in the archive"}
    assert [path.name for path in tmp_path.iterdir()] == ["bad.zip"]


def test_an_entry_larger_than_any_image_is_refused_by_what_it_says(tmp_path: Path) -> None:
    path = tmp_path / "big.zip"
    packed(path, {"cat/1.png": png(), "cat/2.png": png()})
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x01\x02")  # the central directory's entry of the second
    data[at + 24 : at + 28] = struct.pack("<I", 2**31)
    path.write_bytes(data)
    assert reasons(f"zip:{path}") == {"cat/2.png": "the entry holds 2,048 MiB; 256 is the limit"}


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_packings_are_refused(tmp_path: Path, method: int) -> None:
    spec = packed(tmp_path / "x.zip", {"cat/1.png": png()}, method)
    assert reasons(spec) == {"cat/1.png": "packed in another way than deflate; pack the archive anew"}


def test_an_encrypted_entry_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    packed(path, {"cat/1.png": png()})
    data = bytearray(path.read_bytes())
    for sign, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(sign) + place] |= 1
    path.write_bytes(data)
    assert reasons(f"zip:{path}") == {"cat/1.png": "encrypted; pack it without a password"}


def test_a_name_that_comes_twice_and_a_damaged_entry(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("cat/1.png", png(1))
        archive.writestr("dog/1.png", png(3))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("cat/1.png", png(2))
    data = path.read_bytes()
    path.write_bytes(data.replace(png(3), png(3)[::-1], 1))
    assert reasons(f"zip:{path}") == {"cat/1.png": "a name that comes twice; the first is kept"}
    read = dict(open_source(f"zip:{path}").read(["cat/1.png", "dog/1.png"]))
    assert read["cat/1.png"] == png(1)
    assert str(read["dog/1.png"]) == "the entry is cut short or damaged"


def test_archives_that_cannot_be_used(tmp_path: Path) -> None:
    packed(tmp_path / "x.zip", {"cat/1.png": png(), "metadata.csv": b"name\n1\n"})
    whole = (tmp_path / "x.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.zip").write_bytes(b"hello")
    packed(tmp_path / "two.zip", {"metadata.csv": b"file_name\n", "metadata.jsonl": b"", "cat/1.png": png()})
    packed(tmp_path / "plain.zip", {"cat/1.png": png()})
    expected = {
        "": "The source zip needs a file",
        "gone.zip": "gone.zip cannot be read: no such file",
        ".": "a folder, not a file",
        "cut.zip": "is no whole zip file .cut short or damaged.",
        "text.zip": "is no whole zip file",
        "x.zip": r"x.zip/metadata.csv has no column file_name; its columns are name",
        "two.zip": "holds both metadata.csv and metadata.jsonl",
    }
    for name, message in expected.items():
        with pytest.raises(InputError, match=message):
            open_source(f"zip:{tmp_path / name}" if name else "zip:").rows()
    with pytest.raises(InputError, match="no metadata.csv, so it has no columns"):
        open_source(f"zip:{tmp_path / 'plain.zip'}", SourceOptions(label_column="x")).rows()


def test_columns_of_the_metadata_travel_along(tmp_path: Path) -> None:
    table = b"file_name,label,annotator\n1.png,a,7\n2.png,b,\n"
    spec = packed(tmp_path / "x.zip", {"1.png": png(), "2.png": png(), "metadata.csv": table})
    frame = open_source(spec, SourceOptions(meta_columns=["annotator"])).rows().frame
    assert frame["meta_annotator"].tolist() == ["7", None]


def test_every_byte_goes_through_the_opener(tmp_path: Path, monkeypatch) -> None:
    spec = packed(tmp_path / "x.zip", {"cat/1.png": png()})
    opened: list[str] = []

    def opener(path: str):
        opened.append(path)
        return open_file(path)

    source = open_source(spec)
    assert isinstance(source, Contained)
    assert dict(source.opened_with(opener).read(["cat/1.png"])) == {"cat/1.png": png()}
    assert set(opened) == {str(tmp_path / "x.zip")}
    monkeypatch.setenv("GRADSIFT_ROOTS", str(tmp_path / "elsewhere"))
    with pytest.raises(InputError, match="outside the folders this app may read"):
        open_source(spec)
