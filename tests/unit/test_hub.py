"""`hf:PATH`: Parquet folders and what `save_to_disk` writes, read in place."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from core.data.manifest import Manifest
from core.data.sources import Contained, SourceOptions, fetch_source, open_source
from core.data.sources.base import open_file
from core.errors import InputError


def png(value: int = 0) -> bytes:
    target = io.BytesIO()
    Image.new("L", (4, 4), value).save(target, format="PNG")
    return target.getvalue()


def table(values: list[int], labels: list[int], image: str = "image", label: str = "label", **more) -> pa.Table:
    declared = {image: {"_type": "Image"}, label: {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    cells = [{"bytes": png(value), "path": f"{value}.png"} for value in values]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {image: pa.array(cells, kind), label: pa.array(labels, pa.int64()), **more}
    return pa.table(columns).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": declared}})})


def parquet(path: Path, made: pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(made, path, row_group_size=2)


def saved(folder: Path, made: pa.Table, split: str | None, files: int = 1) -> None:
    """What `Dataset.save_to_disk` writes."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"data-{number:05d}-of-{files:05d}.arrow" for number in range(files)]
    rows = -(-len(made) // files)
    for number, name in enumerate(names):
        with pa.OSFile(str(folder / name), "wb") as file, pa.ipc.new_stream(file, made.schema) as stream:
            stream.write_table(made.slice(number * rows, rows), max_chunksize=2)
    state = {"_data_files": [{"filename": name} for name in names], "_split": split, "_format_type": None}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")


def listed(source) -> dict[str, tuple]:
    return {row.sample_id: (row.given_label, row.split) for row in source.rows().frame.itertuples()}


def test_parquet_as_the_hub_keeps_it(tmp_path: Path) -> None:
    parquet(tmp_path / "data" / "train-00001-of-00002.parquet", table([13, 14], [1, -1]))
    parquet(tmp_path / "data" / "train-00000-of-00002.parquet", table([10, 11, 12], [0, 1, 0]))
    parquet(tmp_path / "data" / "validation-00000-of-00001.parquet", table([20], [1]))
    parquet(tmp_path / "data" / "test-00000-of-00001.parquet", table([30], [0]))
    parquet(tmp_path / ".cache" / "train.parquet", table([99], [0]))
    source = open_source(f"hf:{tmp_path}")
    assert listed(source) == {
        "train/00000000": ("0", "train"), "train/00000001": ("1", "train"), "train/00000002": ("0", "train"),
        "train/00000003": ("1", "train"), "train/00000004": (None, "train"), "val/00000000": ("1", "val"),
        "test/00000000": ("0", "test"),
    }  # fmt: skip
    assert source.rows().classes == ("cat", "dog")
    read = dict(source.read(["test/00000000", "train/00000003", "train/00000002", "nothing"]))
    assert str(read.pop("nothing")) == "no such row in the data set"
    assert read == {"train/00000002": png(12), "train/00000003": png(13), "test/00000000": png(30)}
    assert list(read) == ["train/00000002", "train/00000003", "test/00000000"]
    manifest = Manifest.read(f"hf:{tmp_path}")
    assert manifest.problems["reason"].tolist() == ["no label"]
    assert manifest.rows["given_label"].tolist() == ["cat", "dog", "cat", "dog", "dog", "cat"]


@pytest.mark.parametrize("names", [["train.parquet", "test.parquet"], ["train/0.parquet", "test/0.parquet"]])
def test_the_split_is_in_the_name_or_the_folder(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        parquet(tmp_path / name, table([1], [0]))
    assert set(listed(open_source(f"hf:{tmp_path}"))) == {"train/00000000", "test/00000000"}


def test_a_single_file_without_a_split(tmp_path: Path) -> None:
    parquet(tmp_path / "0000.parquet", table([1, 2], [0, 1], image="img", label="coarse"))
    assert listed(open_source(f"hf:{tmp_path}")) == {"00000000": ("0", None), "00000001": ("1", None)}


@pytest.mark.parametrize("files", [1, 3])
def test_what_save_to_disk_writes(tmp_path: Path, files: int) -> None:
    saved(tmp_path / "one", table([1, 2, 3, 4, 5], [0, 1, 0, 1, -1]), "train", files)
    source = open_source(f"hf:{tmp_path / 'one'}")
    assert [label for label, _ in listed(source).values()] == ["0", "1", "0", "1", None]
    assert dict(source.read(["train/00000004", "train/00000001"])) == {
        "train/00000001": png(2), "train/00000004": png(5),
    }  # fmt: skip
    saved(tmp_path / "all" / "train", table([1, 2], [0, 1]), "train", 1)
    saved(tmp_path / "all" / "validation", table([3], [0]), "validation", 1)
    (tmp_path / "all" / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "validation"]}))
    assert set(listed(open_source(f"hf:{tmp_path / 'all'}"))) == {"train/00000000", "train/00000001", "val/00000000"}


def test_columns_that_are_named_and_that_travel_along(tmp_path: Path) -> None:
    more = {
        "true_label": [1, 1, 0],
        "annotator": ["a", "b", None],
        "key": ["k1", "k2", "k1"],
        "fold": ["train", "test", "train"],
    }
    parquet(tmp_path / "x.parquet", table([1, 2, 3], [0, 1, 0], **more))
    options = SourceOptions(id_column="key", split_column="fold", group_column="annotator", meta_columns=("annotator",))
    source = open_source(f"hf:{tmp_path}", options)
    rows = source.rows()
    assert listed(source) == {"k1": ("0", "train"), "k2": ("1", "test")}
    assert rows.frame["true_label"].tolist() == ["1", "1"]
    assert rows.frame["meta_annotator"].tolist() == rows.frame["group"].tolist() == ["a", "b"]
    assert rows.problems["reason"].tolist() == ["duplicate id; the first row of this id is kept"]
    assert dict(source.read(["k2"])) == {"k2": png(2)}
    with pytest.raises(
        InputError, match=r"'nobody' is not there in .*columns are image, label, true_label, annotator, key, fold"
    ):
        open_source(f"hf:{tmp_path}", SourceOptions(meta_columns=("nobody",))).rows()


def test_images_beside_the_files_and_outside_them(tmp_path: Path, monkeypatch) -> None:
    root = tmp_path / "set"
    (root / "images").mkdir(parents=True)
    (root / "images" / "1.png").write_bytes(png(1))
    (tmp_path / "secret.png").write_bytes(png(9))
    cells = [{"bytes": None, "path": path} for path in ("images/1.png", "../secret.png", str(tmp_path / "secret.png"))]
    made = table([1, 2, 3], [0, 1, 0])
    parquet(root / "x.parquet", made.set_column(0, "image", pa.array([*cells], made.schema.field(0).type)))
    monkeypatch.setenv("GRADSIFT_ROOTS", str(root))
    read = {name[-1]: data for name, data in open_source(f"hf:{root}").read([f"{row:08d}" for row in range(3)])}
    assert read["0"] == png(1)
    assert "leaves the table's folder" in str(read["1"])
    assert "outside the folders this app may read" in str(read["2"])
    monkeypatch.setenv("GRADSIFT_ROOTS", str(tmp_path / "elsewhere"))
    with pytest.raises(InputError, match="outside the folders this app may read"):
        open_source(f"hf:{root}")


def several_labels(folder: Path) -> None:
    declared = {name: {"names": ["a", "b"], "_type": "ClassLabel"} for name in ("shape", "colour")}
    made = pa.table({"image": [png()], "shape": [0], "colour": [1]})
    parquet(folder / "x.parquet", made.replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": declared}})}))  # fmt: skip


def climbing(folder: Path) -> None:
    saved(folder, table([1], [0]), "train")
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "../../x.arrow"}]}))


def cut(folder: Path) -> None:
    saved(folder, table([1, 2, 3, 4, 5], [0] * 5), "train")
    path = folder / "data-00000-of-00001.arrow"
    path.write_bytes(path.read_bytes()[:-400])


def uneven(folder: Path) -> None:
    parquet(folder / "train-0.parquet", table([1], [0]))
    parquet(folder / "train-1.parquet", pa.table({"image": [png()]}))


BROKEN = {
    "empty": (lambda folder: None, r"holds neither what save_to_disk writes nor Parquet files"),
    "several sets": (
        lambda folder: [parquet(folder / name / "train-0.parquet", table([1], [0])) for name in ("en", "fr")],
        r"holds several data sets: en, fr. Give one, for example .*/en",
    ),
    "several labels": (several_labels, r"has several columns of classes: shape, colour"),
    "no image": (
        lambda folder: parquet(folder / "x.parquet", pa.table({"text": ["a"], "label": [1]})),
        r"no column of images; its columns are text, label",
    ),
    "climbing": (climbing, r"names the file '../../x.arrow', which lies outside it"),
    "cut": (cut, r"data-00000-of-00001.arrow is cut short or damaged"),
    "empty file": (
        lambda folder: (saved(folder, table([1], [0]), None), (folder / "data-00000-of-00001.arrow").write_bytes(b"")),
        r"is cut short or damaged",
    ),
    "gone": (
        lambda folder: (saved(folder, table([1], [0]), None), (folder / "data-00000-of-00001.arrow").unlink()),
        r"data-00000-of-00001.arrow cannot be read: no such file",
    ),
    "state": (lambda folder: (folder / "state.json").write_text("["), r"state.json cannot be read. Save it again"),
    "uneven": (uneven, r"train-1.parquet has no column 'label', as the other files have"),
    "text": (lambda folder: (folder / "x.parquet").write_bytes(b"hello"), r"x.parquet is cut short or damaged"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_folders_that_cannot_be_used(tmp_path: Path, name: str) -> None:
    make, message = BROKEN[name]
    make(tmp_path)
    with pytest.raises(InputError, match=message):
        open_source(f"hf:{tmp_path}").rows()


def test_names_of_the_hub_without_a_network(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match=r"needs a folder. Write, for example, hf:pets"):
        open_source("hf:")
    with pytest.raises(InputError, match=r"owner/name is no folder here.*Add --download.*hf download owner/name"):
        open_source("hf:owner/name")
    with pytest.raises(InputError, match=r"folder /no/such/place does not exist"):
        open_source("hf:/no/such/place")
    parquet(tmp_path / "here" / "x.parquet", table([1], [0]))
    fetch_source("hf:here")  # a folder needs no download
    monkeypatch.setenv("GRADSIFT_ROOTS", str(tmp_path))
    with pytest.raises(InputError, match="The app downloads nothing from the Hub"):
        fetch_source("hf:owner/name")


def test_a_fetched_name_opens_by_its_name(tmp_path: Path, monkeypatch) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="the extra hf is not installed")
    parquet(tmp_path / "snapshot" / "data" / "train-0.parquet", table([1, 2], [0, 1]))
    asked: list[dict] = []

    def download(name: str, **told) -> str:
        asked.append({"name": name, **told})
        return str(tmp_path / "snapshot")

    monkeypatch.setattr(hub, "snapshot_download", download)
    manifest = Manifest.read("hf:owner/name", download=True, val_fraction=0)
    assert (manifest.source.spec, len(manifest)) == ("hf:owner/name", 2)
    assert "*.py" not in asked[0]["allow_patterns"]
    assert asked[1] == {"name": "owner/name", "repo_type": "dataset", "local_files_only": True}


def test_every_byte_goes_through_the_opener(tmp_path: Path) -> None:
    parquet(tmp_path / "x.parquet", table([1], [0]))
    opened: list[str] = []

    def opener(path: str):
        opened.append(path)
        return open_file(path)

    source = open_source(f"hf:{tmp_path}")
    assert isinstance(source, Contained)
    assert dict(source.opened_with(opener).read(["00000000"])) == {"00000000": png(1)}
    assert set(opened) == {str(tmp_path / "x.parquet")}


def test_it_is_what_datasets_loads(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the extra hf is not installed")
    values, labels = list(range(20)), [row % 2 for row in range(20)]
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["cat", "dog"]))
    rows = {"image": [{"bytes": png(value), "path": None} for value in values], "label": labels}
    whole = datasets.Dataset.from_dict(rows, features=features)
    both = whole.train_test_split(0.25, seed=0)
    both.save_to_disk(str(tmp_path / "saved"))
    for split in both:
        both[split].to_parquet(str(tmp_path / "parquet" / f"{split}-00000-of-00001.parquet"))
    for name in ("saved", "parquet"):
        source = open_source(f"hf:{tmp_path / name}")
        frame = source.rows().frame
        read = dict(source.read(list(frame["sample_id"])))
        for split in both:
            ours = frame[frame["split"] == split]
            assert ours["given_label"].astype(int).tolist() == both[split]["label"]
            theirs = [np.array(image).tolist() for image in both[split]["image"]]
            assert [np.array(Image.open(io.BytesIO(read[i]))).tolist() for i in ours["sample_id"]] == theirs
