"""Reports on finished runs, from their folders alone: no TensorFlow, nothing is trained.

Read `runs` (what a folder holds), `comparison` (groups, which may be compared, and how far they
differ), then `tables`, `plots`, `pages` (a file of `templates/`, filled in), `run_page` and
`report_page`.
"""
