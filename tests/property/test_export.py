from __future__ import annotations

import csv
import json
import re
import tempfile
from pathlib import Path

import pandas as pd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.export.formats import guarded, write_csv, write_jsonl, write_parquet
from core.export.manifest import cleaned, export_manifest, manifest_table
from core.review.decisions import Review
from tests.fake_project import CLASSES, FakeProject, findings_table, manifest_rows

QUIET = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
TEXT = st.text(max_size=8)
ROWS = st.lists(
    st.tuples(st.text(min_size=1, max_size=6), st.sampled_from(CLASSES), st.sampled_from(["train", "val"])),
    unique_by=lambda row: row[0],
    min_size=1,
    max_size=8,
)
Rows = list[tuple[str, str, str]]
UNGUARD = re.compile(r"^'(?='*[=+\-@\t\r])")


def project(rows: Rows, folder: str, sifted: bool) -> FakeProject:
    frame = manifest_rows(*(list(column) for column in zip(*rows, strict=True)))
    return FakeProject(Path(folder), frame, findings_table(frame) if sifted else None)


@given(st.text())
def test_taking_the_guard_off_gives_every_text_back(text: str) -> None:
    cell = guarded(text)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert UNGUARD.sub("", cell) == text


@given(st.lists(TEXT, min_size=1, max_size=6), st.floats(allow_nan=False, allow_infinity=False))
@QUIET
def test_any_text_and_number_come_back_from_every_format(texts: list[str], number: float) -> None:
    table = pd.DataFrame({"text": pd.array(texts, dtype="str"), "number": number, "last": "end"})
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("t.csv", "t.parquet", "t.jsonl")]
        for write, path in zip((write_csv, write_parquet, write_jsonl), paths, strict=True):
            write(table, path)
        with paths[0].open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [UNGUARD.sub("", row["text"]) for row in rows] == texts
        assert {float(row["number"]) for row in rows} == {number}
        pd.testing.assert_frame_equal(pd.read_parquet(paths[1]), table)
        lines = [json.loads(line) for line in paths[2].read_bytes().decode().split("\n")[:-1]]
        assert lines == [{"text": text, "number": number, "last": "end"} for text in texts]


@given(ROWS, st.booleans())
@QUIET
def test_an_export_without_decisions_equals_the_input(rows: Rows, sifted: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        given_project = project(rows, folder, sifted)
        out = export_manifest(given_project, Path(folder) / "out", formats=["parquet"]).folder
        table, clean = pd.read_parquet(out / "manifest.parquet"), pd.read_parquet(out / "cleaned.parquet")
        for name in ("sample_id", "filepath", "split", "given_label", "sha256"):
            assert table[name].tolist() == given_project.rows[name].tolist()
        assert set(table["action"]) == {"undecided"}
        assert clean[["sample_id", "filepath", "split"]].equals(table[["sample_id", "filepath", "split"]])
        assert clean["label"].tolist() == given_project.rows["given_label"].tolist()
        assert (out / "decisions.jsonl").read_bytes() == b""


@given(ROWS, st.data())
@QUIET
def test_what_is_excluded_never_leaves_and_kept_and_removed_are_all(rows: Rows, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        given_project = project(rows, folder, sifted=True)
        review = Review(given_project, reviewer="ann")
        train = [name for name, _, split in rows if split == "train"]
        wanted = (
            data.draw(st.dictionaries(st.sampled_from(train), st.sampled_from(["exclude", "keep"]))) if train else {}
        )
        if wanted:
            review.decide_many([{"sample_id": name, "action": action} for name, action in wanted.items()])
        findings = given_project.findings().table()
        table = manifest_table(given_project.rows, findings, review.current())
        removed = {name for name, action in wanted.items() if action == "exclude"}
        kept = set(cleaned(table)["sample_id"])
        assert kept.isdisjoint(removed)
        assert kept | removed == {name for name, _, _ in rows} == set(table["sample_id"])
        assert set(table.loc[table["weight"] == 0, "sample_id"]) == removed
