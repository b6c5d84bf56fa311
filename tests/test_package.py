"""What the package offers, where from and when: without a guess at how it is run."""

import pathlib
import re

import pytest

import tf_cutnmix
from tests.processes import python

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.long
def test_a_package_may_import_from_it_however_it_is_run(tmp_path) -> None:
    (tmp_path / "proj").mkdir()
    offers = "from tf_cutnmix import Config, CutNMix\nfrom tf_cutnmix import *\n"
    (tmp_path / "proj" / "__init__.py").write_text(offers)
    (tmp_path / "proj" / "train.py").write_text("from proj import CutNMix; print(CutNMix)")
    assert "tf_cutnmix.mixing.layers.CutNMix" in python("-m", "proj.train", cwd=tmp_path).stdout


def test_what_it_offers_is_listed_before_it_is_there_and_nothing_else_is_there() -> None:
    code = (
        "import sys, tf_cutnmix; print(dir(tf_cutnmix)); from tf_cutnmix import Config\n"
        "print('tensorflow' in sys.modules)"
    )
    listed, imported = python("-c", code, cwd=ROOT).stdout.splitlines()
    assert all(repr(name) in listed for name in tf_cutnmix.__all__)
    assert imported == "False"
    for name in tf_cutnmix.__all__:
        assert getattr(tf_cutnmix, name).__module__.startswith("tf_cutnmix.")
    with pytest.raises(AttributeError, match="'tf_cutnmix' has no attribute 'CutnMix'"):
        tf_cutnmix.CutnMix  # noqa: B018


@pytest.mark.long
def test_a_type_checker_sees_the_names_and_no_others(tmp_path) -> None:
    names = "\n".join(f"reveal_type(tf_cutnmix.{name})" for name in tf_cutnmix.__all__)
    (tmp_path / "user.py").write_text(f"import tf_cutnmix\n{names}\ntf_cutnmix.CutnMix\n")
    process = python("-m", "mypy", "--config-file=setup.cfg", str(tmp_path / "user.py"), cwd=ROOT)
    revealed = re.findall(r'Revealed type is "(.*)"', process.stdout)
    assert len(revealed) == len(tf_cutnmix.__all__), process.stdout
    assert "Any" not in revealed
    assert 'has no attribute "CutnMix"' in process.stdout
