"""Where and through what: six cameras, their scenes, what stands in the way, and what a lens and sensor do."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from reid_core.data._synthetic_looks import SCENE, Colour, stream


@dataclass(frozen=True)
class Camera:
    """One camera's habits.

    Attributes:
        yaw: degrees; which side of people it mostly sees (0 front, 90 side, 180 back). turned: share walking the other way.
        tilt: foreshortening of legs. gain: per channel. gamma, contrast, saturation: 1 changes nothing.
        blur: standard deviation in pixels at 128 rows. detail: share of the resolution kept. noise: of 255.
        ground, wall: colours of the scene.
    """

    yaw: float
    turned: float
    tilt: float
    gain: tuple[float, float, float]
    gamma: float
    contrast: float
    saturation: float
    blur: float
    detail: float
    noise: float
    ground: Colour
    wall: Colour


CAMERAS = (
    Camera(10, 0.2, 0.96, (1.02, 1.0, 0.97), 1.0, 1.05, 1.0, 0.3, 1.0, 4, (168, 164, 156), (120, 140, 96)),
    Camera(175, 0.2, 0.92, (1.12, 1.0, 0.84), 0.95, 1.0, 0.95, 0.5, 0.8, 5, (190, 172, 150), (150, 112, 90)),
    Camera(85, 0.4, 0.97, (0.78, 0.84, 0.98), 1.15, 0.9, 0.8, 0.5, 0.75, 8, (112, 116, 122), (84, 92, 104)),
    Camera(40, 0.25, 0.9, (1.08, 1.08, 1.06), 0.85, 1.2, 1.1, 0.4, 0.9, 4, (204, 200, 192), (176, 184, 186)),
    Camera(225, 0.3, 0.94, (0.88, 1.02, 0.88), 1.05, 0.82, 0.7, 0.6, 0.7, 6, (120, 144, 92), (92, 122, 84)),
    Camera(130, 0.4, 0.88, (0.98, 0.94, 1.1), 1.1, 0.95, 0.85, 0.9, 0.5, 10, (146, 148, 160), (128, 128, 140)),
)


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], grid: tuple[int, int]) -> NDArray[np.float32]:
    """(H, W) float32 of soft spots, about standard normal at ``grid`` (rows, columns) points, bicubic between."""
    points = Image.fromarray(rng.standard_normal(grid, dtype=np.float32))
    return np.asarray(points.resize((shape[1], shape[0]), Image.Resampling.BICUBIC))


@functools.lru_cache(maxsize=32)
def scene(seed: int, camera: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The empty view of a camera: (1.25 H, 8 W, 3) uint8, read-only. Cached: a pure function, but slower than a crop."""
    rng, look = stream(seed, SCENE, camera), CAMERAS[camera]
    height, width = size[0] * 5 // 4, size[1] * 8
    image = Image.new("RGB", (width, height), look.wall)
    pen = ImageDraw.Draw(image)
    edge = int(height * rng.uniform(0.35, 0.6))
    pen.rectangle((0, edge, width, height), fill=look.ground)
    unit = height / 10
    for _ in range(26):  # windows, doors, cars, hedges, signs, trunks
        x, w = rng.uniform(-unit, width), rng.uniform(0.3, 3.5) * unit
        base = np.array(look.wall) * rng.uniform(0.45, 1.35)
        tint = np.clip(base + rng.uniform(-25, 25, 3), 0, 255).astype(int)
        fill = (int(tint[0]), int(tint[1]), int(tint[2]))
        top, bottom = edge - rng.uniform(0.5, 6) * unit, edge + rng.uniform(-2.5, 0.8) * unit
        box = (x, min(top, bottom), x + w, max(top, bottom))
        (pen.rectangle if rng.random() < 0.6 else pen.ellipse)(box, fill=fill)
    for _ in range(10):  # kerbs, joints between slabs, shadows on the ground
        y, slope = rng.uniform(edge, height), rng.uniform(-0.06, 0.06) * width
        dark = rng.uniform(0.7, 1.15)
        tone = tuple(min(255, int(v * dark)) for v in look.ground)
        pen.line((0, y, width, y + slope), fill=tone, width=max(1, int(rng.uniform(0.1, 0.8) * unit)))
    pixels = np.asarray(image.filter(ImageFilter.GaussianBlur(size[0] / 90)), dtype=np.float32)
    rough = smooth_noise(rng, (height, width), (height // 3, width // 3)) * 7
    soft = smooth_noise(rng, (height, width), (4, 24)) * 9
    view = np.clip(pixels + (rough + soft)[..., None], 0, 255).astype(np.uint8)
    view.setflags(write=False)
    return view


def draw_obstacle(layer: Image.Image, rng: np.random.Generator) -> None:
    """A pole, a bush or a low wall in front of everything, on an RGBA layer."""
    width, height = layer.size
    pen = ImageDraw.Draw(layer)
    kind = rng.random()
    tone = rng.uniform(40, 190)
    if kind < 0.4:
        x, w = rng.uniform(0.05, 0.95) * width, rng.uniform(0.04, 0.14) * width
        grey = (int(tone), int(tone), int(tone * rng.uniform(0.85, 1.1)), 255)
        pen.rectangle((x - w / 2, 0, x + w / 2, height), fill=grey)
    elif kind < 0.75:
        x, y = rng.uniform(0.0, 1.0) * width, height * rng.uniform(0.75, 1.0)
        for _ in range(14):
            green = rng.uniform(0.6, 1.2)
            cx, cy = x + rng.normal(0, 0.2) * width, y + rng.normal(0, 0.06) * height
            r = rng.uniform(0.06, 0.16) * width
            pen.ellipse((cx - r, cy - r, cx + r, cy + r), fill=(int(52 * green), int(84 * green), int(40 * green), 255))
    else:
        y = height * rng.uniform(0.68, 0.9)
        pen.rectangle((0, y, width, height), fill=(int(tone), int(tone * 0.96), int(tone * 0.9), 255))


def photograph(image: Image.Image, look: Camera, rng: np.random.Generator, strength: float) -> Image.Image:
    """What the camera makes of a view: its resolution, blur, colours and noise, each a little different every time.

    Args:
        image: RGB.
        look: the camera.
        rng: of this shot.
        strength: scale of the camera's colour habits; 0 is a faithful camera.
    """
    width, height = image.size
    detail = look.detail * rng.uniform(0.75, 1.0)
    if detail < 0.95:
        small = (max(8, round(width * detail)), max(16, round(height * detail)))
        image = image.resize(small, Image.Resampling.BILINEAR).resize((width, height), Image.Resampling.BILINEAR)
    blur = look.blur * rng.uniform(0.5, 1.6) * height / 128
    if blur > 0.35:
        image = image.filter(ImageFilter.GaussianBlur(blur))
    saturation = 1 + (look.saturation * rng.uniform(0.85, 1.1) - 1) * strength
    r, g, b = (v * (1 - saturation) for v in (0.299, 0.587, 0.114))
    s = saturation
    image = image.convert("RGB", (r + s, g, b, 0, r, g + s, b, 0, r, g, b + s, 0))
    exposure = rng.normal(1.0, 0.1 * strength)
    gains = 1 + (np.array(look.gain) * rng.normal(1.0, 0.03, 3) - 1) * strength
    contrast = 1 + (look.contrast * rng.uniform(0.88, 1.1) - 1) * strength
    gamma = 1 + (look.gamma * rng.uniform(0.92, 1.08) - 1) * strength
    tones = (np.arange(256, dtype=np.float64) / 255)[None] ** gamma
    curve = ((tones - 0.45) * contrast + 0.45) * exposure * gains[:, None]
    image = image.point(np.clip(np.rint(curve * 255), 0, 255).astype(np.uint8).ravel().tolist())
    grain = rng.standard_normal((height, width, 3), dtype=np.float32)
    grain *= look.noise * float(rng.uniform(0.6, 1.4))
    grain += np.asarray(image)
    return Image.fromarray(np.clip(grain, 0, 255, out=grain).astype(np.uint8))
