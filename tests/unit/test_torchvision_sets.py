"""`torchvision:NAME@ROOT`: agreement with torchvision itself, and that nothing is ever unpickled."""

import inspect
import io
import json
import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.data.manifest import Manifest
from core.data.sources import Contained, SourceOptions, fetch_source, open_source, split_spec
from core.data.sources import batches as batches_module
from core.data.sources import torchvision_sets as sets
from core.data.sources.lossless import png
from core.errors import InputError

DATA = Path(os.environ.get("GRADSIFT_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
RNG = np.random.default_rng(0)


def pixels(data: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize("shape", [(1, 1), (28, 28), (32, 32, 3), (3, 200, 3), (300, 400, 3)])
def test_a_png_of_ours_is_read_back_as_it_was(shape: tuple[int, ...]) -> None:
    drawn = RNG.integers(0, 256, shape, dtype=np.uint8)
    assert (pixels(png(drawn)) == drawn).all()
    assert (pixels(png(drawn.transpose(1, 0, *range(2, drawn.ndim)))) == drawn.swapaxes(0, 1)).all()


def test_a_png_of_ours_has_the_same_bytes_everywhere() -> None:
    packed = "7801" + "01" + "0300fcff" + "0007ff" + "01100107"  # one block: lengths, data, sum
    known = "89504e470d0a1a0a" + "0000000d4948445200000002000000010800000000d1492056"
    known += "0000000e49444154" + packed + "2bc2fcf2" + "0000000049454e44ae426082"
    assert png(np.array([[7, 255]], np.uint8)).hex() == known


# --- MNIST and its kin ---


def write_idx(root: Path, name: str, train: int = 6, test: int = 4) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    folder, made = root / name / "raw", {}
    folder.mkdir(parents=True)
    for start, split, count in (("train", "train", train), ("t10k", "test", test)):
        images = RNG.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        (folder / f"{start}-images-idx3-ubyte").write_bytes(struct.pack(">4I", 0x803, *images.shape) + images.tobytes())
        (folder / f"{start}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, count) + labels.tobytes())
        made[split] = (images, labels)
    return made


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST", "KMNIST"])
def test_mnist_and_its_kin(tmp_path: Path, name: str) -> None:
    from torchvision import datasets

    write_idx(tmp_path, name)
    source = open_source(f"torchvision:{name}@{tmp_path}")
    rows = source.rows()
    read = dict(source.read(list(rows.frame["sample_id"])))
    assert len(rows.frame) == rows.n_read == 10
    assert source.flip == (name == "FashionMNIST")
    for train, split in ((True, "train"), (False, "test")):
        theirs = getattr(datasets, name)(str(tmp_path), train=train)
        ours = rows.frame[rows.frame["split"] == split]
        assert ours["given_label"].astype(int).tolist() == theirs.targets.tolist()
        assert all((pixels(read[i]) == theirs.data[k].numpy()).all() for k, i in enumerate(ours["sample_id"]))
        assert rows.classes == tuple(n.split(" - ")[0] for n in theirs.classes)


def test_files_of_mnist_that_do_not_belong_together(tmp_path: Path) -> None:
    write_idx(tmp_path, "MNIST")
    labels = tmp_path / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    for data in (struct.pack(">2I", 0x801, 5) + bytes(5), b"", struct.pack(">2I", 0x801, 6) + bytes(4)):
        labels.write_bytes(data)
        with pytest.raises(InputError, match="do not belong together|is cut short"):
            open_source(f"torchvision:MNIST@{tmp_path}").rows()
    labels.unlink()
    with pytest.raises(InputError, match=r"train-labels-idx1-ubyte cannot be read: no such file"):
        open_source(f"torchvision:MNIST@{tmp_path}").rows()


def test_stl10(tmp_path: Path, monkeypatch) -> None:
    from torchvision.datasets import STL10

    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    for split, labels in (("train", [1, 2, 10]), ("test", [3])):
        shape = (len(labels), 3, 96, 96)
        (folder / f"{split}_X.bin").write_bytes(RNG.integers(0, 256, shape, dtype=np.uint8).tobytes())
        (folder / f"{split}_y.bin").write_bytes(bytes(labels))
    (folder / "class_names.txt").write_text("\n".join("abcdefghij") + "\n")
    monkeypatch.setattr(STL10, "_check_integrity", lambda self: True)
    source = open_source(f"torchvision:STL10@{tmp_path}")
    theirs = STL10(str(tmp_path), split="train")
    read = dict(source.read(["train/00000.png", "train/00002.png"]))
    for row in (0, 2):
        assert (pixels(read[f"train/{row:05d}.png"]) == np.asarray(theirs[row][0])).all()
    assert source.rows().frame["given_label"].tolist() == ["0", "1", "9", "2"]
    assert source.rows().classes == tuple("abcdefghij")
    (folder / "train_X.bin").write_bytes(b"short")
    with pytest.raises(InputError, match="does not hold an image for each of 3 labels"):
        open_source(source.spec).rows()


# --- CIFAR ---


class Harm:
    """What an attacker puts into a batch: whoever loads it runs `os.mkdir`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_the_checksums_are_torchvision_s() -> None:
    from torchvision.datasets import CIFAR10, CIFAR100

    for theirs in (CIFAR10, CIFAR100):
        published = dict([*theirs.train_list, *theirs.test_list, [theirs.meta["filename"], theirs.meta["md5"]]])
        assert batches_module.CIFAR_MD5[theirs.base_folder] == published


@pytest.mark.parametrize(("name", "folder"), [("CIFAR10", "cifar-10-batches-py"), ("CIFAR100", "cifar-100-python")])
def test_a_batch_that_holds_code_is_refused_and_never_run(tmp_path: Path, monkeypatch, name: str, folder: str) -> None:
    harmed = tmp_path / "harmed"
    (tmp_path / folder).mkdir()
    for file in batches_module.CIFAR_MD5[folder]:
        (tmp_path / folder / file).write_bytes(pickle.dumps({"data": Harm(harmed)}, protocol=2))
    with pytest.raises(InputError, match=r"is not the published file: its MD5 is .* nothing of it was read"):
        Manifest.read(f"torchvision:{name}@{tmp_path}")
    assert not harmed.exists()
    # Even where a checksum were to agree, the opcodes are listed and none is carried out.
    data = pickle.dumps({"data": Harm(harmed), "labels": list(range(3))}, protocol=2)
    assert batches_module._lists(data)["labels"] == [0, 1, 2]
    assert not harmed.exists()
    pickle.loads(data)  # the trap does work
    assert harmed.exists()


def text(value: str) -> bytes:
    return b"U" + bytes([len(value)]) + value.encode()


def listed(items: list[bytes]) -> bytes:
    """A list as Python 2's cPickle writes it: in parts of a thousand."""
    parts = [items[start : start + 1000] for start in range(0, len(items), 1000)]
    return b"]q\x01" + b"".join(b"(" + b"".join(part) + b"e" for part in parts)


def batch(key: str, labels: np.ndarray, images: np.ndarray) -> bytes:
    """A batch as the makers of CIFAR wrote it, the array cut down to its bytes."""
    data = images.tobytes()
    names = listed([text("s.png") + b"q\x07", *[b"h\x07"] * (len(labels) - 1)])
    codes = listed([b"K" + bytes([code]) for code in labels])
    long = b"T" + struct.pack("<i", len(data)) + data
    return b"\x80\x02}(" + text("filenames") + names + text(key) + codes + text("data") + long + b"u."


def test_cifar_100_is_read_as_it_is_laid_out(tmp_path: Path, monkeypatch) -> None:
    folder, checksums = tmp_path / "cifar-100-python", {}
    folder.mkdir()
    made = {}
    for name, count in (("train", 2500), ("test", 7)):
        images = RNG.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
        labels = (np.arange(count) * 7 % 100).astype(np.uint8)
        (folder / name).write_bytes(batch("fine_labels", labels, images))
        made[name] = (images, labels)
    names = [f"class {code}" for code in range(100)]
    coarse = text("coarse_label_names") + listed([text("class 3") + b"q\x05", text("fish")])
    fine = text("fine_label_names") + listed([b"h\x05" if name == "class 3" else text(name) for name in names])
    (folder / "meta").write_bytes(b"\x80\x02}(" + coarse + fine + b"u.")
    for name in ("train", "test", "meta"):
        checksums[name] = batches_module.hashlib.md5((folder / name).read_bytes()).hexdigest()
    monkeypatch.setattr(batches_module, "CIFAR_MD5", {"cifar-100-python": checksums})
    source = open_source(f"torchvision:CIFAR100@{tmp_path}")
    rows = source.rows()
    assert rows.classes == tuple(names)
    for split, (images, labels) in made.items():
        ours = rows.frame[rows.frame["split"] == split]
        assert ours["given_label"].astype(int).tolist() == labels.tolist()
        read = dict(source.read([f"{split}/00003.png", f"{split}/00006.png"]))
        assert all((pixels(read[f"{split}/{k:05d}.png"]) == images[k].transpose(1, 2, 0)).all() for k in (3, 6))


@pytest.fixture(scope="module")
def cifar10(tmp_path_factory) -> Path:
    """The published batches, made anew from the parquet files by the script that lies beside them."""
    if not (DATA / "make_cifar10_batches.py").exists():
        pytest.skip(f"no real data in {DATA}")
    root = tmp_path_factory.mktemp("cifar10")
    files = [str(DATA / f"cifar10_{split}.parquet") for split in ("train", "test")]
    subprocess.run([sys.executable, str(DATA / "make_cifar10_batches.py"), *files, str(root)], check=True)
    return root


def test_cifar_10_is_what_torchvision_loads(cifar10: Path) -> None:
    from torchvision.datasets import CIFAR10

    source = open_source(f"torchvision:CIFAR10@{cifar10}")
    rows = source.rows()
    assert rows.frame["split"].value_counts().to_dict() == {"train": 50_000, "test": 10_000}
    for train, split in ((True, "train"), (False, "test")):
        theirs = CIFAR10(str(cifar10), train=train)
        ours = rows.frame[rows.frame["split"] == split].reset_index(drop=True)
        assert ours["given_label"].astype(int).tolist() == theirs.targets
        assert rows.classes == tuple(theirs.classes)
        some = range(0, len(ours), 997)
        read = dict(source.read([ours["sample_id"][row] for row in some]))
        assert all((pixels(read[ours["sample_id"][row]]) == theirs.data[row]).all() for row in some)


def test_one_byte_changed_in_a_published_batch(cifar10: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for path in (cifar10 / "cifar-10-batches-py").iterdir():
        (folder / path.name).symlink_to(path)
    data = bytearray((folder / "data_batch_3").read_bytes())
    data[-100] ^= 1
    (folder / "data_batch_3").unlink()
    (folder / "data_batch_3").write_bytes(data)
    with pytest.raises(InputError, match=r"data_batch_3 is not the published file.*it should be 54ebc095f3ab"):
        open_source(f"torchvision:CIFAR10@{tmp_path}").rows()


def test_human_labels_of_the_training_rows_alone(cifar10: Path) -> None:
    manifest = Manifest.read(
        f"torchvision:CIFAR10@{cifar10}", labels=f"{DATA / 'cifar10n_labels.npz'}:worse", limit=600, seed=1
    )
    known = np.load(DATA / "cifar10n_labels.npz")["worse"]
    for row in manifest.rows[manifest.rows["split"] == "train"].itertuples():
        assert row.given_label == manifest.classes[known[int(row.sample_id[6:11])]]
    own = open_source(f"torchvision:CIFAR10@{cifar10}").rows().frame.set_index("sample_id")["given_label"]
    test = manifest.rows[manifest.rows["split"] == "test"]
    assert len(test) == 100
    assert all(row.given_label == manifest.classes[int(own[row.sample_id])] for row in test.itertuples())


# --- data sets with a file per image ---


def image(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (5, 4), (value, 0, 0)).save(path)


def food(root: Path) -> None:
    wanted = {"train": {"pie": ["pie/1", "pie/2"], "ham": ["ham/1"]}, "test": {"pie": [], "ham": ["ham/2"]}}
    for split, names in wanted.items():
        (root / "food-101" / "meta").mkdir(parents=True, exist_ok=True)
        (root / "food-101" / "meta" / f"{split}.json").write_text(json.dumps(names))
        for name in (name for group in names.values() for name in group):
            image(root / "food-101" / "images" / f"{name}.jpg")


def pets(root: Path) -> None:
    base = root / "oxford-iiit-pet"
    (base / "annotations").mkdir(parents=True)
    lines = {"trainval": "Boxer_1 1 2 1\nBengal_1 2 1 1\n", "test": "Boxer_2 1 2 1\nBengal_2 2 1 1\n"}
    for split, text_ in lines.items():
        (base / "annotations" / f"{split}.txt").write_text(text_)
        for line in text_.splitlines():
            image(base / "images" / f"{line.split()[0]}.jpg")


def euro(root: Path) -> None:
    for name in ("Forest/1.jpg", "River/1.jpg"):
        image(root / "eurosat" / "2750" / name)


def signs(root: Path) -> None:
    for name in ("00000/a.ppm", "00001/b.ppm"):
        image(root / "gtsrb" / "GTSRB" / "Training" / name)
    image(root / "gtsrb" / "GTSRB" / "Final_Test" / "Images" / "00000.ppm")
    (root / "gtsrb" / "GT-final_test.csv").write_text("Filename;ClassId\n00000.ppm;1\n")


def countries(root: Path) -> None:
    """Of which one split lacks a class, so that torchvision counts its classes otherwise there."""
    for name in ("train/AD/1.jpg", "train/ZW/1.jpg", "valid/ZW/2.jpg", "test/AD/3.jpg", "test/ZW/4.jpg"):
        image(root / "country211" / name)


def textures(root: Path) -> None:
    base = root / "dtd" / "dtd"
    (base / "labels").mkdir(parents=True)
    for number, split in enumerate(("train", "val", "test")):
        names = [f"banded/{number}.jpg", f"waffled/{number}.jpg"]
        (base / "labels" / f"{split}1.txt").write_text("\n".join(names) + "\n")
        for name in names:
            image(base / "images" / name)


def aircraft(root: Path) -> None:
    base = root / "fgvc-aircraft-2013b" / "data"
    base.mkdir(parents=True)
    (base / "variants.txt").write_text("707-320\nA310\n")
    for number, split in enumerate(("train", "val", "test")):
        (base / f"images_variant_{split}.txt").write_text(f"{number}0 707-320\n{number}1 A310\n")
        for plane in (0, 1):
            image(base / "images" / f"{number}{plane}.jpg")


def words(root: Path) -> None:
    for split in ("train", "valid", "test"):
        for name in ("negative", "positive"):
            image(root / "rendered-sst2" / split / name / "1.png")


def nettes(root: Path) -> None:
    for split in ("train", "val"):
        for wnid in ("n01440764", "n02102040"):
            image(root / "imagenette2" / split / wnid / f"{split}.jpeg")


def scenes(root: Path) -> None:
    (root / "SUN397").mkdir(parents=True)
    (root / "SUN397" / "ClassName.txt").write_text("/a/abbey\n/h/house/indoor\n")
    for name in ("a/abbey/sun_2.jpg", "h/house/indoor/sun_1.jpg"):
        image(root / "SUN397" / name)


THREE = {"train", "val", "test"}
LOOSE = {
    "Country211": (countries, 5, ("AD", "ZW"), THREE),
    "DTD": (textures, 6, ("banded", "waffled"), THREE),
    "FGVCAircraft": (aircraft, 6, ("707-320", "A310"), THREE),
    "Imagenette": (nettes, 4, ("tench", "English springer"), {"train", "val"}),
    "RenderedSST2": (words, 6, ("negative", "positive"), THREE),
    "SUN397": (scenes, 2, ("abbey", "house/indoor"), {None}),
    "Food101": (food, 4, ("ham", "pie"), {"train", "test"}),
    "OxfordIIITPet": (pets, 4, ("Boxer", "Bengal"), {"train", "test"}),
    "EuroSAT": (euro, 2, ("Forest", "River"), {None}),
    "GTSRB": (signs, 3, None, {"train", "test"}),
}


@pytest.mark.parametrize("name", LOOSE)
def test_a_file_per_image(tmp_path: Path, name: str) -> None:
    make, count, classes, splits = LOOSE[name]
    make(tmp_path)
    source = open_source(f"torchvision:{name}@{tmp_path}")
    rows = source.rows()
    assert (len(rows.frame), set(rows.frame["split"]), rows.classes) == (count, splits, classes)
    assert rows.problems.empty
    assert all(Path(path).is_file() and Path(path).is_relative_to(tmp_path) for path in rows.frame["filepath"])
    read = dict(source.read(list(rows.frame["sample_id"])))
    assert all(data == Path(path).read_bytes() for data, path in zip(
        map(read.get, rows.frame["sample_id"]), rows.frame["filepath"], strict=True))  # fmt: skip
    manifest = Manifest.read(f"torchvision:{name}@{tmp_path}", val_fraction=0)
    assert set(manifest.rows["given_label"]) == set(manifest.classes)
    for row in manifest.rows.itertuples() if name in ("Country211", "DTD", "SUN397", "EuroSAT", "RenderedSST2") else ():
        assert f"/{row.given_label}/" in row.filepath


def test_a_list_that_leads_out_of_root_is_not_followed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    food(root)
    image(tmp_path / "secret.jpg")
    (root / "food-101" / "meta" / "train.json").write_text(
        '{"pie": ["pie/1", "../../../secret"], "ham": ["ham/1", "gone"]}'
    )
    found = open_source(f"torchvision:Food101@{root}").rows()
    assert dict(zip(found.problems["sample_id"], found.problems["reason"], strict=True)) == {
        "../secret.jpg": "a file outside ROOT",
        "food-101/images/gone.jpg": "no such file",
    }


@pytest.mark.parametrize("name", [*sets.LOOSE])
def test_torchvision_s_own_loader_of_it_unpickles_nothing(name: str) -> None:
    from torchvision import datasets

    source = inspect.getsource(sys.modules[getattr(datasets, name).__module__])
    assert not [word for word in ("pickle", "torch.load", "joblib") if word in source]


@pytest.mark.parametrize("name", sorted(sets.UNSAFE))
def test_what_is_called_unsafe_is(name: str) -> None:
    from torchvision import datasets

    source = inspect.getsource(sys.modules[getattr(datasets, name).__module__])
    assert [word for word in ("pickle", "torch.load") if word in source]
    with pytest.raises(InputError, match=rf"loads {name} from pickles that nothing has checked"):
        open_source(f"torchvision:{name}@x")


# --- specs, roots and downloads ---


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("torchvision:CIFAR10", "needs a folder. Write, for example, torchvision:CIFAR10@data"),
        ("torchvision:Cifar@x", "'Cifar' is none of torchvision's data sets that can be read: CIFAR10, .*STL10"),
        ("torchvision:CIFAR10@gone", r"gone does not exist. Add --download .*datasets.CIFAR10\(ROOT, download=True\)"),
        ("torchvision:Food101@.", r"Food101 cannot be read from .*Add --download to fetch it"),
        ("torchvision:CIFAR10@.", r"data_batch_1 cannot be read: no such file"),
    ],
)
def test_what_cannot_be_opened(tmp_path: Path, monkeypatch, spec: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        open_source(spec).rows()


def test_a_spec_and_its_path(tmp_path: Path, monkeypatch) -> None:
    write_idx(tmp_path / "a@b", "MNIST")
    monkeypatch.chdir(tmp_path)
    source = open_source("torchvision:MNIST@a@b")
    assert source.spec == f"torchvision:MNIST@{tmp_path}/a@b"
    assert split_spec(source.spec) == ("torchvision:MNIST@", f"{tmp_path}/a@b")
    assert split_spec("folder:a@b") == ("folder:", "a@b")
    assert split_spec("digits") == ("digits", "")
    assert isinstance(source, Contained)
    monkeypatch.setenv("GRADSIFT_ROOTS", str(tmp_path / "elsewhere"))
    for open_it in (open_source, fetch_source):
        with pytest.raises(InputError, match="outside the folders this app may read"):
            open_it(source.spec)


def test_nothing_is_downloaded_unless_asked(tmp_path: Path, monkeypatch) -> None:
    from torchvision.datasets import CIFAR10, EuroSAT

    asked: list[str] = []
    monkeypatch.setattr(CIFAR10, "download", lambda self: asked.append(self.root))
    monkeypatch.setattr(EuroSAT, "download", lambda self: asked.append("EuroSAT"))
    monkeypatch.setattr(pickle, "load", lambda *_, **__: pytest.fail("unpickled"))
    for name in ("CIFAR10", "EuroSAT"):
        with pytest.raises(InputError):
            Manifest.read(f"torchvision:{name}@{tmp_path}")
    assert asked == []
    with pytest.raises(InputError, match="data_batch_1 cannot be read: no such file"):
        Manifest.read(f"torchvision:CIFAR10@{tmp_path / 'new'}", download=True)
    euro(tmp_path)
    assert len(Manifest.read(f"torchvision:EuroSAT@{tmp_path}", download=True)) == 2
    assert asked == [str(tmp_path / "new"), "EuroSAT"]
    with pytest.raises(InputError, match="Nothing can be downloaded for digits; only for torchvision:CIFAR10@data"):
        fetch_source("digits")


def test_a_download_that_fails_says_what_to_do(tmp_path: Path, monkeypatch) -> None:
    from torchvision.datasets import CIFAR10

    def fail(self) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(CIFAR10, "download", fail)
    with pytest.raises(InputError, match=r"CIFAR10 cannot be downloaded: no route to host. .*copy its ROOT here"):
        fetch_source(f"torchvision:CIFAR10@{tmp_path}")


def test_opening_loads_no_torch_and_meta_columns_are_refused(tmp_path: Path) -> None:
    write_idx(tmp_path, "MNIST")
    code = f"""
import sys
from core.data.sources import open_source
source = open_source("torchvision:MNIST@{tmp_path}")
assert len(dict(source.read(list(source.rows().frame["sample_id"])))) == 10
sys.exit(bool({{"torch", "torchvision"}} & set(sys.modules)))
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0
    with pytest.raises(InputError, match="torchvision has no further columns, so 'x' cannot travel along"):
        open_source(f"torchvision:MNIST@{tmp_path}", SourceOptions(meta_columns=["x"]))
