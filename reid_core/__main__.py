"""``python -m reid_core VERB`` is ``reid-core VERB``."""

from reid_core.cli._main import main

main()
