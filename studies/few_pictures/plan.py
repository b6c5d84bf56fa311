"""What is run, in this order; README.md says why, and was written before the first run."""

CANDIDATES = (
    *("two_fit", "two_fit_nats", "two_fit_steep", "two_fit_first", "two_fit_clean"),
    "default_fit",
)
SELECTION = ("select1000", "select5000", "select_letters")

# Name, regimes, rows, seeds, settings that are varied beside them.
STAGES = [("select", SELECTION, CANDIDATES, (0, 1), {})]
BASELINE = "method=cutnmix,ramp=fit,temperature=1.0,ensemble_view=auto"
