"""Thumbnails: made once, packed, read by id; a damaged or hostile pack gives nothing and costs nothing."""

import hashlib
import io
import os
import struct
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from core.data import images as images_module
from core.data.images import shrink
from core.data.manifest import Manifest
from core.data.sources import MissingSource, SourceOptions
from core.data.thumbs import HEAD, MAGIC, PACK_ROWS, Thumbs, make_thumbs, thumb
from core.errors import InputError, ProjectError, SettingsError, Stopped
from core.progress import Progress


def encoded(pixels: np.ndarray, kind: str = "PNG", **options) -> bytes:
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, format=kind, **options)
    return target.getvalue()


def grey(value: int, side: int = 6) -> bytes:
    return encoded(np.full((side, side, 3), value, np.uint8))


def opened(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "WEBP"
        return np.asarray(image.convert("RGB"))


class Shelf:
    """A source of bytes held in memory, which counts what it is asked for."""

    spec, options, flip = "shelf", SourceOptions(), True

    def __init__(self, images: dict[str, bytes | InputError]) -> None:
        self.images, self.asked = images, 0

    def rows(self):
        raise NotImplementedError

    def read(self, ids):
        for name in ids:
            self.asked += 1
            if name in self.images:
                yield name, self.images[name]


def shelf(count: int, **changed: bytes | InputError) -> tuple[Manifest, Shelf]:
    images: dict[str, bytes | InputError] = {f"i{row:04d}": grey(row % 251) for row in range(count)}
    rows = pd.DataFrame(
        {
            "sample_id": list(images),
            "filepath": "",
            "split": "train",
            "given_label": "a",
            "sha256": [hashlib.sha256(data).hexdigest() for data in images.values()],
            "width": 6,
            "height": 6,
        }
    ).astype({"sample_id": object, "sha256": object})
    source = Shelf(images | changed)
    return Manifest(rows, ("a", "b"), source, pd.DataFrame()), source


# --- one image ---


@pytest.mark.parametrize(("size", "expected"), [((400, 200), (96, 48)), ((200, 400), (48, 96)), ((97, 97), (96, 96))])
def test_a_larger_image_is_shrunk_to_96_pixels(size: tuple[int, int], expected: tuple[int, int]) -> None:
    small = opened(thumb(encoded(np.full((size[1], size[0], 3), 90, np.uint8))))
    assert small.shape[1::-1] == expected
    assert abs(small.astype(int) - 90).max() <= 2


@pytest.mark.parametrize("size", [(1, 1), (32, 20), (96, 10)])
def test_a_smaller_image_keeps_its_size(size: tuple[int, int]) -> None:
    assert opened(thumb(encoded(np.zeros((size[1], size[0], 3), np.uint8)))).shape[1::-1] == size


def test_up_to_32_pixels_nothing_is_lost() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 31, 3), dtype=np.uint8)
    np.testing.assert_array_equal(opened(thumb(encoded(pixels))), pixels)
    larger = np.random.default_rng(0).integers(0, 256, (33, 33, 3), dtype=np.uint8)
    assert (opened(thumb(encoded(larger))) != larger).any()


@pytest.mark.parametrize("size", [(3000, 2), (2, 3000)])
def test_a_thin_image_keeps_at_least_one_pixel(size: tuple[int, int]) -> None:
    assert min(opened(thumb(encoded(np.zeros((size[1], size[0], 3), np.uint8)))).shape[:2]) == 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_upright(orientation: int) -> None:
    upright = np.zeros((160, 240, 3), np.uint8)
    upright[:80, :120] = 255  # bright at the top left
    stored = {1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
              5: upright.transpose(1, 0, 2), 6: np.rot90(upright), 7: upright[::-1, ::-1].transpose(1, 0, 2),
              8: np.rot90(upright, -1)}[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    small = opened(thumb(encoded(np.ascontiguousarray(stored), "JPEG", exif=exif)))
    assert small.shape == (64, 96, 3)
    assert small[10, 10, 0] > 200
    assert max(small[50, 10, 0], small[10, 80, 0], small[50, 80, 0]) < 60


def test_transparency_is_laid_on_white() -> None:
    clear = np.zeros((8, 8, 4), np.uint8)
    assert (opened(thumb(encoded(clear))) == 255).all()


def test_a_large_jpeg_is_read_at_an_eighth(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(np.full((3000, 4000, 3), 120, np.uint8), "JPEG")
    sizes = []
    real = images_module._upright

    def upright(image):
        sizes.append(image.size)
        return real(image)

    monkeypatch.setattr(images_module, "_upright", upright)
    assert opened(thumb(data)).shape == (72, 96, 3)
    assert sizes == [(500, 375)]


def test_shrinking_smooths() -> None:
    board = (np.indices((960, 960)).sum(axis=0) % 2 * 255).astype(np.uint8)
    assert abs(opened(thumb(encoded(board))).astype(int)[4:-4, 4:-4] - 127).max() <= 4


@pytest.mark.parametrize("longest", [0, -1, 16_384])
def test_a_side_that_webp_cannot_hold_is_refused(longest: int) -> None:
    with pytest.raises(SettingsError, match=rf"{longest}; give 1 to 16,383"):
        shrink(grey(1), longest)


@pytest.mark.parametrize("data", [b"", b"text", b"\x89PNG\r\n\x1a\nbroken"])
def test_what_is_no_image_is_told(data: bytes) -> None:
    with pytest.raises(InputError):
        thumb(data)


# --- packs ---


def test_every_thumbnail_comes_back_by_its_id(tmp_path: Path) -> None:
    manifest, _ = shelf(PACK_ROWS + 3)
    assert make_thumbs(manifest, tmp_path / "thumbs") == PACK_ROWS + 3
    found = Thumbs(tmp_path / "thumbs", manifest.rows).get(["i0514", "i0000", "i0511", "i0512", "nobody"])
    assert found.pop("nobody") is None
    assert {name: opened(data)[0, 0, 0] for name, data in found.items() if data} == {
        "i0514": 514 % 251, "i0000": 0, "i0511": 511 % 251, "i0512": 512 % 251,
    }  # fmt: skip
    assert len(list((tmp_path / "thumbs").iterdir())) == 2


def test_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    manifest, source = shelf(PACK_ROWS + 3)
    make_thumbs(manifest, tmp_path)
    source.asked = 0
    assert make_thumbs(manifest, tmp_path) == 0
    assert source.asked == 0
    (tmp_path / Thumbs(tmp_path, manifest.rows).name(1)).unlink()
    assert Thumbs(tmp_path, manifest.rows).missing == (1,)
    assert make_thumbs(manifest, tmp_path) == 3
    assert source.asked == 3


def test_other_data_never_hits_an_old_pack(tmp_path: Path) -> None:
    manifest, _ = shelf(4)
    make_thumbs(manifest, tmp_path)
    other = manifest.rows.copy()
    other.loc[2, "sha256"] = "0" * 64
    assert Thumbs(tmp_path, other).missing == (0,)
    assert Thumbs(tmp_path, other).get(["i0000"]) == {"i0000": None}
    renamed = manifest.rows.assign(sample_id=[f"j{row}" for row in range(4)])
    assert Thumbs(tmp_path, renamed).get(["j0"]) == {"j0": None}


def test_an_image_that_cannot_be_read_has_an_empty_entry(tmp_path: Path) -> None:
    manifest, _ = shelf(5, i0001=b"broken", i0002=InputError("gone"), i0003=grey(200))
    assert make_thumbs(manifest, tmp_path) == 2
    thumbs = Thumbs(tmp_path, manifest.rows)
    found = thumbs.get([f"i000{row}" for row in range(5)])
    assert [name for name, data in found.items() if data is None] == ["i0001", "i0002", "i0003"]  # i0003: other bytes
    assert thumbs.missing == ()


def test_a_pack_without_a_single_image_is_not_written(tmp_path: Path) -> None:
    manifest, source = shelf(3)
    kept = dict(source.images)
    source.images.clear()
    assert make_thumbs(manifest, tmp_path) == 0
    assert list(tmp_path.iterdir()) == []
    source.images.update(kept)
    assert make_thumbs(manifest, tmp_path) == 3


def test_a_source_that_is_gone_is_told(tmp_path: Path) -> None:
    manifest, _ = shelf(3)
    gone = Manifest(
        manifest.rows, manifest.classes, MissingSource("folder:/x", SourceOptions(), InputError("gone")),
        manifest.problems,
    )  # fmt: skip
    with pytest.raises(InputError, match="gone"):
        make_thumbs(gone, tmp_path)


def test_before_anything_is_made_there_is_nothing(tmp_path: Path) -> None:
    manifest, _ = shelf(PACK_ROWS * 2 + 1)
    thumbs = Thumbs(tmp_path / "none", manifest.rows)
    assert thumbs.missing == (0, 1, 2)
    assert thumbs.get(["i0000"]) == {"i0000": None}


def test_no_rows_need_no_packs(tmp_path: Path) -> None:
    manifest, _ = shelf(0)
    assert make_thumbs(manifest, tmp_path) == 0
    assert Thumbs(tmp_path, manifest.rows).missing == ()


def test_a_stop_keeps_the_finished_packs(tmp_path: Path) -> None:
    manifest, _ = shelf(PACK_ROWS * 4)
    progress = Progress(should_stop=lambda: any(tmp_path.glob("*.pack")))
    with pytest.raises(Stopped):
        make_thumbs(manifest, tmp_path, progress)
    left = Thumbs(tmp_path, manifest.rows).missing
    assert 0 < len(left) < 4
    assert all(not path.name.startswith(".") for path in tmp_path.iterdir())
    assert make_thumbs(manifest, tmp_path) == PACK_ROWS * len(left)


def test_progress_counts_the_images_that_are_missing(tmp_path: Path) -> None:
    manifest, _ = shelf(10)
    seen = []
    make_thumbs(manifest, tmp_path, Progress(listen=seen.append))
    assert {event.stage for event in seen} == {"making thumbnails"}
    assert (seen[-1].done, seen[-1].total, seen[-1].unit) == (10, 10, "images")


def test_two_writers_do_not_disturb_each_other(tmp_path: Path) -> None:
    manifest, _ = shelf(PACK_ROWS + 40)
    errors: list[BaseException] = []
    start = threading.Barrier(4)

    def work() -> None:
        try:
            start.wait()
            make_thumbs(manifest, tmp_path)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    thumbs = Thumbs(tmp_path, manifest.rows)
    assert thumbs.missing == ()
    assert None not in thumbs.get(list(manifest.ids)).values()
    assert len(list(tmp_path.iterdir())) == 2


def test_what_a_killed_writer_left_is_cleared_after_an_hour(tmp_path: Path) -> None:
    manifest, _ = shelf(2)
    old, young = tmp_path / ".a.pack.1.part", tmp_path / ".b.pack.2.part"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    make_thumbs(manifest, tmp_path)
    assert not old.exists()
    assert young.exists()


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    manifest, _ = shelf(2)
    (tmp_path / "file").write_text("")
    with pytest.raises(ProjectError, match=r"thumbnails in .*file cannot be written"):
        make_thumbs(manifest, tmp_path / "file")


# --- packs that lie ---


def forged(starts: list[int], tail: bytes, rows: int | None = None, magic: bytes = MAGIC) -> bytes:
    count = len(starts) - 1 if rows is None else rows
    return HEAD.pack(magic, count) + struct.pack(f"<{len(starts)}Q", *starts) + tail


FIRST = HEAD.size + 8 * 4  # of a pack of three rows
WEBP = b"RIFF\0\0\0\0WEBP"
HOSTILE = {
    "empty file": b"",
    "head alone": MAGIC,
    "other magic": forged([FIRST] * 4, b"", magic=b"GSTHUMB2"),
    "more rows than there are": forged([FIRST] * 4, b"", rows=4),
    "four thousand million rows": forged([FIRST] * 4, b"", rows=2**32 - 1),
    "table cut short": forged([FIRST] * 4, b"")[:-1],
    "length of an exabyte": forged([FIRST, FIRST, FIRST, 2**60], b""),
    "largest number": forged([FIRST, FIRST, FIRST, 2**64 - 1], b""),
    "past the end": forged([FIRST, FIRST, FIRST, FIRST + 100], WEBP),
    "bytes left over": forged([FIRST] * 4, WEBP),
    "backwards": forged([FIRST, FIRST + 12, FIRST, FIRST + 12], WEBP),
    "into the table": forged([0, FIRST, FIRST, FIRST], b""),
    "too long for a thumbnail": forged([FIRST, FIRST + 2**18 + 1] + [FIRST + 2**18 + 1] * 2, WEBP + bytes(2**18 - 11)),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_damaged_pack_gives_nothing_and_is_made_anew(content: bytes, tmp_path: Path) -> None:
    manifest, _ = shelf(3)
    path = tmp_path / Thumbs(tmp_path, manifest.rows).name(0)
    path.write_bytes(content)
    thumbs = Thumbs(tmp_path, manifest.rows)
    assert thumbs.get(["i0000", "i0001", "i0002"]) == dict.fromkeys(["i0000", "i0001", "i0002"])
    assert thumbs.missing == (0,)
    assert make_thumbs(manifest, tmp_path) == 3
    assert None not in thumbs.get(["i0000", "i0001", "i0002"]).values()


@pytest.mark.parametrize("data", [b"<svg onload=alert(1)>", b"<html>hello</html>", b"\x89PNG\r\n\x1a\n" + bytes(9)])
def test_only_webp_leaves_a_pack(data: bytes, tmp_path: Path) -> None:
    manifest, _ = shelf(3)
    end = FIRST + len(data)
    thumbs = Thumbs(tmp_path, manifest.rows)
    (tmp_path / thumbs.name(0)).write_bytes(forged([FIRST, end, end, end + 12], data + WEBP))
    assert thumbs.get(["i0000", "i0001", "i0002"]) == {"i0000": None, "i0001": None, "i0002": WEBP}


def test_a_pack_that_is_a_link_pipe_or_folder_is_no_pack(tmp_path: Path) -> None:
    manifest, _ = shelf(3)
    make_thumbs(manifest, tmp_path / "real")
    name = Thumbs(tmp_path, manifest.rows).name(0)
    for make in (lambda path: path.symlink_to(tmp_path / "real" / name), os.mkfifo, Path.mkdir):
        folder = tmp_path / "other"
        folder.mkdir(exist_ok=True)
        make(folder / name)
        thumbs = Thumbs(folder, manifest.rows)
        assert thumbs.get(["i0000"]) == {"i0000": None}
        assert thumbs.missing == (0,)
        (folder / name).rename(tmp_path / f"aside-{make}")


def test_a_pack_that_changes_under_an_open_reader_is_read_anew(tmp_path: Path) -> None:
    manifest, _ = shelf(3)
    make_thumbs(manifest, tmp_path)
    thumbs = Thumbs(tmp_path, manifest.rows)
    assert thumbs.get(["i0002"])["i0002"] is not None
    (tmp_path / thumbs.name(0)).write_bytes(forged([FIRST, FIRST, FIRST, FIRST + 12], WEBP))
    assert thumbs.get(["i0000", "i0002"]) == {"i0000": None, "i0002": WEBP}


def test_reading_a_few_of_a_million_rows_opens_only_their_packs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n = 1_000_000
    ids = np.char.add("s", np.arange(n).astype(str)).astype(object)
    rows = pd.DataFrame({"sample_id": ids, "sha256": "0" * 64})
    thumbs = Thumbs(tmp_path, rows)
    assert thumbs.packs == 1954
    assert thumbs.row("s999999") == n - 1
    asked: list[str] = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda *given, **named: (asked.append(str(given[0])), real(*given, **named))[1])
    assert thumbs.get(["s0", "s1", "s999999"]) == dict.fromkeys(["s0", "s1", "s999999"])
    assert asked == [str(tmp_path), thumbs.name(0), thumbs.name(1953)]
    assert len(thumbs._names) == 2  # no digest of another pack was worked out
