"""Labels from files of their own: the shapes in which people have them, and what is refused."""

import io
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from core.data.manifest import Manifest
from core.data.sources.base import SourceRows, problems_frame
from core.data.sources.label_files import PICKLED, read_labels
from core.data.sources.labels import LabelTable
from core.errors import InputError


def png() -> bytes:
    target = io.BytesIO()
    Image.new("L", (4, 4)).save(target, format="PNG")
    return target.getvalue()


def by_id(path: Path | str) -> dict[str, str | None]:
    table = read_labels(str(path))
    assert table.ids is not None
    return dict(zip(table.ids, table.values, strict=True))


def put(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_an_npz_with_ids(tmp_path: Path) -> None:
    np.savez(tmp_path / "l.npz", sample_id=np.array(["b", "a"]), worse=np.array([1, 2]), clean=np.array([3, 4]))
    assert by_id(f"{tmp_path / 'l.npz'}:worse") == {"b": "1", "a": "2"}
    with pytest.raises(InputError, match=r"holds 3 arrays; write l.npz:KEY with one of worse, clean"):
        read_labels(str(tmp_path / "l.npz"))
    np.savez(tmp_path / "m.npz", ids=np.array(["b", "a"]), label=np.array(["x", "y"]), other=np.zeros(2))
    assert by_id(tmp_path / "m.npz") == {"b": "x", "a": "y"}
    np.savez(tmp_path / "n.npz", ids=np.array(["b", "b"]), label=np.array(["x", "y"]))
    with pytest.raises(InputError, match="gives 'b' two labels, 'x' and 'y'"):
        read_labels(str(tmp_path / "n.npz"))


JSON = {
    "a mapping": ({"a/1": "cat", "a/2": 3, "a/3": None}, {"a/1": "cat", "a/2": "3", "a/3": None}),
    "fiftyone": ({"classes": ["cat", "dog"], "labels": {"a": 1, "b": 0, "c": -1}}, {"a": "dog", "b": "cat", "c": None}),
    "rows": ([{"sample_id": "a", "label": 1, "x": 2}, {"sample_id": "b"}], {"a": "1", "b": None}),
    "one row of json lines": ({"id": "a", "label": "cat"}, {"a": "cat"}),
}  # fmt: skip


@pytest.mark.parametrize("name", JSON)
def test_json(tmp_path: Path, name: str) -> None:
    document, expected = JSON[name]
    assert by_id(put(tmp_path / "l.json", json.dumps(document))) == expected


def test_json_lines_under_the_name_of_json(tmp_path: Path) -> None:
    rows = '{"id": "a", "label": "cat"}\n{"id": "b", "label": "dog"}\n'
    assert by_id(put(tmp_path / "l.json", rows)) == {"a": "cat", "b": "dog"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": "cat", "a": "dog"}', "gives 'a' two labels, 'cat' and 'dog'"),
        ('{"a": [1, 2]}', "something that is no label"),
        ("[1, 2]", "neither one object of labels by id nor a list of rows"),
        ('[{"x": 1}]', "needs sample_id and label in its rows; it has x"),
        ('{"a": ', "has no column|holds no rows"),
    ],
)
def test_json_that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_labels(str(put(tmp_path / "l.json", text)))


def cleanlab_issues() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "is_label_issue": [True, False, False],
            "label_score": [0.1, 0.9, 0.8],
            "given_label": ["dog", "cat", "cat"],
            "predicted_label": ["cat", "cat", "cat"],
        },
        index=["a/1.png", "a/2.png", "b/1.png"],
    )


def test_cleanlab_s_issues_by_id(tmp_path: Path) -> None:
    frame = cleanlab_issues()
    frame.to_csv(tmp_path / "unnamed.csv")
    frame.rename_axis("sample_id").to_csv(tmp_path / "named.csv")
    frame.to_parquet(tmp_path / "unnamed.parquet")
    for name in ("unnamed.csv", "named.csv", "unnamed.parquet"):
        assert by_id(tmp_path / name) == {"a/1.png": "dog", "a/2.png": "cat", "b/1.png": "cat"}
    assert by_id(f"{tmp_path / 'unnamed.csv'}:predicted_label")["a/1.png"] == "cat"


@pytest.mark.parametrize("index", [True, False])
def test_cleanlab_s_issues_without_an_id_are_in_the_order_of_the_rows(tmp_path: Path, index: bool) -> None:
    cleanlab_issues().reset_index(drop=True).to_csv(tmp_path / "issues.csv", index=index)
    table = read_labels(str(tmp_path / "issues.csv"))
    assert (table.ids, table.values) == (None, ("dog", "cat", "cat"))


def test_cleanlab_s_own_frame(tmp_path: Path) -> None:
    from cleanlab.filter import find_label_issues  # noqa: F401 -- the frame below is what its Datalab writes
    from cleanlab.rank import get_label_quality_scores

    labels, probabilities = np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
    quality = get_label_quality_scores(labels, probabilities)
    frame = pd.DataFrame({"is_label_issue": quality < 0.5, "label_quality": quality, "given_label": labels})
    frame.index = pd.Index(["x", "y", "z"])
    frame.to_csv(tmp_path / "issues.csv")
    assert by_id(tmp_path / "issues.csv") == {"x": "0", "y": "1", "z": "1"}


class Harm:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("ending", PICKLED)
def test_a_pickle_is_refused_and_never_run(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"CIFAR-10_human{ending}"
    path.write_bytes(pickle.dumps({"worse_label": Harm(tmp_path / "harmed")}))
    with pytest.raises(InputError, match=r"loading one runs whatever code it holds.*numpy.savez"):
        read_labels(f"{path}:worse_label")
    assert not (tmp_path / "harmed").exists()


def test_a_pickled_array_is_refused_and_never_run(tmp_path: Path) -> None:
    np.save(tmp_path / "l.npy", np.array([Harm(tmp_path / "harmed")], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="damaged, or pickled objects"):
        read_labels(str(tmp_path / "l.npy"))
    assert not (tmp_path / "harmed").exists()


# --- labels of the training rows alone ---


def rows(labels: list[str | None], splits: list[str | None], classes: tuple[str, ...] | None = None) -> SourceRows:
    frame = pd.DataFrame({"row": np.arange(len(labels)), "sample_id": [f"s{row}" for row in range(len(labels))]})
    frame = frame.assign(given_label=pd.Series(labels, dtype=object), split=pd.Series(splits, dtype=object))
    return SourceRows(frame, problems_frame(), len(labels), classes)


@pytest.mark.parametrize(
    ("new", "own", "classes", "expected"),
    [
        (("1", "0"), ["0", "1", "1"], ("cat", "dog"), ["dog", "dog", "cat"]),
        (("dog", "cat"), ["0", "1", "1"], ("cat", "dog"), ["dog", "dog", "cat"]),
        (("x", "y"), ["a", "b", "c"], None, ["x", "b", "y"]),
    ],
)
def test_as_many_labels_as_training_rows_are_theirs(new, own, classes, expected) -> None:
    found = LabelTable("l", new).replace_in(rows(own, ["train", "test", "Train "], classes))
    assert found.frame["given_label"].tolist() == expected


def test_any_other_number_is_an_error_that_says_both() -> None:
    source = rows(["a", "b", "c"], ["train", "test", "train"])
    with pytest.raises(
        InputError, match=r"holds 1 labels but the source has 3 rows.*as its rows or its 2 training rows"
    ):
        LabelTable("l", ("x",)).replace_in(source)


def test_a_label_file_of_the_app_lies_inside_its_roots(tmp_path: Path, monkeypatch) -> None:
    put(tmp_path / "l.json", '{"a": "b"}')
    monkeypatch.setenv("GRADSIFT_ROOTS", str(tmp_path / "elsewhere"))
    with pytest.raises(InputError, match="outside the folders this app may read"):
        read_labels(str(tmp_path / "l.json"))


def test_a_mapping_relabels_a_folder(tmp_path: Path) -> None:
    for name in ("a/1.png", "a/2.png", "b/1.png"):
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png())
    put(tmp_path / "l.json", '{"a/1.png": "b", "b/1.png": "a"}')
    manifest = Manifest.read(f"folder:{tmp_path / 'set'}", labels=str(tmp_path / "l.json"), val_fraction=0)
    assert dict(zip(manifest.ids, manifest.rows["given_label"], strict=True)) == {"a/1.png": "b", "b/1.png": "a"}
    assert manifest.problems["reason"].tolist() == ["no label in l.json"]
