"""From a source to ordered rows with digests, splits and a list of problems."""

import hashlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from core.data.manifest import Manifest
from core.data.sources import SourceOptions, open_source
from core.errors import InputError, SettingsError, Stopped
from core.progress import Progress

DATA = Path(os.environ.get("GRADSIFT_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))


def png(width: int = 4, height: int = 3, value: int = 0) -> bytes:
    target = io.BytesIO()
    Image.new("L", (width, height), value).save(target, format="PNG")
    return target.getvalue()


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Ten cats and ten dogs, and one of each kind of mistake."""
    root = tmp_path / "pets"
    for row in range(10):
        for name in ("cat", "dog"):
            put(root / name / f"{row}.png", png(value=row))
    put(root / "cat" / "empty.png", b"")
    put(root / "dog" / "text.png", b"hello")
    put(root / "dog" / "half.png", png(64, 64)[:60])
    put(root / "notes.txt", b"hello")
    put(root / "loose.png", png())
    return root


def test_a_folder_read_whole(pets: Path) -> None:
    manifest = Manifest.read(f"folder:{pets}")
    assert len(manifest) == 20
    assert manifest.classes == ("cat", "dog")
    assert manifest.ids.tolist() == [f"{name}/{row}.png" for name in ("cat", "dog") for row in range(10)]
    assert manifest.labels.tolist() == [0] * 10 + [1] * 10
    assert manifest.rows.columns.tolist() == [
        *["sample_id", "filepath", "split", "given_label", "sha256", "width", "height"]
    ]
    assert manifest.rows["sha256"].iloc[3] == hashlib.sha256(png(value=3)).hexdigest()
    assert set(zip(manifest.rows["width"], manifest.rows["height"], strict=True)) == {(4, 3)}
    problems = manifest.problems.set_index("sample_id")["reason"].to_dict()
    assert problems == {
        "notes.txt": "not an image file",
        "loose.png": "no label",
        "cat/empty.png": "the file is empty",
        "dog/text.png": "text, not an image",
        "dog/half.png": "the image is cut short or damaged",
    }
    held_out = manifest.rows.loc[~manifest.train]
    assert held_out["split"].tolist() == ["val", "val"]
    assert sorted(held_out["given_label"]) == ["cat", "dog"]


def test_no_share_means_all_train_and_the_seed_chooses(pets: Path) -> None:
    assert Manifest.read(f"folder:{pets}", val_fraction=0).train.all()
    splits = {tuple(Manifest.read(f"folder:{pets}", val_fraction=0.5, seed=seed).train) for seed in range(3)}
    assert len(splits) == 3
    assert all(sum(split) == 10 for split in splits)


def test_the_source_s_splits_stay(tmp_path: Path) -> None:
    rows = []
    for row, split in enumerate(["Train", "train", "valid", "test", "extra", "", "train"]):
        put(tmp_path / f"{row}.png", png())
        rows.append(f"{row}.png,{'ab'[row % 2]},{split}")
    put(tmp_path / "t.csv", ("path,label,split\n" + "\n".join(rows)).encode())
    manifest = Manifest.read(f"table:{tmp_path / 't.csv'}")
    assert manifest.rows["split"].tolist() == ["train", "train", "val", "test", "extra", "train"]
    assert manifest.problems["reason"].tolist() == ["no split, while other rows of the source have one"]


def test_where_only_the_test_set_is_named_the_others_are_split(tmp_path: Path) -> None:
    for row in range(44):
        put(tmp_path / f"{row}.png", png())
    splits = ["" if row < 40 else "Test" for row in range(44)]
    text = "\n".join(f"{row}.png,{'ab'[row % 2]},{split}" for row, split in enumerate(splits))
    put(tmp_path / "some.csv", f"path,label,split\n{text}".encode())
    put(tmp_path / "none.csv", "\n".join(f"{row}.png,{'ab'[row % 2]}" for row in range(40)).encode())
    put(tmp_path / "none.csv", b"path,label\n" + (tmp_path / "none.csv").read_bytes())
    some, none = (Manifest.read(f"table:{tmp_path / name}.csv", val_fraction=0.2) for name in ("some", "none"))
    assert some.rows["split"].value_counts().to_dict() == {"train": 32, "val": 8, "test": 4}
    assert some.rows["split"].tolist()[:40] == none.rows["split"].tolist()
    assert len(some.problems) == 0
    put(tmp_path / "all.csv", b"path,label,split\n0.png,a,test\n1.png,b,test")
    with pytest.raises(InputError, match=r"no rows in the split train, only in test\."):
        Manifest.read(f"table:{tmp_path / 'all.csv'}")


def test_it_comes_back_as_it_was_saved(pets: Path, tmp_path: Path) -> None:
    manifest = Manifest.read(f"folder:{pets}")
    folder = tmp_path / "saved"
    folder.mkdir()
    manifest.save(folder / "manifest.parquet", folder / "problems.parquet")
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.parquet", "problems.parquet"]
    again = Manifest.load(folder / "manifest.parquet", folder / "problems.parquet", manifest.source, manifest.classes)
    pd.testing.assert_frame_equal(again.rows, manifest.rows)
    pd.testing.assert_frame_equal(again.problems, manifest.problems)
    assert again.digest() == manifest.digest()
    assert dict(again.source.read(["cat/1.png"])) == {"cat/1.png": png(value=1)}
    (folder / "manifest.parquet").write_bytes((folder / "manifest.parquet").read_bytes()[:100])
    with pytest.raises(InputError, match="is damaged"):
        Manifest.load(folder / "manifest.parquet", folder / "problems.parquet", manifest.source, manifest.classes)
    with pytest.raises(InputError, match="no such file"):
        Manifest.load(folder / "gone.parquet", folder / "problems.parquet", manifest.source, manifest.classes)


def test_the_digest_knows_ids_labels_splits_images_and_classes(pets: Path) -> None:
    manifest = Manifest.read(f"folder:{pets}")
    digests = {manifest.digest()}
    for column in ("sample_id", "given_label", "split", "sha256"):
        rows = manifest.rows.copy()
        rows.loc[0, column] = "dog"
        digests.add(Manifest(rows, manifest.classes, manifest.source, manifest.problems).digest())
    digests.add(Manifest(manifest.rows, ("dog", "cat"), manifest.source, manifest.problems).digest())
    assert len(digests) == 6
    assert Manifest.read(f"folder:{pets}").digest() == manifest.digest()


def test_labels_by_id_replace_the_folder_s(pets: Path) -> None:
    labels = "sample_id,label\n" + "".join(f"cat/{row}.png,{'ab'[row % 2]}\n" for row in range(9)) + "loose.png,a\n"
    put(pets.parent / "labels.csv", labels.encode())
    manifest = Manifest.read(f"folder:{pets}", labels=str(pets.parent / "labels.csv"))
    assert manifest.classes == ("a", "b")
    assert len(manifest) == 10
    reasons = manifest.problems.set_index("sample_id")["reason"]
    assert reasons["cat/9.png"] == "no label in labels.csv"
    assert "loose.png" not in reasons


def test_labels_by_row_count_the_rows_as_read(tmp_path: Path) -> None:
    for row in range(4):
        put(tmp_path / f"{row}.png", png())
    put(tmp_path / "t.csv", b"path\n0.png\ngone.png\n1.png\n2.png\n3.png\n")
    np.save(tmp_path / "l.npy", np.array([0, 1, 1, 0, 1]))
    manifest = Manifest.read(f"table:{tmp_path / 't.csv'}", labels=str(tmp_path / "l.npy"), classes=["cat", "dog"])
    assert manifest.rows["given_label"].tolist() == ["cat", "dog", "cat", "dog"]
    np.save(tmp_path / "l.npy", np.array([0, 1, 1, 0]))
    with pytest.raises(InputError, match="holds 4 labels but the source has 5 rows"):
        Manifest.read(f"table:{tmp_path / 't.csv'}", labels=str(tmp_path / "l.npy"))


def test_labels_of_another_source_are_refused(pets: Path) -> None:
    put(pets.parent / "labels.csv", b"sample_id,label\nx/1.png,a\n")
    with pytest.raises(InputError, match=r"No id of labels.csv.*it has 'x/1.png', the source has 'loose.png'"):
        Manifest.read(f"folder:{pets}", labels=str(pets.parent / "labels.csv"))


def test_class_order_comes_from_the_file_and_a_typing_error_is_named(pets: Path) -> None:
    put(pets.parent / "c.txt", b"dog\ncat\nbird\n")
    manifest = Manifest.read(f"folder:{pets}", classes=pets.parent / "c.txt")
    assert manifest.classes == ("dog", "cat", "bird")
    assert manifest.labels.tolist() == [1] * 10 + [0] * 10
    with pytest.raises(InputError, match=r"Label 'dog' \(sample dog/0.png\) is not among the 2 classes .*12 rows"):
        Manifest.read(f"folder:{pets}", classes=["cat", "dgo"])


def test_the_truth_is_named_like_the_labels(tmp_path: Path) -> None:
    for row in range(3):
        put(tmp_path / f"{row}.png", png())
    put(tmp_path / "t.csv", b"path,label,true_label\n0.png,0,1\n1.png,1,1\n2.png,0,\n")
    manifest = Manifest.read(f"table:{tmp_path / 't.csv'}", classes=["cat", "dog"], val_fraction=0)
    assert manifest.rows["true_label"].tolist() == ["dog", "dog", None]


def test_a_limit_is_chosen_before_images_are_looked_at(pets: Path) -> None:
    seen = []
    manifest = Manifest.read(f"folder:{pets}", limit=8, seed=1, progress=Progress(listen=seen.append))
    assert (seen[-1].stage, seen[-1].done, seen[-1].total, seen[-1].unit) == ("checking images", 8, 8, "images")
    assert len(manifest) + manifest.problems["sample_id"].str.match("cat/empty|dog/(text|half)").sum() == 8
    assert Manifest.read(f"folder:{pets}", limit=8, seed=1).digest() == manifest.digest()
    assert list(manifest.ids) == sorted(manifest.ids)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"val_fraction": 0.9}, "held-out share is 0.9"),
        ({"val_fraction": -0.1}, "held-out share is -0.1"),
        ({"val_fraction": float("nan")}, "held-out share is nan"),
        ({"limit": 1}, "limit is 1 rows"),
    ],
)
def test_settings_are_checked(pets: Path, settings, message) -> None:
    with pytest.raises(SettingsError, match=message):
        Manifest.read(f"folder:{pets}", **settings)


def test_too_little_to_train_on_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"has no usable image\. Check the source"):
        Manifest.read(f"folder:{tmp_path / 'empty'}")
    put(tmp_path / "one" / "cat" / "1.png", png())
    put(tmp_path / "one" / "dog" / "1.png", b"")
    with pytest.raises(
        InputError, match=r"1 class, 'cat' \(1 were set aside, the first, dog/1.png: the file is empty\)"
    ):
        Manifest.read(f"folder:{tmp_path / 'one'}")
    put(tmp_path / "t.csv", b"path,label,split\none/cat/1.png,a,test\n")
    with pytest.raises(InputError, match=r"no rows in the split train, only in test"):
        Manifest.read(f"table:{tmp_path / 't.csv'}")


def test_a_stop_ends_the_check(pets: Path) -> None:
    with pytest.raises(Stopped, match="checking images"):
        Manifest.read(f"folder:{pets}", progress=Progress(should_stop=lambda: True))


def test_digits_in_full() -> None:
    manifest = Manifest.read("digits")
    assert (len(manifest), len(manifest.problems), len(manifest.classes)) == (1797, 0, 10)
    assert (manifest.rows["given_label"] != manifest.rows["true_label"]).sum() == 180
    assert not manifest.source.flip
    assert open_source(manifest.source.spec, manifest.source.options).rows().frame["given_label"].tolist() == (
        manifest.rows["given_label"].tolist()
    )


def test_groups_are_kept(tmp_path: Path) -> None:
    for row in range(2):
        put(tmp_path / f"{row}.png", png())
    put(tmp_path / "t.csv", b"path,label,patient\n0.png,a,p1\n1.png,b,\n")
    manifest = Manifest.read(f"table:{tmp_path / 't.csv'}", options=SourceOptions(group_column="patient"))
    assert manifest.rows["group"].tolist() == ["p1", None]


def test_reading_needs_no_torch() -> None:
    code = "import sys, core.data.manifest; sys.exit(bool({'torch', 'sklearn', 'umap', 'numba'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0


@pytest.mark.skipif(not (DATA / "cifar10_test.parquet").exists(), reason=f"no real data in {DATA}")
def test_cifar10_with_its_human_labels() -> None:
    manifest = Manifest.read(
        f"table:{DATA / 'cifar10_train.parquet'}", labels=f"{DATA / 'cifar10n_labels.npz'}:worse", limit=500
    )
    assert len(manifest) == 500
    assert manifest.classes[:3] == ("airplane", "automobile", "bird")
    assert manifest.problems.empty
    assert set(manifest.rows["width"]) == {32}
    with pytest.raises(InputError, match=r"write cifar10n_labels.npz:KEY with one of clean, worse, aggre"):
        Manifest.read(f"table:{DATA / 'cifar10_train.parquet'}", labels=str(DATA / "cifar10n_labels.npz"))


# --- what travels along, and rows without images ---


def test_columns_travel_along_and_come_back(tmp_path: Path) -> None:
    for row in range(4):
        put(tmp_path / f"{row}.png", png(value=row))
    put(
        tmp_path / "t.csv",
        b"path,label,annotator,camera id,group\n0.png,a,7,x,g\n1.png,b,,y,g\n2.png,a,8,,h\n3.png,b,7,x,\n",
    )
    spec, options = f"table:{tmp_path / 't.csv'}", SourceOptions(meta_columns=["annotator", "camera id"])
    manifest = Manifest.read(spec, options=options, val_fraction=0)
    assert list(manifest.meta) == ["meta_annotator", "meta_camera id"]
    assert manifest.meta["meta_annotator"].tolist() == ["7", None, "8", "7"]
    assert manifest.meta["meta_camera id"].tolist() == ["x", "y", None, "x"]
    assert manifest.rows["group"].tolist() == ["g", "g", "h", None]
    plain = Manifest.read(spec, val_fraction=0)
    assert (plain.digest(), plain.meta_digest()) == (manifest.digest(), "")
    assert (
        len(
            {
                manifest.meta_digest(),
                Manifest.read(spec, options=SourceOptions(meta_columns=["annotator"])).meta_digest(),
            }
        )
        == 2
    )
    manifest.save(tmp_path / "m.parquet")
    again = Manifest.load(tmp_path / "m.parquet", tmp_path / "none", manifest.source, manifest.classes)
    pd.testing.assert_frame_equal(again.rows, manifest.rows)
    limited = Manifest.read(spec, options=options, val_fraction=0, limit=2)
    assert limited.meta["meta_annotator"].tolist() == [
        dict(zip(manifest.ids, manifest.meta["meta_annotator"], strict=True))[name] for name in limited.ids
    ]


def test_a_column_that_is_not_there_cannot_travel(pets: Path) -> None:
    with pytest.raises(InputError, match="no metadata.csv, so it has no columns to name"):
        Manifest.read(f"folder:{pets}", options=SourceOptions(meta_columns=["annotator"]))
    with pytest.raises(InputError, match="digits has no further columns, so 'annotator' cannot travel along"):
        Manifest.read("digits", options=SourceOptions(meta_columns=["annotator"]))


def test_metadata_of_a_folder_travels_along(tmp_path: Path) -> None:
    for row in range(2):
        put(tmp_path / f"{row}.png", png())
    put(tmp_path / "metadata.csv", b"file_name,label,batch\n0.png,a,1\n1.png,b,2\n")
    manifest = Manifest.read(f"folder:{tmp_path}", options=SourceOptions(meta_columns=["batch"]), val_fraction=0)
    assert manifest.meta["meta_batch"].tolist() == ["1", "2"]


def test_rows_without_images(tmp_path: Path) -> None:
    put(tmp_path / "t.csv", b"sample_id,label,split\na,cat,train\nb,dog,train\nc,cat,val\nd,,train\n")
    seen = []
    manifest = Manifest.read(f"table:{tmp_path / 't.csv'}", progress=Progress(listen=seen.append))
    assert seen == []
    assert not manifest.has_images
    assert manifest.rows[["sample_id", "sha256", "filepath", "width"]].to_numpy().tolist() == [
        [name, "", "", 0] for name in "abc"
    ]
    assert manifest.problems["reason"].tolist() == ["no label"]
    assert {str(error) for _, error in manifest.source.read(["a", "b"])} == {"the row has no image"}
    manifest.save(tmp_path / "m.parquet")
    again = Manifest.load(tmp_path / "m.parquet", tmp_path / "none", manifest.source, manifest.classes)
    pd.testing.assert_frame_equal(again.rows, manifest.rows)
    assert Manifest.read("digits", limit=20).has_images
    put(tmp_path / "noid.csv", b"name,label\na,cat\nb,dog\n")
    with pytest.raises(InputError, match=r"no image column.*or, for rows without images, the column of their ids"):
        Manifest.read(f"table:{tmp_path / 'noid.csv'}")
    named = Manifest.read(f"table:{tmp_path / 'noid.csv'}", options=SourceOptions(id_column="name"), val_fraction=0)
    assert (named.ids.tolist(), named.has_images) == (["a", "b"], False)


def test_an_export_of_rows_without_images_has_none_either(tmp_path: Path) -> None:
    put(tmp_path / "t.csv", b"sample_id,label\na,cat\nb,dog\n")
    (tmp_path / "out").mkdir()
    rows = b"sample_id,filepath,given_label,final_label,action,meta_annotator\na,,cat,dog,relabel,7\nb,,dog,,keep,\n"
    put(tmp_path / "out" / "manifest.csv", rows + b"c,,dog,,exclude,\n" + b"d,,cat,,keep,8\n")
    run = {"tool": "gradsift", "source": {"spec": f"table:{tmp_path / 't.csv'}", "options": {"meta_columns": []}}}
    put(tmp_path / "out" / "run.json", json.dumps(run).encode())
    manifest = Manifest.read(f"table:{tmp_path / 'out' / 'manifest.csv'}", val_fraction=0)
    assert not manifest.has_images
    assert manifest.rows[["sample_id", "given_label", "meta_annotator"]].to_numpy().tolist() == [
        ["a", "dog", "7"], ["b", "dog", None], ["d", "cat", "8"],
    ]  # fmt: skip


@pytest.mark.skipif(not (DATA / "cifar10_test.parquet").exists(), reason=f"no real data in {DATA}")
def test_a_thousand_human_labels_in_a_zip_file() -> None:
    path = DATA / "imagefolder_cifar10n_worse_1000.zip"
    manifest = Manifest.read(f"zip:{path}")
    assert (len(manifest), len(manifest.classes)) == (1000, 10)
    assert manifest.problems[["sample_id", "reason"]].to_numpy().tolist() == [["truth.csv", "not an image file"]]
