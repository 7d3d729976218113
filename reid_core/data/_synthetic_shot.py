"""One picture: a person before a scene, what is in the way, through a camera; and the junk of an automatic detector."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from reid_core.data._synthetic_figure import Pose, draw_person
from reid_core.data._synthetic_looks import JUNK, SHOT, TRACK, person, stream
from reid_core.data._synthetic_scene import (
    CAMERAS,
    draw_obstacle,
    photograph,
    scene,
    smooth_noise,
)
from reid_core.errors import UsageError

# Drawn at twice the size and averaged down, which smooths the edges.
_SCALE = 2
# How far cameras are from a faithful one. At 1 a network of the demo's budget learns the cameras, not the people.
STRENGTH = 0.4
# Passers-by are taken from far beyond every identity of a data set.
_PASSERS_BY = (1 << 20, 1 << 30)


def render(identity: int, camera: int, shot: int, *, seed: int, size: tuple[int, int] = (128, 64)) -> Image.Image:
    """Picture number ``shot`` of a person as one camera sees it: RGB, a pure function of the arguments.

    Args:
        identity: who, from 0; looks depend on (seed, identity) alone.
        camera: 0 to 5. The direction a person walks in depends on (seed, identity, camera).
        shot: which picture, from 0; moment of the step, box, light, blur, noise and what is in the way depend on it.
        seed: from 0.
        size: (height, width) in pixels.

    Raises:
        UsageError: a number is out of range.
    """
    check(identity=identity, camera=camera, shot=shot, seed=seed, size=size)
    rng, track = stream(seed, SHOT, identity, camera, shot), stream(seed, TRACK, identity, camera)
    who, pose = person(seed, identity), _pose(rng, track, camera, size)
    layer = _empty(size)
    if rng.random() < 0.15:
        _passer_by(layer, rng, seed, pose, behind=True)
    draw_person(layer, who, pose)
    hidden = rng.random()
    if hidden < 0.07:
        _passer_by(layer, rng, seed, pose, behind=False)
    elif hidden < 0.2:
        draw_obstacle(layer, rng)
    where = track.random() + rng.random() * 0.12
    return _finish(layer, rng, seed, camera, size, where, who.folds)


def render_junk(number: int, camera: int, *, seed: int, size: tuple[int, int] = (128, 64)) -> Image.Image:
    """What a detector takes for a person: a part of a body, two halves, or nothing but street. Arguments as ``render``.

    Raises:
        UsageError: a number is out of range.
    """
    check(identity=number, camera=camera, shot=0, seed=seed, size=size)
    rng = stream(seed, JUNK, number, camera)
    layer = _empty(size)
    kind = rng.random()
    if kind < 0.65:
        who = person(seed, int(rng.integers(*_PASSERS_BY)))
        pose = _pose(rng, rng, camera, size)
        height = pose.height * rng.uniform(1.7, 2.6)
        x = pose.x + rng.choice((-1, 1)) * rng.uniform(0.0, 0.5) * layer.width
        y = -rng.uniform(0.15, 0.9) * (height - layer.height)
        draw_person(layer, who, Pose(pose.yaw, pose.phase, pose.stride, pose.tilt, x, y, height, pose.stretch))
    if kind > 0.5:
        draw_obstacle(layer, rng)
    return _finish(layer, rng, seed, camera, size, float(rng.random()), 0.1)


def check(*, identity: int, camera: int, shot: int, seed: int, size: tuple[int, int]) -> None:
    """Raise UsageError where a number is out of range."""
    for name, value in (("identity", identity), ("shot", shot), ("seed", seed)):
        if value < 0:
            raise UsageError(f"{name} must be 0 or more, got {value}.")
    if not 0 <= camera < len(CAMERAS):
        raise UsageError(f"camera must lie in [0, {len(CAMERAS)}), got {camera}.")
    if min(size) < 16 or max(size) > 1024:
        raise UsageError(f"size (height, width) must lie between 16 and 1024 pixels, got {size}.")


def _empty(size: tuple[int, int]) -> Image.Image:
    return Image.new("RGBA", (size[1] * _SCALE, size[0] * _SCALE))


def _pose(rng: np.random.Generator, track: np.random.Generator, camera: int, size: tuple[int, int]) -> Pose:
    """Where the detector's box finds the person: off centre, and sometimes cut."""
    look, height, width = CAMERAS[camera], size[0] * _SCALE, size[1] * _SCALE
    yaw = look.yaw + (180 if track.random() < look.turned else 0) + track.normal(0, 18) + rng.normal(0, 8)
    fill = rng.uniform(0.84, 0.97)
    y = (1 - fill) * rng.uniform(0.2, 0.8) + rng.normal(0, 0.02)
    if rng.random() < 0.1:
        fill *= rng.uniform(1.15, 1.5)
        y = rng.uniform(-0.02, 0.05) if rng.random() < 0.7 else 1 - fill
    return Pose(
        yaw=math.radians(yaw),
        phase=rng.uniform(0, 2 * math.pi),
        stride=rng.uniform(0.03, 0.13),
        tilt=look.tilt,
        x=width * (0.5 + rng.normal(0, 0.05)),
        y=y * height,
        height=fill * height,
        # A body keeps its shape when the box is not twice as high as wide.
        stretch=rng.uniform(0.88, 1.15) * 2 * size[1] / size[0],
    )


def _passer_by(layer: Image.Image, rng: np.random.Generator, seed: int, pose: Pose, *, behind: bool) -> None:
    who = person(seed, int(rng.integers(*_PASSERS_BY)))
    aside = rng.choice((-1, 1)) * rng.uniform(0.28, 0.5) * layer.width
    height = pose.height * (rng.uniform(0.7, 0.95) if behind else rng.uniform(0.95, 1.2))
    y = pose.y + (pose.height - height) * 0.8
    yaw, phase = rng.uniform(0, 2 * math.pi, 2)
    draw_person(layer, who, Pose(float(yaw), float(phase), 0.08, pose.tilt, pose.x + aside, y, height, pose.stretch))


def _finish(
    layer: Image.Image,
    rng: np.random.Generator,
    seed: int,
    camera: int,
    size: tuple[int, int],
    where: float,
    folds: float,
) -> Image.Image:
    """Light the figures, put them before the scene (``where``: 0 left end, 1 right end) and take the picture."""
    height, width = size
    figure = np.asarray(layer.reduce(_SCALE), dtype=np.float32)
    alpha = figure[..., 3:] / 255
    side = np.linspace(-1, 1, width, dtype=np.float32)[None] * np.float32(rng.uniform(-0.22, 0.22))
    light = 1 + side + smooth_noise(rng, size, (max(2, height // 6), max(2, width // 6))) * np.float32(folds)
    view = scene(seed, camera, size)
    left = min(view.shape[1] - width, int(where / 1.12 * (view.shape[1] - width)))
    top = int(rng.integers(0, view.shape[0] - height + 1))
    behind = view[top : top + height, left : left + width] * (1 - alpha)
    pixels = np.asarray(figure[..., :3] * (light[..., None] * alpha) + behind, dtype=np.float32)
    image = Image.fromarray(np.clip(pixels, 0, 255, out=pixels).astype(np.uint8))
    return photograph(image, CAMERAS[camera], rng, STRENGTH)
