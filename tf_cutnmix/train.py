"""Train peer networks together: `python -m tf_cutnmix.train`."""

import pathlib
import shlex
import sys

from tf_cutnmix import command, exports, places
from tf_cutnmix.runs.config import Config
from tf_cutnmix.settings import split_names

SUMMARY = """\
Trains several small networks together with Cut^nMix, their features and a moving-average
teacher, reports on a test split and exports SavedModels. Without flags it trains two
ResNet-8 on scikit-learn's handwritten digits.

  python -m tf_cutnmix.train --dataset=./pictures --image_size=64 --epochs=100
  python -m tf_cutnmix.train --dataset=cifar10 --arch=resnet20,wrn16_2 --workdir=runs/unlike
  python -m tf_cutnmix.train --flagfile=runs/unlike/flags.cfg --resume"""


Settings = Config


def main(config: Config) -> None:
    """Train as `config` says, print how it went and draw the run's page."""
    places.check_dataset(config.dataset)
    places.check_weights(config.weights_from)
    for teacher in split_names(config.teacher):
        exports.find(teacher, "teacher")
    with command.quiet_tensorflow(log=True):
        from tf_cutnmix.runs import experiment
    from tf_cutnmix.reporting import run_page

    def show(config: Config, result: dict) -> None:
        print(summary(config, result), flush=True)
        print(f"page: {run_page.write(pathlib.Path(config.folder), config)}", flush=True)

    # Nothing comes back where another process writes.
    exported = experiment.train_and_evaluate(config, show=show).get("exports", {})
    for kind, path in exported.items():
        print(f"exported {kind}: {path}")
    if exported:
        folder = pathlib.Path(config.folder)
        words = ["python", "-m", "tf_cutnmix.predict", f"--savedmodel={folder}"]
        print(f"ask it about a picture: {shlex.join([*words, str(folder / experiment.EXAMPLE)])}")


def summary(config: Config, result: dict) -> str:
    """The end of a run: test accuracy of each network, and where all is."""
    from tf_cutnmix.runs import scores

    last, best = result["last"], result["best_on_validation"]
    lines = ["", f"{'test accuracy':<22}{'last epoch':>12}{'best epoch':>12}"]
    lines.append(f"{'  after steps':<22}{last['step']:>12}{best['step']:>12}")
    names = [name for name in last["test"] if name.endswith("_accuracy")]
    counts = result["counts"]["test"]
    if not scores.unbalanced(counts):
        names = [name for name in names if not name.endswith("_balanced_accuracy")]
    for name in sorted(names, key=lambda name: (name.startswith(("average", "peer")), name)):
        figures = "".join(f"{moment['test'][name]:>12.2%}" for moment in (last, best))
        shown = name.removesuffix("_accuracy").replace("_", ", ")
        lines.append(f"  {shown:<20}{figures}")
    if not all(counts):
        lines.append(
            f"  (balanced: over the {scores.represented(counts)} classes with test images)"
        )
    if config.steps and last["epoch"] < config.epochs:
        lines.append(f"  (--steps={config.steps} ended it; --resume without that goes on)")
    mistakes = pathlib.Path(config.folder, "mistakes.csv")
    lines.append(f"\n{result['mistakes']} mistakes, the surest first: {mistakes}")
    lines.append(f"run: {config.folder} ({result['wall_seconds']:.0f} s)")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(command.run("tf_cutnmix.train", SUMMARY, Settings, main))
