"""Many runs: `grid` (their settings), `cell` (what the process of a run does), `processes`,
`results` (what runs have left), `progress` (a sweep on its way).
"""
