"""Every kind of image becomes RGB by the stated rule; everything else becomes one plain line."""

import io
import struct
import threading
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from core.data.images import decode, measure, read_pixels
from core.data.sources import SourceOptions, open_source
from core.errors import InputError, SettingsError, Stopped
from core.progress import Progress


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    target = io.BytesIO()
    image.save(target, format=kind, **options)
    return target.getvalue()


def pixel(image: Image.Image, kind: str = "PNG", **options) -> list[int]:
    return decode(encoded(image, kind, **options))[0, 0].tolist()


def palette(transparency: int | None = None) -> bytes:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    return encoded(image) if transparency is None else encoded(image, transparency=transparency)


def test_rgb_is_kept_bit_for_bit() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    decoded = decode(encoded(Image.fromarray(pixels)))
    np.testing.assert_array_equal(decoded, pixels)
    assert decoded.flags.writeable


@pytest.mark.parametrize(
    ("image", "kind", "expected"),
    [
        (Image.new("L", (2, 2), 77), "PNG", [77, 77, 77]),
        (Image.new("1", (2, 2), 1), "PNG", [255, 255, 255]),
        (Image.new("LA", (2, 2), (0, 0)), "PNG", [255, 255, 255]),
        (Image.new("LA", (2, 2), (100, 255)), "PNG", [100, 100, 100]),
        (Image.new("RGBA", (2, 2), (255, 0, 0, 0)), "PNG", [255, 255, 255]),
        (Image.new("RGBA", (2, 2), (0, 0, 0, 51)), "PNG", [204, 204, 204]),  # 20 % black on white
        (Image.new("CMYK", (2, 2), (0, 255, 255, 0)), "TIFF", [255, 0, 0]),
        (Image.fromarray(np.full((2, 2), 257 * 100, np.uint16)), "PNG", [100, 100, 100]),
        (Image.fromarray(np.full((2, 2), 65535, np.uint16)), "PNG", [255, 255, 255]),
        (Image.fromarray(np.full((2, 2), 257 * 9, np.int32)), "TIFF", [9, 9, 9]),
        (Image.fromarray(np.full((2, 2), -5, np.int32)), "TIFF", [0, 0, 0]),
        (Image.fromarray(np.full((2, 2), 10**6, np.int32)), "TIFF", [255, 255, 255]),
        (Image.fromarray(np.full((2, 2), 0.2, np.float32)), "TIFF", [51, 51, 51]),
        (Image.fromarray(np.full((2, 2), 180.0, np.float32)), "TIFF", [180, 180, 180]),
        (Image.fromarray(np.full((2, 2), 900.0, np.float32)), "TIFF", [255, 255, 255]),
        (Image.fromarray(np.full((2, 2), np.nan, np.float32)), "TIFF", [0, 0, 0]),
    ],
    ids=lambda value: f"{value.mode}" if isinstance(value, Image.Image) else str(value),
)
def test_colours_become_rgb_by_the_stated_rule(image: Image.Image, kind: str, expected: list[int]) -> None:
    assert pixel(image, kind) == expected


def test_a_palette_is_looked_up_and_its_clear_colour_is_white() -> None:
    assert decode(palette())[0].tolist() == [[10, 20, 30], [200, 100, 50]]
    assert decode(palette(transparency=0))[0].tolist() == [[255, 255, 255], [200, 100, 50]]


def test_a_clear_colour_without_a_palette_is_white() -> None:
    image = Image.new("RGB", (2, 1), (1, 2, 3))
    image.putpixel((1, 0), (9, 9, 9))
    assert decode(encoded(image, transparency=(1, 2, 3)))[0].tolist() == [[255, 255, 255], [9, 9, 9]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_applied(orientation: int) -> None:
    upright = np.zeros((2, 3, 3), np.uint8)
    upright[0, 0], upright[0, 2] = (255, 0, 0), (0, 255, 0)
    # How a camera held that way stores the picture: EXIF 2.3, tag 274.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(np.ascontiguousarray(stored)), exif=exif)
    np.testing.assert_array_equal(decode(data), upright)
    assert (measure(data).width, measure(data).height) == (3, 2)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow says so too
def test_damaged_camera_notes_do_not_spoil_a_picture() -> None:
    data = encoded(Image.new("RGB", (4, 4), (0, 0, 255)), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert decode(data).shape == (4, 4, 3)


def test_of_an_animation_the_first_frame_counts() -> None:
    frames = [Image.new("RGB", (3, 3), colour) for colour in ("red", "blue")]
    assert pixel(frames[0], "GIF", save_all=True, append_images=frames[1:]) == [255, 0, 0]


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_shrinking_smooths_and_squashes(kind: str) -> None:
    board = np.indices((96, 192)).sum(axis=0) % 2 * 255
    small = decode(encoded(Image.fromarray(board.astype(np.uint8)), kind), side=8)
    assert small.shape == (8, 8, 3)
    assert abs(small[1:-1, 1:-1].astype(int) - 127).max() <= 3  # a sampled checkerboard would be black and white


def test_growing_keeps_a_flat_colour() -> None:
    grown = decode(encoded(Image.new("RGB", (1, 2), (10, 20, 30))), side=16)
    assert grown.shape == (16, 16, 3)
    assert (grown == [10, 20, 30]).all()


def test_an_extreme_shape_can_be_squashed() -> None:
    assert decode(encoded(Image.new("L", (5000, 1), 9)), side=4).shape == (4, 4, 3)


def test_the_side_is_checked() -> None:
    with pytest.raises(SettingsError, match="side of an image is 0"):
        decode(palette(), side=0)


def png_header(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    begun = struct.pack(">I", 10) + b"IDAT"
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body)) + begun


NOISE = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)))
JPEG = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)), "JPEG")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"this is only text\n", "text, not an image"),
        ("größer".encode() * 200, "text, not an image"),
        (b"<!DOCTYPE html><html></html>", "a web page, not an image"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "a vector drawing"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "text, not an image"),
        (bytes(range(128, 256)) * 4, "not an image in a format"),
        (NOISE[: len(NOISE) // 2], "cut short or damaged"),
        (NOISE[:20], "cut short or damaged"),
        (JPEG[: len(JPEG) // 2], "cut short or damaged"),
        (NOISE[:200] + bytes(200) + NOISE[400:], "cut short or damaged"),
        (png_header(8_001, 8_000), "larger than 64 million pixels"),
        (png_header(10_000, 10_000), "larger than 64 million pixels"),
        (png_header(60_000, 60_000), "larger than 64 million pixels"),
        (png_header(0, 5), ""),
    ],
)
@pytest.mark.parametrize("function", [decode, measure])
def test_what_is_no_image_says_so_in_one_plain_line(function, data: bytes, reason: str) -> None:
    with pytest.raises(InputError) as caught:
        function(data)
    assert reason in str(caught.value)
    assert "0x" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_decoding_leaves_the_library_as_it_was() -> None:
    from PIL import ImageFile

    before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
    decode(NOISE, side=8)
    with pytest.raises(InputError):
        decode(png_header(60_000, 60_000))
    assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)


class Endless:
    """A source that counts how many images were taken from it and never holds any."""

    spec, flip, options = "endless", True, SourceOptions()

    def __init__(self) -> None:
        self.taken = 0

    def rows(self):
        raise NotImplementedError

    def read(self, ids):
        for sample_id in ids:
            self.taken += 1
            yield sample_id, NOISE if sample_id != "bad" else InputError("gone")


def test_many_images_keep_their_ids_and_their_errors() -> None:
    ids = [*map(str, range(150)), "bad", *map(str, range(150, 300))]
    events = []
    results = dict(read_pixels(Endless(), ids, 4, Progress(listen=events.append)))
    assert isinstance(results.pop("bad"), InputError)
    assert list(results) == [*map(str, range(300))]
    assert all(image.shape == (4, 4, 3) for image in results.values())
    assert events[0].done == 0
    assert (events[-1].done, events[-1].total, events[-1].unit) == (301, 301, "images")


def test_only_a_few_chunks_are_held() -> None:
    source = Endless()
    pixels = read_pixels(source, [*map(str, range(10_000))], 4)
    next(pixels)
    assert source.taken <= 64 * (8 + 3)
    pixels.close()
    deadline = time.monotonic() + 10
    while any(thread.name.startswith("decode") for thread in threading.enumerate()):
        assert time.monotonic() < deadline, "threads are left behind"
        time.sleep(0.01)


def test_a_stop_ends_within_a_chunk() -> None:
    source, asked = Endless(), []
    progress = Progress(should_stop=lambda: bool(asked))
    pixels = read_pixels(source, [*map(str, range(10_000))], 4, progress)
    next(pixels)
    asked.append(True)
    with pytest.raises(Stopped, match="reading images"):
        list(pixels)
    assert source.taken < 2_000


def test_digits_are_the_data_sets_pixels() -> None:
    from sklearn.datasets import load_digits

    truth = load_digits().images
    for sample_id, image in read_pixels(open_source("digits"), ["digits/00012.png", "digits/01796.png"], None):
        np.testing.assert_array_equal(image[:, :, 0], np.rint(truth[int(sample_id[7:12])] * 255 / 16))
