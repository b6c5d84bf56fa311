"""Trained networks where they are used: as SavedModels.

Read `files` (of a request), `savedmodel`; `serve_once` answers with an export in a process of its
own.
"""

from tf_cutnmix.serving.savedmodel import export

__all__ = ["export"]
