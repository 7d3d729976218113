"""Who is drawn: an identity's looks as a function of (seed, identity)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Colour = tuple[int, int, int]

# The streams of random numbers; a part of the generator's version.
LOOKS, TRACK, SHOT, SCENE, JUNK, PLAN = range(6)

# (colour, weight): clothes in the street are mostly black, white, grey and blue, which is what makes people look alike.
_CLOTHES: tuple[tuple[Colour, float], ...] = (
    ((28, 28, 32), 5), ((226, 226, 222), 5), ((122, 122, 126), 4), ((38, 48, 92), 4), ((62, 92, 148), 4),
    ((132, 168, 212), 3), ((186, 38, 44), 3), ((224, 132, 158), 2), ((232, 198, 74), 2), ((64, 138, 82), 2),
    ((92, 94, 58), 2), ((112, 78, 54), 2), ((204, 182, 146), 3), ((110, 66, 142), 2), ((226, 122, 48), 2),
    ((70, 178, 178), 2),
)  # fmt: skip
_BOTTOMS: tuple[tuple[Colour, float], ...] = (
    ((30, 30, 34), 5), ((44, 56, 92), 5), ((84, 106, 148), 4), ((110, 110, 114), 3), ((190, 170, 136), 3),
    ((222, 222, 216), 2), ((96, 92, 60), 2), ((104, 74, 54), 2), ((156, 44, 56), 1), ((206, 140, 160), 1),
)  # fmt: skip
_SHOES: tuple[tuple[Colour, float], ...] = (
    ((26, 26, 28), 4), ((232, 232, 232), 4), ((112, 74, 50), 2), ((170, 44, 44), 1), ((60, 92, 168), 1), ((150, 150, 150), 1),
)  # fmt: skip
_HAIR: tuple[tuple[Colour, float], ...] = (
    ((22, 20, 22), 6),
    ((62, 42, 30), 3),
    ((118, 82, 48), 1),
    ((150, 148, 146), 1),
)
_SKIN: tuple[tuple[Colour, float], ...] = (
    ((226, 182, 150), 4),
    ((198, 148, 112), 3),
    ((146, 100, 72), 2),
    ((96, 64, 48), 1),
)

PATTERNS = ("plain", "stripes", "bars", "checks", "print", "open", "halves")
CARRIED = ("none", "backpack", "handbag", "shoulder_bag", "umbrella")


def stream(seed: int, purpose: int, *key: int) -> np.random.Generator:
    """The random numbers of one purpose; equal arguments give equal numbers in any process and order."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, purpose, *key))))


@dataclass(frozen=True)
class Person:
    """An identity's looks; lengths are shares of the body height, ``*_cover`` shares of the limb."""

    skin: Colour
    hair: Colour
    top: Colour
    accent: Colour
    bottom: Colour
    shoes: Colour
    bag: Colour
    pattern: str
    pattern_step: float
    carried: str
    side: int
    sleeve_cover: float
    leg_cover: float
    skirt: bool
    shirt_end: float
    hair_length: float
    build: float
    shoulder: float
    hip: float
    leg_share: float
    head: float
    trouser_width: float
    folds: float


def _pick(rng: np.random.Generator, table: tuple[tuple[Colour, float], ...], jitter: float = 12.0) -> Colour:
    weights = np.cumsum([w for _, w in table])
    base = table[int(np.searchsorted(weights, rng.random() * weights[-1], side="right"))][0]
    moved = np.clip(np.array(base) + rng.uniform(-jitter, jitter, 3), 0, 255)
    return (int(moved[0]), int(moved[1]), int(moved[2]))


def person(seed: int, identity: int) -> Person:
    """The looks of ``identity``: clothes, proportions, texture and the thing carried."""
    rng = stream(seed, LOOKS, identity)
    top, bottom = _pick(rng, _CLOTHES), _pick(rng, _BOTTOMS)
    accent = _pick(rng, _CLOTHES)
    if sum(abs(a - b) for a, b in zip(top, accent)) < 120:  # a pattern nobody could see is no pattern
        accent = (225, 225, 220) if sum(top) < 380 else (40, 40, 48)
    skirt = bool(rng.random() < 0.25)
    covers = (0.28, 0.5) if skirt else (0.38, 0.55, 1.0, 1.0, 1.0)
    return Person(
        skin=_pick(rng, _SKIN, 8),
        hair=_pick(rng, _HAIR, 8),
        top=top,
        accent=accent,
        bottom=top if skirt and rng.random() < 0.4 else bottom,
        shoes=_pick(rng, _SHOES),
        bag=_pick(rng, _CLOTHES),
        pattern=PATTERNS[int(rng.choice(len(PATTERNS), p=(0.34, 0.14, 0.08, 0.1, 0.14, 0.12, 0.08)))],
        pattern_step=float(rng.uniform(0.026, 0.06)),
        carried=CARRIED[int(rng.choice(len(CARRIED), p=(0.4, 0.25, 0.15, 0.14, 0.06)))],
        side=1 if rng.random() < 0.5 else -1,
        sleeve_cover=float(rng.choice((0.12, 0.42, 0.42, 0.7, 1.0, 1.0))),
        leg_cover=float(rng.choice(covers)),
        skirt=skirt,
        shirt_end=float(rng.uniform(0.46, 0.56)),
        hair_length=float(rng.choice((0.0, 0.0, 0.0, 0.07, 0.14)))
        if not skirt
        else float(rng.choice((0.05, 0.1, 0.16))),
        build=float(rng.uniform(0.84, 1.24)),
        shoulder=float(rng.uniform(0.105, 0.128)),
        hip=float(rng.uniform(0.07, 0.092)),
        leg_share=float(rng.uniform(0.47, 0.53)),
        head=float(rng.uniform(0.125, 0.148)),
        trouser_width=float(rng.uniform(0.85, 1.3)),
        folds=float(rng.uniform(0.04, 0.13)),
    )
