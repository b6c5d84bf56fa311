"""One run, from its settings to its results.

Read `config` (every setting), `experiment` (one run, top to bottom), and on its way `workers`
(devices and processes), `workdir` and `checkpoints` (the folder of a run), `loading` (its images),
`plan` (what follows from settings and images), `build` and `optimizer` (its model), `display` and
`outlook` (what is printed), `standstill` (whether it learns nothing), `progress` and `events` (what
is saved and written on the way), `results`, `scores`, `cost` and `predictions` (its figures),
`exporting` and `card`.

`Config` alone is offered here: the rest waits for TensorFlow, and `--help` shall not.
"""

from tf_cutnmix.runs.config import Config

__all__ = ["Config"]
