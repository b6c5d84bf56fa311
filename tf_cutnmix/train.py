"""Train peer networks together: `python -m tf_cutnmix.train`."""

import sys

from tf_cutnmix import command
from tf_cutnmix.config import Config

SUMMARY = """\
Trains several small networks together with Cut^nMix, their features and a moving-average
teacher, reports on a test split and exports SavedModels. Without flags it trains two
ResNet-8 on scikit-learn's handwritten digits."""


def main(config: Config) -> None:
    with command.quiet_tensorflow():
        from tf_cutnmix import experiment
    result = experiment.train_and_evaluate(config)
    print(summary(config, result))


def summary(config: Config, result: dict) -> str:
    """The end of a run as a few lines: test accuracy by network, and where things are."""
    lines = [""]
    for moment, title in (("last", "last"), ("best_on_validation", "best on validation")):
        figures = result[moment]
        names = [name for name in figures["test"] if name.endswith("_accuracy")]
        accuracies = "  ".join(
            f"{name.removesuffix('_accuracy')} {figures['test'][name]:.2%}" for name in names
        )
        lines.append(f"test accuracy, {title} (epoch {figures['epoch']}): {accuracies}")
    lines += [f"exported {kind}: {path}" for kind, path in result["exports"].items()]
    lines.append(f"run: {config.folder} ({result['wall_seconds']:.0f} s)")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(command.run("tf_cutnmix.train", SUMMARY, Config, main))
