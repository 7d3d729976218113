"""Cut your own images into sets to train on and to measure with.

reid-core split reid SRC OUT divides identities: none is both trained on and searched for.
reid-core split classes SRC OUT divides the images of every class into training and validation.
"""

from __future__ import annotations

import argparse
import importlib

_KINDS = ("reid", "classes")
"""One private module ``_split_KIND`` each, with the same members as a verb."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the kinds of splitting as sub-verbs."""
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    for kind in _KINDS:
        module = importlib.import_module(f"reid_core.cli._split_{kind}")
        documentation = (module.__doc__ or kind).strip()
        sub = kinds.add_parser(
            kind,
            help=documentation.split("\n", maxsplit=1)[0],
            description=documentation,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        # Also after the kind; SUPPRESS, so that its absence there does not overwrite what stood before it.
        sub.add_argument(
            "--traceback", action="store_true", default=argparse.SUPPRESS, help="show the stack of an error"
        )
        module.configure(sub)


def run(args: argparse.Namespace) -> int:
    """Hand over to the kind."""
    return int(importlib.import_module(f"reid_core.cli._split_{args.kind}").run(args))
