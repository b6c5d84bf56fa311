"""Reports on finished runs, from their folders alone: no TensorFlow, nothing is trained.

Read `runs` (what a folder holds), `groups` (which runs may be averaged and compared),
`comparison` (mean, deviation, paired differences), then `tables`, `plots` (of groups), `across` (of
one setting), `diagrams` (of one run), `pages` (what all pages have in common), `run_page`,
`best_runs` and `documents`.
"""
