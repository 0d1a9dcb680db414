from __future__ import annotations

import pandas as pd
import pytest

from core.reasons import KINDS, WHILE_LEARNING, kind, reasons, sentence

DOG = {
    "given_label": "cat", "suggested_label": "dog", "suggested_prob": 0.83, "given_prob": 0.04, "neighbours": 20,
    "neighbours_suggested": 15, "neighbours_given": 2, "neighbours_top_label": "dog", "gradient_percentile": 98.6,
}  # fmt: skip
CAT = {
    "given_label": "cat", "suggested_label": "cat", "suggested_prob": 0.71, "given_prob": 0.71, "neighbours": 20,
    "neighbours_suggested": 14, "neighbours_given": 14, "neighbours_top_label": "cat", "gradient_percentile": 50.0,
}  # fmt: skip


def test_two_witnesses_say_probably() -> None:
    assert sentence(DOG) == (
        "Labelled cat, probably dog: the out-of-sample head gives dog 83 % and cat 4 %, "
        "15 of its 20 nearest images are labelled dog, and its gradient is larger than 98 % of all."
    )


def test_three_witnesses_say_very_probably() -> None:
    said = sentence(DOG | {"predicted_label": "dog", "predicted_prob": 0.91})
    assert said.startswith("Labelled cat, very probably dog: ")
    assert said.endswith("and the network predicts dog (91 %).")


@pytest.mark.parametrize(
    ("changed", "strength"),
    [
        ({"suggested_prob": 0.49}, "perhaps dog"),  # the head is unsure, the neighbours are not
        ({"given_prob": 0.42}, "perhaps dog"),  # less than twice the given label
        ({"neighbours_suggested": 5, "neighbours_given": 4}, "perhaps dog"),  # fewer than 30 % of the neighbours
        ({"neighbours_suggested": 6, "neighbours_given": 5}, "probably dog"),
        ({"suggested_prob": 0.4, "neighbours_suggested": 1}, "hard to tell, if anything dog"),
    ],
)
def test_the_strength_follows_the_witnesses(changed: dict[str, float], strength: str) -> None:
    assert sentence(DOG | changed).startswith(f"Labelled cat, {strength}: ")


def test_what_speaks_for_the_label_is_said_too() -> None:
    said = sentence(DOG | {"neighbours_suggested": 3, "neighbours_given": 12, "neighbours_top_label": "cat"})
    assert "12 of its 20 nearest images are labelled cat" in said
    assert said.endswith("; only 3 are labelled dog.")
    learned = {"fitted": True, "learned_share": 0.6, "gradient_percentile": 10.0}
    assert sentence(DOG | learned).endswith("; yet the network learned cat.")


def test_agreement_is_said_as_such() -> None:
    assert sentence(CAT) == (
        "Labelled cat, and the out-of-sample head agrees (71 %); 14 of its 20 nearest images are labelled cat; "
        "nothing speaks against the label."
    )


def test_an_unusual_image_is_not_called_wrong() -> None:
    said = sentence(CAT | {"neighbours_suggested": 3, "neighbours_given": 3, "gradient_percentile": 99.97})
    assert said == (
        "Labelled cat, and the out-of-sample head agrees (71 %), but only 3 of its 20 nearest images are labelled cat, "
        "and its gradient is larger than 99 % of all: unusual or hard rather than wrong."
    )
    assert "leans to it too (41 %)" in sentence(CAT | {"suggested_prob": 0.41})


def test_a_third_label_among_the_neighbours_is_named() -> None:
    third = {"neighbours_suggested": 2, "neighbours_given": 1, "neighbours_top_label": "fox"}
    assert "its 20 nearest images are most often labelled fox" in sentence(DOG | third)


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.996, "over 99 %"), (1.0, "100 %"), (0.004, "below 1 %"), (0.0, "0 %"), (0.125, "13 %"), (0.5, "50 %")],
)
def test_per_cents_are_whole_and_never_round_to_certainty(share: float, text: str) -> None:
    assert f"and cat {text}," in sentence(DOG | {"given_prob": share})


def test_what_was_not_measured_is_left_out() -> None:
    assert sentence({"given_label": "cat"}) == "Labelled cat; there is no other evidence."
    assert sentence({"given_label": pd.NA}) == "Not labelled, so there is no label to doubt."
    bare = {"given_label": "cat", "suggested_label": "dog", "suggested_prob": float("nan"), "neighbours": pd.NA}
    assert sentence(bare) == "Labelled cat, hard to tell, if anything dog: the out-of-sample head prefers dog."
    near = {"given_label": "cat", "neighbours": 10, "neighbours_given": 0}
    assert sentence(near) == "Labelled cat: none of its 10 nearest images are labelled cat."


def test_long_names_and_line_ends_do_not_break_the_sentence() -> None:
    long = {"given_label": "an\nendless  name " * 9, "suggested_label": "another endless one " * 9}
    said = sentence(DOG | long | {"predicted_label": "x" * 90, "neighbours_top_label": "another endless one " * 9})
    assert "\n" not in said
    assert len(said) < 230


def test_names_that_differ_only_at_the_end_are_not_taken_for_one() -> None:
    long = "the very same beginning, "
    assert sentence(DOG | {"given_label": f"{long}A", "suggested_label": f"{long}B"}).startswith(
        "Labelled the very same begin…, probably the very same begin…: "
    )


def test_a_table_gives_a_sentence_per_row_on_its_own_index() -> None:
    frame = pd.DataFrame([DOG, CAT], index=pd.Index(["a", "b"], name="sample_id"))
    frame = frame.astype({"neighbours_suggested": "Int64"})
    said = reasons(frame)
    assert said.to_dict() == {"a": sentence(DOG), "b": sentence(CAT)}
    assert said.name == "reason"
    assert len(reasons(frame.head(0))) == 0


KINDS_BY_ROW: list[tuple[dict[str, object], str]] = [
    (DOG | {"predicted_label": "dog"}, "very probably wrong"),
    (DOG, "probably wrong"),
    (DOG | {"given_prob": 0.42}, "perhaps wrong"),
    (DOG | {"suggested_prob": 0.4, "neighbours_suggested": 1}, "hard to tell"),
    (DOG | {"witness": WHILE_LEARNING}, "probably wrong"),
    (CAT, "nothing against the label"),
    (CAT | {"neighbours": None}, "nothing against the label"),
    (CAT | {"suggested_prob": 0.41}, "nothing against the label"),
    (CAT | {"gradient_percentile": 99.0}, "unusual, label confirmed"),
    (CAT | {"neighbours_suggested": 3, "neighbours_given": 3}, "unusual, label confirmed"),
    ({"given_label": None}, "no label"),
    ({"given_label": "cat"}, "nothing against the label"),
    ({"given_label": "cat", "neighbours": 10, "neighbours_given": 9}, "nothing against the label"),
    ({"given_label": "cat", "neighbours": 10, "neighbours_given": 0}, "hard to tell"),
    ({"given_label": "cat", "neighbours": 10, "neighbours_given": 3}, "hard to tell"),
    ({"given_label": "cat", "neighbours": 10, "neighbours_top_label": "fox"}, "hard to tell"),
    ({"given_label": "cat", "predicted_label": "dog"}, "hard to tell"),
    ({"given_label": "cat", "learned_share": 0.1}, "hard to tell"),
    ({"given_label": "cat", "gradient_percentile": 99.0}, "hard to tell"),
]


@pytest.mark.parametrize(("evidence", "expected"), KINDS_BY_ROW)
def test_every_branch_of_the_sentence_is_of_a_kind(evidence: dict[str, object], expected: str) -> None:
    given = evidence["given_label"]
    assert kind(sentence(evidence)) == expected
    assert kind(sentence(evidence), str(given) if given else None) == expected


def test_every_kind_is_said_somewhere_and_none_is_unknown() -> None:
    assert {expected for _, expected in KINDS_BY_ROW} == set(KINDS)


@pytest.mark.parametrize(
    "name", ["x, perhaps y", "very probably", "a, probably b", "only: cat", ", hard to tell, if anything z", "x: y."]
)
@pytest.mark.parametrize(("evidence", "expected"), KINDS_BY_ROW)
def test_class_names_that_read_like_a_sentence_do_not_mislead(
    evidence: dict[str, object], expected: str, name: str
) -> None:
    named = {key: name if value == "cat" else value for key, value in evidence.items()}
    assert kind(sentence(named), name) == expected


@pytest.mark.parametrize("said", ["", "No sentence.", "Labelled dog, probably fox: it is.", "labelled cat"])
def test_what_is_no_sentence_of_this_label_is_hard_to_tell(said: str) -> None:
    assert kind(said, "cat") == "hard to tell"
