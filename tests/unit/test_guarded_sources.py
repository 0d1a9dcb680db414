"""A screen reads archives, torchvision's files and Hugging Face's through its roots, and nothing outside them."""

import io
import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from core.data.sources import open_source
from core.pictures import Guarded
from core.roots import Roots


def png(value: int = 0) -> bytes:
    target = io.BytesIO()
    Image.new("L", (4, 4), value).save(target, format="PNG")
    return target.getvalue()


def archive(root: Path) -> str:
    with zipfile.ZipFile(root / "x.zip", "w") as file:
        file.writestr("cat/1.png", png(1))
    return f"zip:{root / 'x.zip'}"


def digits(root: Path) -> str:
    (root / "MNIST" / "raw").mkdir(parents=True)
    for start in ("train", "t10k"):
        images = np.full((2, 28, 28), 7, np.uint8)
        folder = root / "MNIST" / "raw"
        (folder / f"{start}-images-idx3-ubyte").write_bytes(struct.pack(">4I", 0x803, 2, 28, 28) + images.tobytes())
        (folder / f"{start}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, 2) + bytes([0, 1]))
    return f"torchvision:MNIST@{root}"


def parquet(root: Path) -> str:
    pq.write_table(pa.table({"image": [png(1)], "label": ["cat"]}), root / "train.parquet")
    return f"hf:{root}"


@pytest.mark.parametrize("make", [archive, digits, parquet])
def test_larger_files_are_opened_through_the_roots(tmp_path: Path, make) -> None:
    inside, elsewhere = tmp_path / "inside", tmp_path / "elsewhere"
    inside.mkdir(), elsewhere.mkdir()
    source = open_source(make(inside))
    ids = list(source.rows().frame["sample_id"])
    files = dict.fromkeys(ids, "")
    assert dict(Guarded(source, Roots((inside,)), files).read(ids)) == dict(source.read(ids))
    refused = dict(Guarded(source, Roots((elsewhere,)), files).read(ids))
    assert all("outside the folders this app may read" in str(error) for error in refused.values())
    assert set(refused) == set(ids)
    # A link put in place of a file after the look leads nowhere.
    for path in [path for path in inside.rglob("*") if path.is_file()]:
        moved = elsewhere / path.name
        path.rename(moved)
        path.symlink_to(moved)
    late = dict(Guarded(source, Roots((inside,)), files).read(ids))
    assert all("outside the folders this app may read" in str(error) for error in late.values())


def test_a_spec_with_a_name_is_resolved_after_it(tmp_path: Path) -> None:
    roots = Roots.parse([str(tmp_path)])
    assert roots.resolve_spec("torchvision:CIFAR10@data") == f"torchvision:CIFAR10@{os.path.realpath(tmp_path)}/data"
    assert roots.resolve_spec("digits") == "digits"
