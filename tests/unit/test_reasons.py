from __future__ import annotations

import pandas as pd
import pytest

from core.reasons import reasons, sentence

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
