"""Market-1501 as released becomes the training layout: ``python tools/prepare_market1501.py SRC OUT``.

The same code as ``reid-core prepare market1501 SRC OUT``, with the same flags, for use from a checkout.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from reid_core.cli._main import run

if __name__ == "__main__":
    sys.exit(run(["prepare", "market1501", *sys.argv[1:]]))
