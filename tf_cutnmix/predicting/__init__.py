"""Answers of an export about files of pictures.

Read `pictures` (which files), `answers` (what the export says of them), `documents` (the answers
as a table, CSV, JSON and a page).
"""
