"""Many runs: `grid` (their settings), `cell` (what the process of a run does), `processes`."""
