"""What the runs of a sweep have left."""

import pytest

from tests.run_folders import read_flags, write_run
from tf_cutnmix.sweeps import results


@pytest.mark.parametrize(
    ("export", "exports", "done"),
    [("", {}, True), ("peer", {}, False), ("peer,teacher", {"peer": "x", "teacher": "y"}, True)],
)
def test_a_run_is_done_once_its_exports_are_there(export, exports, done, tmp_path) -> None:
    folder = write_run(tmp_path / "run", export=export, result={"exports": exports})
    assert results.is_done(read_flags(folder / "flags.cfg")) == done
