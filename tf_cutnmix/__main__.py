"""`python -m tf_cutnmix train`, where `tf-cutnmix` is not on the path."""

import sys

from tf_cutnmix.cli import main

sys.exit(main())
