"""What CONTRIBUTING promises: a method is one file, which the package finds."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]


def test_the_file_that_contributors_are_shown_is_all_that_a_method_needs(tmp_path: pathlib.Path):
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.S)
    shutil.copytree(ROOT / "tf_cutnmix", tmp_path / "tf_cutnmix")
    methods = tmp_path / "tf_cutnmix" / "distillation" / "methods"
    (methods / "consensus_of_all.py").write_text(example)
    flags = ("--method=consensus_of_all", "--steps=1", "--batch_size=16", "--export=")
    subprocess.run(
        [sys.executable, "-m", "tf_cutnmix.train", "--train_split=train[:40]", *flags],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        check=True,
    )
    (metrics,) = tmp_path.glob("runs/*/metrics.jsonl")
    assert json.loads(metrics.read_text())["imitation"] > 0
