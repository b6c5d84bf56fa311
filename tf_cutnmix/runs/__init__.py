"""One run, from its settings to its results.

Read `names` (of methods and formats), `flags` (every setting), `config` (the settings of a run),
`begun` (what a run that goes on takes over), `checkpoints`, `workdir` (the folder of a run),
`workers` (its devices and processes), `events` (what TensorBoard shows), `interrupts`, `progress`
(what is saved and written on the way), `outlook` (how long it takes), `display` (what is
printed), `scores`, `predictions` (a file of them), `card` (of an exported model), `cost`,
`pictures`, `contradictions`, `loading` (a run's images), `splits` (are they what it was begun
on), `optimizer`, `build` (from settings to data and model), `announcement` (what is printed
before a run), `soup` (of peers that are drawn together), `results` (the figures of a run),
`exporting`, `letting_go` (of what TensorFlow would keep), `experiment` (one run, wired).

`Config` alone is offered here: the rest waits for TensorFlow, and `--help` shall not.
"""

from tf_cutnmix.runs.config import Config

__all__ = ["Config"]
