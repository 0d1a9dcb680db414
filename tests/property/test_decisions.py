from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import DecisionError
from core.review.decisions import Review
from tests.fake_project import FakeProject, manifest_rows

IDS = ["a", "b", "c", "d"]
LABEL = {"a": "dog", "b": "fox", "c": "cat", "d": "dog"}
DECISION = st.dictionaries(
    st.sampled_from(IDS), st.sampled_from(["keep", "exclude", "unsure", "undecided"]), min_size=1, max_size=3
)
STEP = st.tuples(st.sampled_from(["ann", "bob"]), st.one_of(DECISION, st.sampled_from(["undo", "redo"])))


class Model:
    """The same rules said with lists: a done and an undone pile for each reviewer, and all batches in order."""

    def __init__(self) -> None:
        self.batches: list[dict[str, str]] = []
        self.in_effect: list[bool] = []
        self.done: dict[str, list[int]] = {"ann": [], "bob": []}
        self.undone: dict[str, list[int]] = {"ann": [], "bob": []}

    def decide(self, who: str, what: dict[str, str]) -> None:
        self.done[who].append(len(self.batches))
        self.undone[who].clear()
        self.batches.append(what)
        self.in_effect.append(True)

    def turn(self, who: str, step: str) -> bool:
        source, target = (self.done, self.undone) if step == "undo" else (self.undone, self.done)
        if not source[who]:
            return False
        batch = source[who].pop()
        target[who].append(batch)
        self.in_effect[batch] = step == "redo"
        return True

    def state(self) -> dict[str, str]:
        state: dict[str, str] = {}
        for batch, holds in zip(self.batches, self.in_effect, strict=True):
            state |= batch if holds else {}
        return {sample: action for sample, action in state.items() if action != "undecided"}


def decide(review: Review, what: dict[str, str]) -> None:
    review.decide_many([{"sample_id": sample, "action": action} for sample, action in what.items()])


def state(review: Review) -> dict[str, str]:
    return dict(review.current()["action"])


@given(st.lists(STEP, max_size=14))
@settings(deadline=None, max_examples=40)
def test_any_sequence_equals_the_slow_twin(steps: list[tuple[str, dict[str, str] | str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        project, model = FakeProject(Path(folder), manifest_rows(IDS)), Model()
        for who, step in steps:
            review = Review(project, reviewer=who)
            if isinstance(step, dict):
                decide(review, step)
                model.decide(who, step)
                continue
            try:
                getattr(review, step)()
                worked = True
            except DecisionError:
                worked = False
            assert worked == model.turn(who, step)
        review = Review(project, reviewer="eve")
        assert state(review) == model.state()
        assert [batch["in_effect"] for batch in review.batches()] == model.in_effect[::-1]


LABELLED = st.dictionaries(
    st.sampled_from(IDS), st.sampled_from(["keep", "relabel", "unsure", "undecided"]), min_size=1, max_size=3
)
LATE = st.tuples(st.just("late"), LABELLED)  # joins a batch that is there, perhaps one that was undone
ADDED = st.tuples(st.sampled_from(["ann", "bob"]), st.one_of(LABELLED, st.sampled_from(["undo", "redo"])))
LOOK = st.just("look")


@given(st.lists(st.one_of(ADDED, LATE, LOOK, LOOK), max_size=20))
@settings(deadline=None, max_examples=80)
def test_what_was_read_bit_by_bit_is_what_is_read_at_once(steps: list[tuple[str, dict[str, str] | str] | str]) -> None:
    """`current` reads only what is new where it can: the same rows, order and types as a first reading."""
    with tempfile.TemporaryDirectory() as folder:
        project = FakeProject(Path(folder), manifest_rows(IDS))
        held, batches = Review(project, reviewer="eve"), list[str]()
        for step in steps:
            if isinstance(step, str):
                pd.testing.assert_frame_equal(held.current(), Review(project, reviewer="eve").current())
                continue
            who, what = step
            review = Review(project, reviewer="ann" if who == "late" else who)
            if isinstance(what, str):
                with suppress(DecisionError):
                    getattr(review, what)()
                continue
            rows = [{"sample_id": s, "action": a, "label": LABEL[s] if a == "relabel" else None, "note": s * 2}
                    for s, a in what.items()]  # fmt: skip
            batch = batches[0] if who == "late" and batches else None
            batches += [review.log.append(rows, reviewer=review.reviewer, batch=batch)] if who != "bob" else []
            if who == "bob":
                review.decide_many(rows)
        pd.testing.assert_frame_equal(held.current(), Review(project, reviewer="eve").current())


@given(st.lists(DECISION, max_size=4), DECISION)
@settings(deadline=None, max_examples=25)
def test_undo_after_a_decision_is_the_identity_and_redo_after_undo_too(
    before: list[dict[str, str]], last: dict[str, str]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        review = Review(FakeProject(Path(folder), manifest_rows(IDS)), reviewer="ann")
        for what in before:
            decide(review, what)
        old = review.current()
        decide(review, last)
        new = review.current()
        review.undo()
        assert review.current().equals(old)
        review.redo()
        assert review.current().equals(new)
