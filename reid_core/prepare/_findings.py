"""What ``doctor`` can find: how grave it is, what it means, and how it is mended."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Level = Literal["serious", "warning", "note"]
LEVELS: tuple[Level, ...] = ("serious", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """Something worth knowing about a data set.

    Attributes:
        code: a stable name, for machines.
        level: ``serious`` where training or evaluation cannot work or its numbers would mean nothing; ``warning``
            where they suffer; ``note`` where it is as well to know.
        count: how many images, identities or queries.
        text: what it is, in words.
        examples: all of them, one line each.
        mend: what to do.
    """

    code: str
    level: Level
    count: int
    text: str
    examples: tuple[str, ...]
    mend: str


_KINDS: dict[str, tuple[Level, str, str]] = {
    "no_train": (
        "serious",
        "there are no training images",
        (
            "Put them into train/, one folder an identity or class, or mark rows of the manifest as train; to measure a finished "
            "model they are not needed."
        ),
    ),
    "one_train_identity": (
        "serious",
        "there is only one identity to train on",
        "At least two are needed to tell apart.",
    ),
    "no_test": (
        "warning",
        "there are no query and gallery images, so nothing can be measured",
        "Cut them off by identities: reid-core split reid SRC OUT.",
    ),
    "no_class_test": (
        "warning",
        "there are no test images, so nothing can be measured",
        "Cut some off from every class: reid-core split classes SRC OUT.",
    ),
    "no_query": (
        "serious",
        "there are gallery images but no queries, so nothing can be measured",
        "Both are needed: reid-core split reid SRC OUT makes them.",
    ),
    "no_gallery": (
        "serious",
        "there are queries but no gallery images, so nothing can be measured",
        "Both are needed: reid-core split reid SRC OUT makes them.",
    ),
    "unreadable_image": (
        "serious",
        "{} images cannot be used",
        "Replace or remove them, or train without them: --on_bad_image skip.",
    ),
    "identity_in_train_and_test": (
        "serious",
        "{} identities are in training and in test images",
        (
            "Numbers measured on people that were trained on mean nothing. Give them other pids if they are different "
            "people, else divide again: reid-core split reid SRC OUT."
        ),
    ),
    "duplicate_across_identities": (
        "serious",
        "{} pictures are there under different identities",
        "One picture cannot be two people: at least one label is wrong. Remove the wrong ones.",
    ),
    "duplicate_across_train_and_test": (
        "serious",
        "{} pictures are in training and in test images",
        "Remove them from one side: numbers measured on pictures that were trained on mean nothing.",
    ),
    "no_query_has_a_match": (
        "serious",
        "none of the queries has a match, so nothing can be measured",
        "The reasons stand below.",
    ),
    "query_identity_not_in_gallery": (
        "warning",
        "{} queries have no match: their identity is not in the gallery",
        (
            "Put an image of that identity into the gallery, or take the query away. Are pids the same numbers in query "
            "and gallery?"
        ),
    ),
    "query_only_same_camera": (
        "warning",
        "{} queries have no match: their identity is in the gallery, but only under the query's own camera",
        "Add gallery images of other cameras, or rank without cameras: --protocol any-camera.",
    ),
    "query_only_junk": (
        "warning",
        "{} queries have no match: their identity is in the gallery, but only as junk or distractor",
        "Give those gallery images the identity's pid in place of the mark.",
    ),
    "duplicate_across_query_and_gallery": (
        "warning",
        "{} pictures are in query and gallery",
        "A search that finds its own picture proves nothing: remove one of them.",
    ),
    "duplicate_of_junk_or_distractor": (
        "warning",
        "{} pictures are there as an identity and as junk or distractor",
        "Decide which it is and remove the other.",
    ),
    "identity_with_one_image": (
        "warning",
        "{} training identities have a single image",
        "They teach little, and a wrong label among them cannot be seen: add images, or leave them out.",
    ),
    "identity_with_one_camera": (
        "note",
        "{} training identities are seen by a single camera",
        "Usable; identities seen by several cameras teach more.",
    ),
    "duplicate_within_identity": (
        "note",
        "{} pictures are there more than once under the same identity",
        "Harmless, but they count twice: remove the copies if that is not meant.",
    ),
    "tiny_image": (
        "note",
        "{} images are less than 16 pixels wide or high",
        "They are enlarged like all others; consider leaving them out.",
    ),
    "lying_images": (
        "note",
        "{} images, more than half, are wider than high",
        "Give a fitting --image_size HEIGHT WIDTH: the default is made for standing people.",
    ),
}
CODES = tuple(_KINDS)


def finding(code: str, examples: Iterable[str]) -> list[Finding]:
    """The finding ``code`` with its examples in a list; an empty list where there are none."""
    level, text, mend = _KINDS[code]
    lines = tuple(examples)
    return [Finding(code, level, len(lines), text.format(len(lines)), lines, mend)] if lines else []
