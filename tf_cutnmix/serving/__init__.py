"""Trained networks where they are used: as SavedModels, and in further formats.

Read `signatures` (of an export), `formats` (further ones, each tried in its runtime),
`fresh` (processes in which exports are tried, by `serve_requests`), `savedmodel`.
"""

from tf_cutnmix.serving.formats import check_installed
from tf_cutnmix.serving.fresh import fresh_process
from tf_cutnmix.serving.savedmodel import export, record_lines

__all__ = ["check_installed", "export", "fresh_process", "record_lines"]
