"""A sweep on its way: which runs are done, how long they took, which failed."""

import pathlib
from collections.abc import Mapping

from tf_cutnmix import files
from tf_cutnmix.runs.config import Config
from tf_cutnmix.sweeps import grid, processes, results


class Progress:
    """Which runs are done, how long they took, which failed; a line is printed for each change."""

    def __init__(self, configs: Mapping[str, Config], runs: processes.Runs) -> None:
        self.configs = configs
        self.runs = runs
        self.done = [n for n, c in configs.items() if not c.overwrite and results.is_done(c)]
        self.failed: list[str] = []
        self._waiting = len(configs) - len(self.done)
        self._seconds: list[float] = []

    def start(self, name: str, config: Config) -> None:
        """Begin a run, unless it is done."""
        if name in self.done:
            self._say(name, "done already")
            return
        self._waiting -= 1
        self._say(name, "started")
        files.make_folder(pathlib.Path(config.workdir))
        self.runs.start(name, config)

    def wait(self) -> None:
        """Wait until a run has ended."""
        name, reason, seconds = self.runs.wait()
        if reason:
            self.failed.append(name)
            news = f"failed: {reason}"
        else:
            self._seconds.append(seconds)
            self.done.append(name)
            teacher = results.accuracies(results.read(self.configs[name]))["teacher"]
            news = f"teacher {teacher:.2%} ({grid.duration(seconds)})"
        left = grid.seconds_left(self._seconds, self.runs.elapsed, self._waiting, self.runs.at_once)
        self._say(name, news + (f"; about {grid.duration(left)} left" if left else ""))

    def memory_of_one(self) -> int | None:
        """The most bytes that a run has held of those that are done, if any is."""
        found = [results.read(self.configs[name]) for name in self.done]
        return max((result["peak_memory_bytes"] for result in found), default=None)

    def _say(self, name: str, news: str) -> None:
        count = len(self.configs)
        number = list(self.configs).index(name) + 1
        print(f"[{number:>{len(str(count))}}/{count}] {name}: {news}", flush=True)
