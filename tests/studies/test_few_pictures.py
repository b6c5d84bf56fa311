"""The study of few pictures: its table of scores."""

import pytest

from tests.run_folders import write_run
from tests.studies import programs

PAGE = programs.STUDIES / "few_pictures" / "page.py"


def test_a_candidates_score_is_the_mean_over_regimes_of_its_mean_over_seeds(tmp_path):
    page = programs.load(PAGE)
    accuracies = {"select1000": (0.5, 0.6), "select5000": (0.7,), "select_letters": (0.3,)}
    for regime, seeds in accuracies.items():
        for seed, accuracy in enumerate(seeds):
            test = dict.fromkeys(("peer1_accuracy", "peer2_accuracy"), accuracy)
            test["teacher_accuracy"] = accuracy + 0.1
            folder = tmp_path / regime / f"seed={seed},flagfile=one"
            write_run(folder, seed=seed, test=test)
    write_run(tmp_path / "select1000" / "seed=0,flagfile=other", seed=0)
    table = page.selection(tmp_path)
    assert list(table.index) == ["one", "other"]
    assert table.loc["one", "score"] == pytest.approx((60 + 75 + 35) / 3)
    assert list(table["seeds"]) == ["2/1/1", "1/0/0"]
    assert table.loc["other", "score"] != table.loc["other", "score"]
