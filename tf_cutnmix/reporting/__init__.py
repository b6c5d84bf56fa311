"""Reports on finished runs, from their folders alone: no TensorFlow, nothing is trained.

Read `runs` (what a folder holds), `groups` (which runs may be averaged and compared),
`comparison` (mean, deviation, paired differences), then `tables`, `plots` and `documents`.
"""
