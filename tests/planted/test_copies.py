"""Near copies are planted among the pictograms, and every one of them is found."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from core.atlas.neighbours import feature_neighbours
from core.data.copies import find_copies, shrunk
from core.data.sources import open_source
from core.data.sources.base import SourceOptions
from core.data.sources.pictograms import IDS, _plan
from core.review.copies import OTHER_LABEL, standing


def small_of(spec: str, seed: int = 0) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Ids, small pictures and neighbours; any features will do for candidates, here the coarse pictures themselves."""
    source = open_source(spec, SourceOptions(seed=seed))
    frame = source.rows().frame
    ids = frame.loc[frame["split"].isna(), "sample_id"].tolist()  # without those to test on
    images = {name: data for name, data in source.read(ids) if isinstance(data, bytes)}
    small = np.stack([shrunk(np.asarray(Image.open(io.BytesIO(images[name])).convert("RGB"))) for name in ids])
    coarse = small.reshape(len(small), 4, 4, 4, 4, 3).mean(axis=(2, 4)).reshape(len(small), -1)
    return ids, small, feature_neighbours((coarse - coarse.mean(axis=1, keepdims=True)).astype(np.float32), 20).rows


def test_digits_that_are_alike_are_no_copies() -> None:
    """The digits hold no copy of a picture as far as is known, but many of them nearly coincide."""
    ids, small, near = small_of("digits")
    found = find_copies(np.array(ids, object), small, near)
    assert len(found) < 0.03 * len(ids)


@pytest.mark.parametrize("seed", [0, 1])
def test_every_planted_copy_is_found_and_few_others(seed: int) -> None:
    _, small, near = small_of("pictograms", seed)
    found = find_copies(np.array(IDS, object), small, near)
    original = _plan(seed)["original"].to_numpy()
    planted = {frozenset((row, int(first))) for row, first in enumerate(original) if row != first}
    pairs = {frozenset(map(int, pair)) for pair in zip(found["row"], found["other"], strict=True)}
    grouped = dict(zip(found["row"].tolist(), found["group"].tolist(), strict=True))
    together = [pair for pair in planted if len({grouped.get(row) for row in pair} - {None}) == 1]
    assert len(planted) == 94
    assert len(together) >= 93
    assert len(pairs - planted) <= 12
    rows = open_source("pictograms", SourceOptions(seed=seed)).rows().frame.set_index("sample_id").loc[list(IDS)]
    rows["split"] = "train"
    named = found.assign(sample_id=np.array(IDS)[found["row"]], copy_of=np.array(IDS)[found["other"]])
    differ = standing(named, rows)
    copied = rows.index[(rows["planted"] == "copy, other label").to_numpy(bool)]
    assert (differ[copied] == OTHER_LABEL).mean() > 0.9
