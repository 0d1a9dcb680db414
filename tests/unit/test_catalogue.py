import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from core.catalogue import EARLY, FURTHER, LEFT_OUT, NEEDS, SCORE_INFO, ScoreInfo, table_of
from core.scores import COMPUTE, SCORES

ROOT = Path(__file__).parents[2]


def test_every_score_that_is_described_is_computed_and_the_other_way_round() -> None:
    assert list(COMPUTE) == list(SCORE_INFO) == list(SCORES)


@pytest.mark.parametrize("name", SCORE_INFO)
def test_the_two_tables_say_the_same(name: str) -> None:
    told = {field.name: getattr(SCORES[name], field.name) for field in fields(ScoreInfo)}
    assert told == vars(SCORE_INFO[name])
    assert SCORES[name].compute is COMPUTE[name]


def test_an_early_score_is_the_whole_one_up_to_memorisation() -> None:
    whole, early = SCORE_INFO["mean_el2n"], SCORE_INFO["mean_el2n_early"]
    assert (early.title, early.sign, early.source) == ("Mean error norm, early", whole.sign, whole.source)
    assert early.meaning == f"{whole.meaning} Only epochs before memorisation sets in."
    assert sum(name.endswith(EARLY) for name in SCORE_INFO) == 9


@pytest.mark.parametrize(("name", "end"), [("loss", "high"), ("margin", "low")])
def test_the_suspicious_end_follows_the_sign(name: str, end: str) -> None:
    assert SCORE_INFO[name].suspicious_end == end


def test_a_repeated_name_names_both() -> None:
    loss = SCORE_INFO["loss"]
    with pytest.raises(ValueError, match="'loss': 'Loss' and 'Loss'"):
        table_of([loss, loss])


def test_the_catalogue_loads_nothing_else() -> None:
    code = (
        "import sys, core.catalogue; print(sorted({m.split('.')[0] for m in sys.modules} & "
        "{'torch', 'scipy', 'sklearn', 'numpy', 'pandas', 'streamlit', 'plotly'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_scores_of_further_features_are_the_first_ones_of_another_network() -> None:
    first = SCORE_INFO[LEFT_OUT]
    for origin in FURTHER:
        other = SCORE_INFO[f"{LEFT_OUT}_{origin}"]
        assert (other.sign, other.acted_on, other.source) == (first.sign, first.acted_on, first.source)
        assert other.title == f"{first.title}, {origin}"
        assert other.meaning.startswith(first.meaning)


def test_every_need_is_somebodys() -> None:
    assert {score.needs for score in SCORE_INFO.values()} == set(NEEDS)
