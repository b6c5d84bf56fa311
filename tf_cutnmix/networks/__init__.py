"""Networks, called peers where several train together.

Every network is a functional model that takes pixels of 0 to 255 in any number of channels, does
what its family needs to them itself, and maps images `[B, H, W, C]` to a dictionary of endpoints:

    "stem", "stage1", "stage2", ...   maps `[B, h, w, channels]`, in this order
    "features"                        `[B, D]`, what the classifier sees
    "logits"                          `[B, K]`

A stage's endpoint is the map at the end of the stage. Whatever comes after it depends on the
images through this map alone, so that peers can be cut there and share what comes before.
The last stage's endpoint is the last map before global pooling.

Read `blocks`, `families`, `foreign` (any other Keras model), `registry` (a network by its name),
`sharing` (peers that have their first stages in common), `served` (an export as a network),
`heatmap` (where a network looks), `pytorch` (a checkpoint of PyTorch as a network's
weights), `pretrained` (weights to start from, and what of them stays).
"""

from tf_cutnmix.networks.foreign import adapt
from tf_cutnmix.networks.registry import build_network
from tf_cutnmix.networks.sharing import share_stages, stages

__all__ = ["adapt", "build_network", "share_stages", "stages"]
