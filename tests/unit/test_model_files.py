import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from core.errors import InputError
from core.models.files import read_dynamics, read_features
from tests.helpers import history_of, unchecked

IDS = ["a/1.png", "a/2.png", "b/3.png"]


def features_file(tmp_path: Path, **arrays: object) -> Path:
    path = tmp_path / "f.npz"
    base = {"sample_id": np.array(IDS), "features": np.arange(6.0).reshape(3, 2)}
    np.savez(path, **{name: value for name, value in {**base, **arrays}.items() if value is not None})
    return path


def test_features_are_joined_by_id_and_not_by_position(tmp_path: Path) -> None:
    ids = np.array(["b/3.png", "more", "a/1.png", "a/2.png"])
    values = np.array([[3.0, 3], [9, 9], [1, 1], [2, 2]])
    path = features_file(tmp_path, sample_id=ids, features=values, logits=values * 10)
    features, logits = read_features(path, IDS)
    np.testing.assert_array_equal(features, [[1, 1], [2, 2], [3, 3]])
    np.testing.assert_array_equal(logits, [[10, 10], [20, 20], [30, 30]])
    assert features.dtype == logits.dtype == np.float32


@pytest.mark.parametrize("ids", [np.array(IDS), np.array([name.encode() for name in IDS])])
def test_ids_may_be_text_or_bytes_and_logits_are_optional(ids: np.ndarray, tmp_path: Path) -> None:
    features, logits = read_features(features_file(tmp_path, sample_id=ids), IDS)
    assert logits is None
    np.testing.assert_array_equal(features, np.arange(6.0).reshape(3, 2))


def test_numbers_serve_as_ids_and_half_precision_stays(tmp_path: Path) -> None:
    path = features_file(tmp_path, sample_id=np.arange(3), features=np.ones((3, 2), np.float16))
    assert read_features(path, ["2", "0", "1"])[0].dtype == np.float16


class Evil:
    mark: Path

    def __reduce__(self) -> tuple:
        return eval, (f"open({str(self.mark)!r}, 'w')",)


@pytest.mark.parametrize("name", ["sample_id", "features", "logits"])
def test_objects_are_refused_and_not_unpickled(name: str, tmp_path: Path) -> None:
    Evil.mark = tmp_path / "mark"
    path = features_file(tmp_path, **{name: np.array([Evil(), Evil(), Evil()], dtype=object)})
    with pytest.raises(InputError, match=f"'{name}' in .* is an array of Python objects, .* can run code. Write plain"):
        read_features(path, IDS)
    assert not Evil.mark.exists()


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"features": None}, "has no array 'features'"),
        ({"sample_id": None}, "has no array 'sample_id', but features"),
        (
            {"sample_id": np.array(["a/1.png", "a/2.png", "x"])},
            "lacks 1 of the 3 sample ids, the first 'b/3.png'; its own",
        ),
        ({"sample_id": np.array(["a/1.png", "a/1.png", "b/3.png"])}, "holds the id 'a/1.png' twice"),
        ({"sample_id": np.ones((3, 2))}, "give a row of text"),
        ({"features": np.ones((2, 2))}, r"shape \(2, 2\); give a row of numbers for each of the 3 ids"),
        ({"features": np.ones(3)}, r"of shape \(3,\)"),
        ({"logits": np.array([["x"], ["y"], ["z"]])}, "'logits' in .* is <U1"),
        ({"features": np.array([[1, 2], [3, np.nan], [5, 6]])}, "'features' of sample 'a/2.png' in .* is not finite"),
    ],
)
def test_files_that_do_not_fit_are_refused(arrays: dict, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        read_features(features_file(tmp_path, **arrays), IDS)


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    path = features_file(tmp_path)
    whole = path.read_bytes()
    for content in (b"", b"text", whole[:100], whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(InputError, match="is no archive of numpy arrays that can be read"):
            read_features(path, IDS)
    np.save(tmp_path / "one.npy", np.ones(3))
    with pytest.raises(InputError, match="is no archive of numpy arrays"):
        read_features(tmp_path / "one.npy", IDS)
    with pytest.raises(InputError, match="no such file"):
        read_features(tmp_path / "none.npz", IDS)


def test_arrays_that_fit_no_memory_are_told(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (3, 2**45)})
    path = features_file(tmp_path, features=None)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("features.npy", header.getvalue())
    with pytest.raises(InputError, match="do not fit into memory"):
        read_features(path, IDS)


def drawn_logits(epochs: int = 3, classes: int = 4) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 2, (epochs, len(IDS), classes)).astype(np.float32)


LABELS = np.array([0, 3, 1])


def lines_of(epoch: int, logits: np.ndarray, rows: list[int]) -> str:
    return "".join(
        json.dumps({"guid": IDS[row], f"logits_epoch_{epoch}": logits[row].tolist(), "gold": int(LABELS[row])}) + "\n"
        for row in rows
    )


def test_a_folder_of_epochs_gives_the_history_of_its_logits(tmp_path: Path) -> None:
    logits = drawn_logits(12)
    for epoch, rows in enumerate(logits):  # epoch 10 comes before epoch 2 in the order of names
        (tmp_path / f"dynamics_epoch_{epoch}.jsonl").write_text(lines_of(epoch, rows, [2, 0, 1]))
    history, last = read_dynamics(tmp_path, IDS, LABELS)
    expected = history_of(logits, LABELS).arrays()
    for name, values in history.arrays().items():
        if name in ("learning_rate", "input_norm"):
            assert np.isnan(values).all()
        else:
            np.testing.assert_allclose(values, expected[name], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(last, logits[-1])


def test_one_file_may_hold_every_epoch_a_line_each_or_all_in_a_line(tmp_path: Path) -> None:
    logits = drawn_logits()
    apart, together = tmp_path / "apart.jsonl", tmp_path / "together.jsonl"
    apart.write_text("\n".join(lines_of(epoch, rows, [0, 1, 2]) for epoch, rows in enumerate(logits)))
    together.write_text("".join(
        json.dumps({"guid": IDS[row], **{f"logits_epoch_{e}": logits[e, row].tolist() for e in range(3)}}) + "\n"
        for row in range(3)
    ))  # fmt: skip
    one, other = read_dynamics(apart, IDS, LABELS), read_dynamics(together, IDS, LABELS)
    for name, values in one[0].arrays().items():
        np.testing.assert_array_equal(values, other[0].arrays()[name])
    np.testing.assert_array_equal(one[1], other[1])


def test_samples_that_were_not_trained_on_stay_unknown_and_epochs_close_up(tmp_path: Path) -> None:
    logits, path = drawn_logits(2), tmp_path / "d.jsonl"
    more = json.dumps({"guid": "unheard of", "logits_epoch_9": [0.0] * 4, "gold": 0}) + "\n"
    path.write_text(lines_of(3, logits[0], [0, 1]) + more + lines_of(9, logits[1], [0]))
    history, last = read_dynamics(path, IDS, LABELS)
    assert history.given_logit.shape == (2, 3)
    assert np.isnan(history.given_logit[:, 2]).all()
    assert np.isnan(history.given_logit[1, 1])
    assert np.isnan(last[1:]).all()


def record(**values: object) -> str:
    return json.dumps({"guid": IDS[0], "logits_epoch_0": [0.0, 1, 2, 3], "gold": 0, **values}) + "\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no logits_epoch_0 or the like"),
        (record() + "{cut\n", "Line 2 of .* is no JSON"),
        ('{"logits_epoch_0": [1, 2]}\n', "Line 1 of .* has no guid"),
        ('["logits_epoch_0", "guid"]\n' + record(), "Line 1 of .* has no guid"),
        (record(logits_epoch_0=["x"]), "Line 1 of .* logits that are no numbers"),
        (record(logits_epoch_0=[0.0, 1]), "Line 1 of .* has 2 logits, the data 4 classes or more"),
        (record() + record(logits_epoch_1=[0.0] * 5), "Line 2 of .* not 4 finite numbers"),
        (record() + record(logits_epoch_0=[0.0, 1, 2, float("nan")]), "Line 2 of .* not 4 finite numbers"),
        (record(guid="x"), r"None of the guids in .* its first is 'x', the first sample is 'a/1.png'"),
        (
            "".join(record(logits_epoch_0=[0.0, 1, 0, 0], logits_epoch_1=[0.7, 0.1, 0.1, 0.1]) for _ in "ab"),
            "The logits in .* are probabilities: .* Write what goes into the softmax",
        ),
        (record(gold=2), "others than the given ones on 1 of 1 lines: its classes are in another order"),
    ],
)
def test_dynamics_that_do_not_fit_are_refused(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text(text)
    with unchecked(), pytest.raises(InputError, match=said):
        read_dynamics(path, IDS, LABELS)


def test_a_folder_without_dynamics_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no \.jsonl file"):
        read_dynamics(tmp_path, IDS, LABELS)
    with pytest.raises(InputError, match="no such file"):
        read_dynamics(tmp_path / "none.jsonl", IDS, LABELS)
