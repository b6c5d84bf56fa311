"""Trained networks where they are used: as SavedModels, and in further formats.

Read `resizing` (in operations that every converter knows), `formats`, `files` (of a request),
`conversion` (an export in further formats, tried), `record` (what an export says of itself),
`warmup`, `fresh` (processes in which exports are tried, by `serve_requests`), `savedmodel`.
"""

from tf_cutnmix.serving.conversion import check_installed
from tf_cutnmix.serving.fresh import fresh_process
from tf_cutnmix.serving.savedmodel import export

__all__ = ["check_installed", "export", "fresh_process"]
