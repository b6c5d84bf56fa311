"""One run, from its settings to its results.

Read `names` (of methods and formats), `config` (every setting), `checkpoints`, `workdir` (the
folder of a run), `workers` (its devices and processes), `interrupts`, `events` (what TensorBoard
shows), `progress` (what is saved and written on the way), `outlook` (how long it takes),
`scores`, `predictions` (a file of them), `card` (of an exported model), `cost`, `loading` (a
run's images), `optimizer`, `build` (from settings to the model), `display` (what is printed),
`results` (the figures of a run), `exporting`, `letting_go` (of what TensorFlow would keep),
`experiment` (one run, wired).

`Config` alone is offered here: the rest waits for TensorFlow, and `--help` shall not.
"""

from tf_cutnmix.runs.config import Config

__all__ = ["Config"]
