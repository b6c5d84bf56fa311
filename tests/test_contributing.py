"""What CONTRIBUTING promises: a method is one file, which the package finds.

That it trains is tested with the other pages, in `test_docs`.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.long
def test_the_file_that_contributors_are_shown_is_all_that_a_method_needs(tmp_path: pathlib.Path):
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.S)
    shutil.copytree(ROOT / "tf_cutnmix", tmp_path / "tf_cutnmix")
    methods = tmp_path / "tf_cutnmix" / "distillation" / "methods"
    (methods / "consensus_of_all.py").write_text(example)
    found = subprocess.run(
        [sys.executable, "-c", "import tf_cutnmix; print(tf_cutnmix.Method('consensus_of_all'))"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "temperature=2.0" in found.stdout
