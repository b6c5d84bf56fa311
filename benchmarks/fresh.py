"""Programs measured in processes of their own, as what one imports or keeps is another's cost."""

import json
import subprocess
import sys
from typing import Any


def answer(module: str, *arguments: str) -> Any:
    """What `python -m module arguments` prints as its last line, in JSON."""
    command = [sys.executable, "-m", module, *arguments]
    process = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(process.stdout.splitlines()[-1])
