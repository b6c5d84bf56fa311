"""Many runs: `grid` (their settings, and what they have left), `processes` (side by side)."""
