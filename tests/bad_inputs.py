"""Bad inputs, as a table: what lies there, what is said, what remains. `BAD_INPUTS` is walked by tests and a bench.

Each is put beside twelve good images of two classes and read by `gradsift new`. It is either set aside with its
reason, or taken, or the command is refused; then `mend` takes the cause away and the same command works.
"""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from tests.helpers import drawn_folder

GOOD = 12
BOUND = "the first row of this id is kept"


@dataclass(frozen=True)
class BadInput:
    """One bad input.

    Attributes:
        name: what it is.
        put: writes it into a folder that has `images` already; returns what follows `gradsift new PROJECT`.
        aside: what is set aside, by id, each with its reason.
        refused: what is said where nothing can be made of it; `{root}` stands for the folder.
        taken: how many images the project then has (0: it is refused).
        mend: takes the cause of a refusal away.
        left: what is still set aside then, by id, each with its reason.
        noted: what is said besides.
    """

    name: str
    put: Callable[[Path], list[str]]
    aside: Mapping[str, str] = field(default_factory=dict)
    refused: str = ""
    taken: int = GOOD
    mend: Callable[[Path], None] | None = None
    left: Mapping[str, str] = field(default_factory=dict)
    noted: str = ""


def good(root: Path) -> list[str]:
    """Draw the good images; return their paths, with forward slashes, from `images`."""
    images = drawn_folder(root / "images", GOOD)
    return sorted(str(path.relative_to(images)) for path in images.rglob("*.png"))


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """An image's file."""
    target = io.BytesIO()
    image.save(target, format=kind, **options)
    return target.getvalue()


def noise(side: int = 40) -> Image.Image:
    """A picture that compresses badly."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8))


def palette_with_alpha() -> bytes:
    """A PNG whose first colour is clear."""
    image = Image.new("P", (4, 4))
    image.putpalette([10, 20, 30, 200, 100, 50])
    return encoded(image, transparency=0)


def turned() -> bytes:
    """A JPEG that a camera held sideways."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(noise(), "JPEG", exif=exif)


def bomb() -> bytes:
    """A whole PNG of 400 million black pixels in 390 kB."""
    side = 20_000
    packer, row = zlib.compressobj(9), b"\0" * (side + 1)
    packed = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", packed), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def text_bomb() -> bytes:
    """A PNG with a comment of 200 million letters in 200 kB."""
    whole = encoded(noise(8))
    return whole[:33] + _chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"a" * 200_000_000, 9)) + whole[33:]


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _image(name: str, data: Callable[[], bytes]) -> Callable[[Path], list[str]]:
    def put(root: Path) -> list[str]:
        (root / "images" / "left" / name).write_bytes(data())
        return ["--source", f"folder:{root / 'images'}"]

    return put


def _entry(make: Callable[[Path], object]) -> Callable[[Path], list[str]]:
    """Put something that is no plain file into the class folder `left`."""

    def put(root: Path) -> list[str]:
        (root / "secret.png").write_bytes(encoded(noise(8)))
        make(root / "images" / "left")
        return ["--source", f"folder:{root / 'images'}"]

    return put


def _csv(change: Callable[[list[list[str]]], list[list[str]]], head: str = "path,label", *more: str, encoding="utf-8"):
    """Put a table of the good images beside them, changed in one way."""

    def put(root: Path) -> list[str]:
        rows = change([[path, path.split("/")[0]] for path in good(root)])
        text = "\n".join([head, *(",".join(row) for row in rows)]) + "\n"
        (root / "images" / "t.csv").write_bytes(text.encode(encoding))
        (root / "secret.png").write_bytes(encoded(noise(8)))
        return ["--source", f"table:{root / 'images' / 't.csv'}", *(word.format(root=root) for word in more)]

    return put


def _plus(*cells: str) -> Callable[[list[list[str]]], list[list[str]]]:
    return lambda rows: [*rows, list(cells)]


def _whole_table(root: Path) -> None:
    _csv(lambda rows: rows)(root)


def _json_lines(change: Callable[[dict[str, str]], None]) -> Callable[[Path], list[str]]:
    """Put the good images as JSON lines, the first one changed."""

    def put(root: Path) -> list[str]:
        rows = [{"id": f"i{at}", "path": path, "label": path.split("/")[0]} for at, path in enumerate(good(root))]
        change(rows[0])
        (root / "images" / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
        return ["--source", f"table:{root / 'images' / 't.jsonl'}"]

    return put


def _parquet(share: float) -> Callable[[Path], list[str]]:
    """Put the good images as Parquet, of which only a share of the bytes is there."""

    def put(root: Path) -> list[str]:
        paths = good(root)
        table = pd.DataFrame({"path": paths, "label": [path.split("/")[0] for path in paths]})
        file = root / "images" / "t.parquet"
        table.to_parquet(file)
        file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
        return ["--source", f"table:{file}"]

    return put


def _classes(root: Path) -> list[str]:
    (root / "classes.txt").write_text("left\nbottom\n")
    return [*_csv(lambda rows: rows)(root), "--classes", str(root / "classes.txt")]


def _absent(root: Path) -> list[str]:
    return _csv(lambda rows: [[*row, "train" if row[1] == "left" else "test"] for row in rows], "path,label,split")(
        root
    )


def _same_names(root: Path) -> list[str]:
    for folder in ("left", "top"):
        (root / "images" / folder / "same.png").write_bytes(encoded(noise(8)))
    return ["--source", f"folder:{root / 'images'}"]


def _climbing(root: Path) -> list[str]:
    """Pack the good images, and one entry that would land beside the archive."""
    with zipfile.ZipFile(root / "images" / "t.zip", "w") as archive:
        for path in good(root):
            archive.write(root / "images" / path, path)
        archive.writestr("left/../../out.png", encoded(noise(8)))
    return ["--source", f"zip:{root / 'images' / 't.zip'}"]


def _cut_archive(root: Path) -> list[str]:
    arguments = _climbing(root)
    file = root / "images" / "t.zip"
    file.write_bytes(file.read_bytes()[:-30])
    return arguments


LEAVES = "the path leaves the table's folder; write it as an absolute path if that is meant"
TOO_LARGE = "the image is larger than 64 million pixels"
CUT = "the image is cut short or damaged"
LONG = "x" * 10_000_000

BAD_INPUTS: tuple[BadInput, ...] = (
    BadInput("empty file", _image("bad.png", lambda: b""), {"left/bad.png": "the file is empty"}),
    BadInput("text as .png", _image("bad.png", lambda: b"hello\n"), {"left/bad.png": "text, not an image"}),
    BadInput(
        "cut JPEG",
        _image("bad.jpg", lambda: encoded(noise(), "JPEG")[:900]),
        {"left/bad.jpg": CUT},
    ),
    BadInput("decompression bomb", _image("bad.png", bomb), {"left/bad.png": TOO_LARGE}),
    BadInput("bomb in a comment", _image("bad.png", text_bomb), {"left/bad.png": CUT}),
    BadInput("CMYK", _image("odd.jpg", lambda: encoded(noise().convert("CMYK"), "JPEG")), taken=GOOD + 1),
    BadInput(
        "16-bit",
        _image("odd.png", lambda: encoded(Image.fromarray(np.full((8, 8), 25_700, np.uint16)))),
        taken=GOOD + 1,
    ),
    BadInput("palette with alpha", _image("odd.png", palette_with_alpha), taken=GOOD + 1),
    BadInput(
        "animated GIF",
        _image("odd.gif", lambda: encoded(noise(8), "GIF", save_all=True, append_images=[noise(8)] * 2)),
        taken=GOOD + 1,
    ),
    BadInput("EXIF-turned", _image("odd.jpg", turned), taken=GOOD + 1),
    BadInput("1 x 1", _image("odd.png", lambda: encoded(Image.new("RGB", (1, 1)))), taken=GOOD + 1),
    BadInput(
        "named pipe",
        _entry(lambda left: os.mkfifo(left / "bad.png")),
        {"left/bad.png": "not a regular file (a pipe, socket or device)"},
    ),
    BadInput(
        "link out of the root",
        _entry(lambda left: (left / "bad.png").symlink_to(left.parents[1] / "secret.png")),
        {"left/bad.png": "a link that leaves the folder"},
    ),
    BadInput(
        "link loop of folders",
        _entry(lambda left: (left / "loop").symlink_to(left.parent)),
        {"left/loop": "a link to another folder; its images are read where they lie"},
    ),
    BadInput(
        "link to itself",
        _entry(lambda left: (left / "bad.png").symlink_to("bad.png")),
        {"left/bad.png": "the file cannot be reached (Too many levels of symbolic links)"},
    ),
    BadInput(
        "non-UTF-8 name",
        _entry(lambda left: Path(os.fsdecode(os.fsencode(left) + b"/\xff.png")).write_bytes(encoded(noise(8)))),
        {"left/\\udcff.png": "the name is not valid UTF-8"},
    ),
    BadInput("newline in a name", _image("two\nlines.png", lambda: encoded(noise(8))), taken=GOOD + 1),
    BadInput("same basename in two folders", _same_names, taken=GOOD + 2),
    BadInput("`../` in a table", _csv(_plus("../secret.png", "left")), {"../secret.png": LEAVES}),
    BadInput(
        "absolute path in a table to no file", _csv(_plus("/no/such.png", "left")), {"/no/such.png": "no such file"}
    ),
    BadInput(
        "absolute path in a table to no image",
        _csv(_plus("/etc/passwd", "left")),
        {"/etc/passwd": "text, not an image"},
    ),
    BadInput(
        "missing label", _csv(lambda rows: [*rows[:-1], [rows[-1][0], ""]]), {"top/011.png": "no label"}, taken=11
    ),
    BadInput(
        "duplicate id",
        _csv(lambda rows: [[f"i{min(at, 10)}", *row] for at, row in enumerate(rows)], "id,path,label"),
        {"i10": f"duplicate id; {BOUND}"},
        taken=11,
    ),
    BadInput("class of one sample", _csv(lambda rows: [*rows[:-1], [rows[-1][0], "rare"]])),
    BadInput(
        "class that train lacks",
        _csv(lambda rows: [*([*r, "train"] for r in rows[:-1]), [rows[-1][0], "rare", "test"]], "path,label,split"),
    ),
    BadInput(
        "two classes, one absent in train",
        _absent,
        refused="table:{root}/images/t.csv has training images of 1 class, 'left'. "
        "A classifier needs at least 2 classes.",
        mend=_whole_table,
    ),
    BadInput(
        "label that is no class",
        _classes,
        refused="Label 'top' (sample top/001.png) is not among the 2 classes (left, bottom); 6 rows have such a label. "
        "Fix the row, or name it in the class file.",
        mend=lambda root: (root / "classes.txt").write_text("left\ntop\n") and None,
    ),
    BadInput(
        "CSV in Latin-1",
        _csv(_plus("left/000.png", "Größe"), encoding="latin-1"),
        refused="{root}/images/t.csv is not in the encoding UTF-8 (byte 0xf6 in line 14, 'ö' in Windows-1252 and "
        "Latin-1). Save it as UTF-8.",
        mend=_whole_table,
    ),
    *(
        BadInput(
            f"CSV in {name}",
            _csv(lambda rows: rows, encoding=name),
            refused="{root}/images/t.csv is not in the encoding UTF-8 (it looks like UTF-16 or UTF-32). "
            "Save it as UTF-8.",
            mend=_whole_table,
        )
        for name in ("utf-16", "utf-16-le")
    ),
    BadInput(
        "10-million-character cell (CSV)",
        _csv(_plus("left/000.png", LONG)),
        refused="Line 14 of {root}/images/t.csv cannot be read as CSV (a field of it has more than 131,072 characters; "
        "is a quote missing?). Repair it.",
        mend=_whole_table,
    ),
    BadInput(
        "`cat ` beside `Cat`",
        _csv(lambda rows: [[row[0], "cat " if at % 3 else "Cat"] for at, row in enumerate(rows)]),
        noted="'Cat' and 'cat ' differ in case or spaces only and count as 2 classes; mend the labels if not so",
    ),
    *(
        BadInput(
            f"10-million-character {name} (JSON Lines)",
            _json_lines(lambda row, name=name: row.update({name: LONG})),
            {aside: "the name has 10,000,000 characters; 4,096 is the limit"},
            taken=GOOD - 1,
        )
        for name, aside in (("id", f"{LONG[:100]}…"), ("label", "i0"), ("path", "i0"))
    ),
    BadInput("10-million-character note (JSON Lines)", _json_lines(lambda row: row.update(note=LONG))),
    BadInput(
        "archive entry that climbs out",
        _climbing,
        {"left/../../out.png": "an entry that climbs out of the archive"},
    ),
    BadInput(
        "archive cut short",
        _cut_archive,
        refused="{root}/images/t.zip is no whole zip file (cut short or damaged). Copy it again.",
        mend=lambda root: _climbing(root) and None,
        left={"left/../../out.png": "an entry that climbs out of the archive"},
    ),
    *(
        BadInput(
            f"Parquet cut short to {share:.0%}",
            _parquet(share),
            refused="{root}/images/t.parquet is no whole Parquet file (cut short or damaged). Copy it again.",
            mend=lambda root: _parquet(1)(root) and None,
        )
        for share in (0, 0.5, 0.99)
    ),
)
