"""What each kind of source lists, reads and refuses."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from core.data.sources import SOURCES, SourceKind, SourceOptions, open_source, register
from core.data.sources.label_files import read_labels
from core.data.sources.labels import name_labels, read_classes, split_column
from core.errors import InputError


def png(value: int = 0) -> bytes:
    target = io.BytesIO()
    Image.new("L", (4, 4), value).save(target, format="PNG")
    return target.getvalue()


def put(path: Path, data: bytes | str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png() if data is None else data.encode() if isinstance(data, str) else data)
    return path


def listed(source) -> dict[str, tuple]:
    frame = source.rows().frame
    return {row.sample_id: (row.given_label, row.split) for row in frame.itertuples()}


def reasons(source) -> dict[str, str]:
    problems = source.rows().problems
    assert list(problems.columns) == ["sample_id", "filepath", "reason"]
    return dict(zip(problems["sample_id"], problems["reason"], strict=True))


# --- the table of sources ---


def test_each_source_says_what_it_is() -> None:
    for kind in SOURCES:
        assert kind.example.split(":")[0] == kind.name
        assert kind.title
        assert kind.meaning


def test_a_name_taken_twice_names_both() -> None:
    kinds = [SourceKind("x", title, "", "x", lambda rest, options: None) for title in ("First", "Second")]
    with pytest.raises(ValueError, match=r"'x': 'First' and 'Second'"):
        register(*kinds)


def test_an_unknown_source_lists_the_known() -> None:
    with pytest.raises(InputError, match=r"Unknown source 'tar:x'.*digits.*folder:pets.*table:pets.parquet"):
        open_source("tar:x")


# --- digits ---


def test_digits_have_180_planted_errors_beside_the_truth() -> None:
    rows = open_source("digits").rows()
    frame = rows.frame
    assert (len(frame), len(rows.problems), rows.classes) == (1797, 0, tuple("0123456789"))
    assert (frame["given_label"] != frame["true_label"]).sum() == 180
    assert frame["sample_id"].iloc[12] == "digits/00012.png"
    assert not open_source("digits").flip
    other = open_source("digits", SourceOptions(seed=1)).rows().frame
    assert (other["given_label"] != frame["given_label"]).any()
    assert (other["true_label"] == frame["true_label"]).all()


def test_digits_take_nothing_more() -> None:
    with pytest.raises(InputError, match="takes nothing after it, but got 'x'"):
        open_source("digits:x")


# --- folders ---


def test_class_folders(tmp_path: Path) -> None:
    for name in ("dog/1.png", "cat/1.png", "cat/deep/2.JPG", "cat/.hidden.png", ".git/x.png", "loose.png"):
        put(tmp_path / name)
    put(tmp_path / "cat" / "notes.txt", "hello")
    source = open_source(f"folder:{tmp_path}")
    expected = {"loose.png": None, "cat/1.png": "cat", "cat/deep/2.JPG": "cat", "dog/1.png": "dog"}
    assert listed(source) == {name: (label, None) for name, label in expected.items()}
    assert reasons(source) == {"cat/notes.txt": "not an image file"}
    assert source.flip
    frame = source.rows().frame
    assert frame["filepath"].tolist() == [str(tmp_path / name) for name in frame["sample_id"]]
    assert dict(source.read(["dog/1.png"])) == {"dog/1.png": png()}


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_split_folders(tmp_path: Path, name: str) -> None:
    for path in ("train/cat/1.png", f"{name}/cat/1.png", "test/dog/1.png", "extra/dog/1.png"):
        put(tmp_path / path)
    source = open_source(f"folder:{tmp_path}")
    assert listed(source) == {
        "train/cat/1.png": ("cat", "train"),
        f"{name}/cat/1.png": ("cat", name),
        "test/dog/1.png": ("dog", "test"),
    }
    assert reasons(source) == {"extra/dog/1.png": f"not in one of the folders train, {name}, test"}


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for path in ("train/1.png", "bus/1.png", "test/1.png"):
        put(tmp_path / path)
    assert listed(open_source(f"folder:{tmp_path}"))["train/1.png"] == ("train", None)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_metadata_beside_the_images(tmp_path: Path, ending: str) -> None:
    for path in ("a/1.png", "a/2.png", "b/1.png"):
        put(tmp_path / path)
    rows = pd.DataFrame(
        {
            "file_name": ["b/1.png", "./a/1.png", "gone.png", "../x.png", "a/1.png"],
            "label": ["dog", "cat", "cat", "x", "y"],
        }
    )
    path = tmp_path / f"metadata.{ending}"
    if ending == "csv":
        rows.to_csv(path, index=False)
    elif ending == "jsonl":
        rows.to_json(path, orient="records", lines=True)
    else:
        rows.to_parquet(path)
    source = open_source(f"folder:{tmp_path}")
    assert listed(source) == {"b/1.png": ("dog", None), "a/1.png": ("cat", None)}
    assert source.rows().n_read == 5
    assert reasons(source) == {
        "a/2.png": f"not listed in metadata.{ending}",
        "gone.png": "listed in the metadata, but no such file",
        "../x.png": "the metadata names a file outside the folder",
        "a/1.png": "duplicate id; the first row of this id is kept",
    }


def test_metadata_in_each_split(tmp_path: Path) -> None:
    for split in ("train", "test"):
        put(tmp_path / split / "1.png")
        put(tmp_path / split / "metadata.csv", f"file_name,label\n1.png,{split}er\n")
    assert listed(open_source(f"folder:{tmp_path}")) == {
        "train/1.png": ("trainer", "train"),
        "test/1.png": ("tester", "test"),
    }


def test_links_that_leave_and_links_that_loop(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", put(tmp_path / "outside.png")
    put(root / "cat" / "1.png")
    (root / "cat" / "in.png").symlink_to(root / "cat" / "1.png")
    (root / "cat" / "out.png").symlink_to(outside)
    (root / "cat" / "folder-out").symlink_to(tmp_path)
    (root / "cat" / "loop").symlink_to(root)
    (root / "cat" / "self.png").symlink_to("self.png")
    (root / "cat" / "nothing.png").symlink_to("nowhere.png")
    source = open_source(f"folder:{root}")
    assert set(listed(source)) == {"cat/1.png", "cat/in.png"}
    found = reasons(source)
    assert found.pop("cat/self.png").startswith("the file cannot be reached (")
    assert found == {
        "cat/out.png": "a link that leaves the folder",
        "cat/folder-out": "a link that leaves the folder",
        "cat/loop": "a link to another folder; its images are read where they lie",
        "cat/nothing.png": "no such file",
    }


def test_a_named_pipe_does_not_hang(tmp_path: Path) -> None:
    put(tmp_path / "cat" / "1.png")
    os.mkfifo(tmp_path / "cat" / "pipe.png")
    source = open_source(f"folder:{tmp_path}")
    assert reasons(source) == {"cat/pipe.png": "not a regular file (a pipe, socket or device)"}


def test_a_file_that_turns_into_a_pipe_does_not_hang(tmp_path: Path) -> None:
    path = put(tmp_path / "cat" / "1.png")
    source = open_source(f"folder:{tmp_path}")
    source.rows()
    path.unlink()
    os.mkfifo(path)
    [(_, error)] = source.read(["cat/1.png"])
    assert str(error) == "not a regular file (a pipe, socket or device)"


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "cat" / "1.png")
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/cat/\xff.png"))).write_bytes(png())
    assert reasons(open_source(f"folder:{tmp_path}")) == {"cat/\\udcff.png": "the name is not valid UTF-8"}


def test_only_listed_images_are_read(tmp_path: Path) -> None:
    put(tmp_path / "secret.png")
    put(tmp_path / "root" / "cat" / "1.png")
    [(_, error)] = open_source(f"folder:{tmp_path / 'root'}").read(["../secret.png"])
    assert str(error) == "no such image in the folder"


@pytest.mark.parametrize(
    ("rest", "options", "message"),
    [
        ("", SourceOptions(), "needs a path"),
        ("gone", SourceOptions(), "gone does not exist"),
        ("file.png", SourceOptions(), "file.png is not a folder"),
        (".", SourceOptions(label_column="x"), "no metadata.csv, so it has no columns"),
    ],
)
def test_folders_that_cannot_be_used(tmp_path: Path, monkeypatch, rest, options, message) -> None:
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "file.png")
    with pytest.raises(InputError, match=message):
        open_source(f"folder:{rest}", options).rows()


def test_a_spec_means_the_same_from_any_folder(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "pets" / "cat" / "1.png")
    assert open_source("folder:pets").spec == f"folder:{tmp_path / 'pets'}"


# --- tables ---


def test_a_csv_of_paths(tmp_path: Path) -> None:
    absolute = put(tmp_path / "elsewhere" / "b.png")
    put(tmp_path / "set" / "a.png")
    put(tmp_path / "secret.png")
    (tmp_path / "set" / "link.png").symlink_to(tmp_path / "secret.png")
    rows = [
        "a.png,NA,train,g1",
        f"{absolute},cat,,",
        "../secret.png,cat,,",
        "link.png,cat,,",
        "no.png,cat,,",
        ",cat,,",
        "a",
    ]
    put(tmp_path / "set" / "t.csv", "\ufefffilepath,label,split,group\n" + "\n".join(rows) + "\n")
    source = open_source(f"table:{tmp_path / 'set' / 't.csv'}")
    frame, leaves = (
        source.rows().frame,
        "the path leaves the table's folder; write it as an absolute path if that is meant",
    )
    assert frame["sample_id"].tolist() == ["00000000", "00000001"]  # one path is missing, so paths are no ids
    assert frame["filepath"].tolist() == [str(tmp_path / "set" / "a.png"), str(absolute)]
    assert frame["given_label"].tolist() == ["NA", "cat"]
    assert frame["split"].tolist() == ["train", None]
    assert frame["group"].tolist() == ["g1", None]
    assert source.rows().n_read == 7
    assert reasons(source) == {
        "00000002": leaves,
        "00000003": leaves,
        "00000004": "no such file",
        "00000005": "no path",
        "00000006": "line 8 has 1 fields, the header 4",
    }
    assert dict(source.read(["00000001"])) == {"00000001": png()}


def test_ids_are_the_id_column_else_unique_paths(tmp_path: Path) -> None:
    for name in ("cat/1.png", "dog/1.png"):
        put(tmp_path / name)
    put(tmp_path / "t.tsv", "path\tlabel\tkey\tid\ncat/1.png\tcat\tk1\ti1\ndog/1.png\tdog\tk1\ti2\n")
    spec = f"table:{tmp_path / 't.tsv'}"
    assert list(listed(open_source(spec))) == ["i1", "i2"]
    assert reasons(open_source(spec, SourceOptions(id_column="key"))) == {
        "k1": "duplicate id; the first row of this id is kept"
    }
    put(tmp_path / "u.csv", "path,label\ncat/1.png,cat\ndog/1.png,dog\n")
    assert list(listed(open_source(f"table:{tmp_path / 'u.csv'}"))) == ["cat/1.png", "dog/1.png"]


def test_json_lines(tmp_path: Path) -> None:
    put(tmp_path / "1.png")
    lines = [
        {"path": "1.png", "label": 3},
        {"path": "1.png", "label": True},
        {"path": "\ud800.png", "label": 1},
        {"path": "a\0b", "label": 1},
        {"path": "1.png"},
    ]
    put(tmp_path / "t.jsonl", "\n".join([*map(json.dumps, lines), "", "{broken", "[1]", "[" * 100_000]))
    source = open_source(f"table:{tmp_path / 't.jsonl'}")
    assert listed(source) == {"00000000": ("3", None), "00000001": ("True", None), "00000004": (None, None)}
    assert reasons(source) == {
        "00000002": "the name is not valid UTF-8",
        "00000003": "the name holds a zero byte",
        "00000005": "line 7 is not a JSON object",
        "00000006": "line 8 is not a JSON object",
        "00000007": "line 9 is not a JSON object",
    }


def hugging_face(path: Path, labels: list[int], cells: list[dict], group_rows: int = 2, names=("cat", "dog")) -> None:
    info = {"info": {"features": {"label": {"names": list(names), "_type": "ClassLabel"}}}}
    table = pa.table({"image": pa.array(cells), "label": pa.array(labels, pa.int64())})
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(info)}), path, row_group_size=group_rows)


def test_images_in_the_rows_as_hugging_face_writes_them(tmp_path: Path) -> None:
    put(tmp_path / "on-disk.png", png(9))
    cells = [{"bytes": png(row), "path": f"{row}.png"} for row in range(5)]
    cells += [{"bytes": None, "path": "on-disk.png"}, {"bytes": None, "path": "../out.png"}]
    hugging_face(tmp_path / "t.parquet", [0, 1, -1, 0, 1, 0, 1], cells)
    source = open_source(f"table:{tmp_path / 't.parquet'}")
    rows = source.rows()
    assert rows.classes == ("cat", "dog")
    assert rows.frame["given_label"].tolist() == ["0", "1", None, "0", "1", "0", "1"]
    assert set(rows.frame["filepath"]) == {""}
    read = dict(source.read(["4.png", "on-disk.png", "0.png", "../out.png", "unknown"]))
    assert list(read) == ["unknown", "0.png", "4.png", "on-disk.png", "../out.png"]
    assert (read["0.png"], read["4.png"], read["on-disk.png"]) == (png(0), png(4), png(9))
    assert str(read["unknown"]) == "no such row in the table"
    assert "leaves the table's folder" in str(read["../out.png"])


def test_plain_bytes_and_a_missing_image(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [png(1), None], "class": ["a", "b"], "path": ["x", "y"]}), tmp_path / "t.parquet")
    source = open_source(f"table:{tmp_path / 't.parquet'}")
    read = dict(source.read(["00000000", "00000001"]))
    assert read["00000000"] == png(1)
    assert str(read["00000001"]) == "the row holds no image"


def test_labels_with_gaps_have_no_decimal_point(tmp_path: Path) -> None:
    put(tmp_path / "1.png")
    pd.DataFrame({"id": ["a", "b"], "path": "1.png", "label": [3.0, None]}).to_parquet(tmp_path / "t.parquet")
    assert listed(open_source(f"table:{tmp_path / 't.parquet'}")) == {"a": ("3", None), "b": (None, None)}


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
def test_text_that_is_not_utf8_or_not_a_table(tmp_path: Path, name: str) -> None:
    put(tmp_path / name, "path,label\nGr\u00f6\u00dfe.png,cat\n".encode("latin-1"))
    message = "no whole Parquet file" if name.endswith("parquet") else "not in the encoding UTF-8 .byte 0xf6"
    with pytest.raises(InputError, match=message):
        open_source(f"table:{tmp_path / name}")


def test_a_parquet_file_cut_short(tmp_path: Path) -> None:
    hugging_face(tmp_path / "t.parquet", [0, 1], [{"bytes": png(), "path": "a"}, {"bytes": png(), "path": "b"}])
    whole = (tmp_path / "t.parquet").read_bytes()
    put(tmp_path / "cut.parquet", whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cut short or damaged"):
        open_source(f"table:{tmp_path / 'cut.parquet'}")


@pytest.mark.parametrize(
    ("name", "text", "options", "message"),
    [
        ("t.xlsx", "x", SourceOptions(), "t.xlsx is no table.*csv.*parquet"),
        ("t.csv", "", SourceOptions(), "is empty"),
        ("t.jsonl", "\n", SourceOptions(), "holds no rows"),
        ("t.csv", "a,b\n1,2\n", SourceOptions(), "has no image column.*columns are a, b"),
        ("t.csv", "path,b\n1,2\n", SourceOptions(label_column="lable"), "'lable' is not there.*columns are path, b"),
        ("t.csv", "path,label,label\n1,2,3\n", SourceOptions(), "'label' is there 2 times"),
        ("t.csv", 'path,label\n"' + "x" * 200_000, SourceOptions(), "cannot be read as CSV"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, name, text, options, message) -> None:
    put(tmp_path / name, text)
    with pytest.raises(InputError, match=message):
        open_source(f"table:{tmp_path / name}", options).rows()


def test_a_table_that_is_a_pipe_or_not_there(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "t.csv")
    with pytest.raises(InputError, match="not a regular file"):
        open_source(f"table:{tmp_path / 't.csv'}")
    with pytest.raises(InputError, match="no such file"):
        open_source(f"table:{tmp_path / 'gone.csv'}")


# --- GradSift's own exports ---


def export(
    folder: Path, rows: list[str], source: dict | None, columns="sample_id,filepath,given_label,final_label,action"
):
    put(folder / "manifest.csv", columns + "\n" + "\n".join(rows) + "\n")
    if source is not None:
        put(folder / "run.json", json.dumps({"tool": "gradsift", "source": source, "classes": ["z", "a", "=b"]}))
    return open_source(f"table:{folder / 'manifest.csv'}")


def test_an_export_opens_as_the_cleaned_set(tmp_path: Path) -> None:
    put(tmp_path / "1.png")
    source = export(
        tmp_path,
        [
            "digits/00000.png,,a,,undecided",
            "digits/00001.png,,a,'=b,relabel",
            "digits/00002.png,,a,,exclude",
            "'-x,1.png,z,,keep",
        ],
        {"spec": "digits", "options": {"seed": 0, "id_column": None, "unknown": 1}},
    )
    assert listed(source) == {
        "digits/00000.png": ("a", None),
        "digits/00001.png": ("=b", None),
        "-x": ("z", None),
    }
    assert reasons(source) == {"digits/00002.png": "excluded by an earlier review"}
    assert source.rows().classes == ("z", "a", "=b")
    assert not source.flip
    read = dict(source.read(["-x", "digits/00001.png"]))
    assert read["-x"] == png()
    assert read["digits/00001.png"] == dict(open_source("digits").read(["digits/00001.png"]))["digits/00001.png"]


def test_exactly_one_guard_is_taken_off_and_only_in_an_export(tmp_path: Path) -> None:
    put(tmp_path / "1.png")
    rows = ["'=1,1.png,a,,", "'plain,1.png,a,,", "''=2,1.png,a,,", "'\t3,1.png,a,,"]
    assert list(listed(export(tmp_path, rows, None))) == ["=1", "'plain", "'=2", "\t3"]
    put(tmp_path / "other.csv", "id,path,label\n'=1,1.png,a\n")
    assert list(listed(open_source(f"table:{tmp_path / 'other.csv'}"))) == ["'=1"]


def test_the_cleaned_table_finds_its_images_too(tmp_path: Path) -> None:
    source = export(
        tmp_path, ["digits/00003.png,,train,a"], {"spec": "digits", "options": {}}, "sample_id,filepath,split,label"
    )
    assert listed(source) == {"digits/00003.png": ("a", "train")}
    assert isinstance(dict(source.read(["digits/00003.png"]))["digits/00003.png"], bytes)


def test_an_export_without_its_run_says_what_is_missing(tmp_path: Path) -> None:
    source = export(tmp_path, ["x,,a,,keep"], None)
    assert reasons(source) == {"x": "no path, and no run.json beside the table names the source"}


def test_an_export_of_an_export_is_followed_and_a_circle_is_not(tmp_path: Path) -> None:
    export(tmp_path / "one", ["digits/00000.png,,a,,keep"], {"spec": "digits"})
    two = export(
        tmp_path / "two", ["digits/00000.png,,a,,keep"], {"spec": f"table:{tmp_path / 'one' / 'manifest.csv'}"}
    )
    assert isinstance(dict(two.read(["digits/00000.png"]))["digits/00000.png"], bytes)
    export(tmp_path / "one", ["digits/00000.png,,a,,keep"], {"spec": two.spec})
    circle = open_source(two.spec)
    with pytest.raises(InputError, match="names its own table as the source"):
        dict(circle.read(["digits/00000.png"]))


# --- labels and classes ---


def test_a_colon_in_a_path_is_not_always_a_column(tmp_path: Path) -> None:
    odd = put(tmp_path / "a:b.csv", "x")
    assert split_column(str(odd)) == (odd, None)
    assert split_column(f"{odd}:col") == (odd, "col")
    assert split_column("labels.npz:worse") == (Path("labels.npz"), "worse")
    assert split_column("labels.npz") == (Path("labels.npz"), None)


def test_labels_by_id_and_by_row(tmp_path: Path) -> None:
    put(tmp_path / "l.csv", "sample_id,label,mine\na,1,x\nb,2,y\n")
    table = read_labels(str(tmp_path / "l.csv"))
    assert (table.ids, table.values) == (("a", "b"), ("1", "2"))
    assert read_labels(f"{tmp_path / 'l.csv'}:mine").values == ("x", "y")
    np.savez(tmp_path / "l.npz", one=np.array([1, 2], np.uint8), two=np.array(["p", "q"]))
    assert read_labels(f"{tmp_path / 'l.npz'}:one").values == ("1", "2")
    assert read_labels(f"{tmp_path / 'l.npz'}:two").values == ("p", "q")
    np.save(tmp_path / "l.npy", np.array([1.0, np.nan]))
    assert read_labels(str(tmp_path / "l.npy")).values == ("1", None)


def test_label_files_that_cannot_be_used(tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", one=np.zeros(2), two=np.zeros(2))
    np.save(tmp_path / "square.npy", np.zeros((2, 2)))
    np.save(tmp_path / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    put(tmp_path / "broken.npz", "no archive")
    put(tmp_path / "twice.csv", "id,label\na,1\na,2\n")
    put(tmp_path / "noid.csv", "label,x\n1,2\n")
    put(tmp_path / "nolabel.csv", "id,x,y\n1,2,3\n")
    put(tmp_path / "l.txt", "1")
    expected = {
        "two.npz": "holds 2 arrays; write two.npz:KEY with one of one, two",
        "two.npz:x": "has no array 'x'; write two.npz:KEY with one of one, two",
        "square.npy": r"float64 \(2, 2\); labels are one number or text each",
        "pickled.npy": "damaged, or pickled objects",
        "broken.npz": "damaged, or pickled objects",
        "twice.csv": "gives 'a' two labels, '1' and '2'",
        "twice.csv:x": "'x' is not there in .*columns are id, label",
        "noid.csv": "no column sample_id to join the labels by; its columns are label, x",
        "nolabel.csv": "no column label; its columns are id, x, y. Write nolabel.csv:COLUMN",
        "gone.csv": "no such file",
        "l.txt": "is no label file",
    }
    for name, message in expected.items():
        with pytest.raises(InputError, match=message):
            read_labels(str(tmp_path / name))


@pytest.mark.parametrize(
    ("labels", "classes", "named", "ordered"),
    [
        (["10", "9", "9"], None, ["10", "9", "9"], ("9", "10")),
        (["b", "a", "10"], None, ["b", "a", "10"], ("10", "a", "b")),
        (["2.0", "1.0"], None, ["2", "1"], ("1", "2")),
        (["0", "1"], ("z", "a"), ["z", "a"], ("z", "a")),
        (["a", "z"], ("z", "a"), ["a", "z"], ("z", "a")),
        (["1", "2"], ("1", "2"), ["1", "2"], ("1", "2")),
    ],
)
def test_labels_become_names(labels, classes, named, ordered) -> None:
    assert name_labels(labels, labels, classes) == (named, ordered)


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        (
            ["cat", "dgo", "dgo"],
            ("cat", "dog"),
            r"^Label 'dgo' \(sample s1\) is not among the 2 classes \(cat, dog\); 2 rows have such a label\. "
            r"Fix the row, or name it in the class file\.$",
        ),
        (["0", "2"], ("cat", "dog"), "Label '2' .sample s1. is not among the 2 classes .*1 row has"),
        (["cat", "1"], ("cat", "dog"), "Label '1' .sample s1."),
        (["0", "1"], ("1", "0"), "a label could mean two classes"),
    ],
)
def test_labels_that_are_no_class(labels, classes, message) -> None:
    with pytest.raises(InputError, match=message):
        name_labels(labels, [f"s{row}" for row in range(len(labels))], classes)


def test_class_files(tmp_path: Path) -> None:
    assert read_classes(put(tmp_path / "c.txt", "\ufeffdog\ncat \n\n")) == ("dog", "cat")
    for text, message in {"a\na\nb\n": "'a' is named twice", "a\n": "There are 1 class names"}.items():
        with pytest.raises(InputError, match=message):
            read_classes(put(tmp_path / "c.txt", text))
    with pytest.raises(InputError, match="not in the encoding UTF-8"):
        read_classes(put(tmp_path / "c.txt", b"\xff\xfe"))
    with pytest.raises(InputError, match="no such file"):
        read_classes(tmp_path / "gone")
