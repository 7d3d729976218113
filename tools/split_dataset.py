"""Class folders become training and validation images: ``python tools/split_dataset.py SRC OUT --val 0.1``.

The same code as ``reid-core split classes SRC OUT``, with the same flags, for use from a checkout.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from reid_core.cli._main import run

if __name__ == "__main__":
    sys.exit(run(["split", "classes", *sys.argv[1:]]))
