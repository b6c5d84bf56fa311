"""What is run, in this order; README.md says why, and was written before the first run."""

SEARCH = (("select500",), ("one",), (0,))
SHORT = {"epochs": (30,), "freeze": ("none", "batchnorm")}
ADAMW = {
    "optimizer": ("adamw",),
    "learning_rate": (0.001, 0.005),
    "learning_rate_backbone": (0.0001, 0.0003, 0.001),
}
SGD = {
    "optimizer": ("sgd",),
    "learning_rate": (0.01, 0.05),
    "learning_rate_backbone": (0.001, 0.003, 0.01),
}

# Name, regimes, rows, seeds, settings that are varied beside them.
STAGES = [("adamw", *SEARCH, SHORT | ADAMW), ("sgd", *SEARCH, SHORT | SGD)]
BASELINE = "method=independent,mix=none,num_peers=2"
