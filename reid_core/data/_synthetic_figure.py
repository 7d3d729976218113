"""A person drawn from any side: limbs, clothes and the thing carried as shapes, far ones first."""

from __future__ import annotations

import math
from dataclasses import dataclass

from PIL import Image, ImageDraw

from reid_core.data._synthetic_looks import Colour, Person


@dataclass(frozen=True)
class Pose:
    """How the figure stands in the picture.

    Attributes:
        yaw: radians; 0 faces the viewer, pi/2 walks to the right, pi shows the back.
        phase: radians, the moment of the step. stride: length of the step, share of the body height.
        tilt: foreshortening of the legs seen from above, 1 at eye level.
        x, y: pixel of the middle of the body and of the top of the head. height: of the body, in pixels.
        stretch: horizontal scale, of boxes brought to one shape.
    """

    yaw: float
    phase: float
    stride: float
    tilt: float
    x: float
    y: float
    height: float
    stretch: float


def _shade(colour: Colour, factor: float) -> tuple[int, int, int, int]:
    r, g, b = (min(255, int(v * factor)) for v in colour)
    return (r, g, b, 255)


class _Figure:
    """Draws one person on an RGBA layer; body coordinates are (left, forward, down) in body heights."""

    def __init__(self, layer: Image.Image, who: Person, pose: Pose) -> None:
        self.layer, self.who, self.pose = layer, who, pose
        self.draw = ImageDraw.Draw(layer)
        self.cos, self.sin = math.cos(pose.yaw), math.sin(pose.yaw)
        # Seen from above the legs shrink; the whole is stretched back to the height of the box.
        self.hip_y = 1.0 - who.leg_share
        self.scale_y = 1.0 / (self.hip_y + who.leg_share * pose.tilt)
        swing = math.sin(pose.phase)
        self.step = swing * pose.stride
        self.arm_swing = -swing * pose.stride * 0.8

    def at(self, left: float, forward: float, down: float) -> tuple[float, float]:
        """Pixel of a point of the body."""
        if down > self.hip_y:
            down = self.hip_y + (down - self.hip_y) * self.pose.tilt
        x = self.cos * left + self.sin * forward
        size = self.pose.height
        return self.pose.x + x * size * self.pose.stretch, self.pose.y + down * self.scale_y * size

    def depth(self, left: float, forward: float) -> float:
        """Distance towards the viewer."""
        return self.cos * forward - self.sin * left

    def half(self, lateral: float, deep: float) -> float:
        """Half the width in pixels of an elliptical section."""
        return math.hypot(self.cos * lateral, self.sin * deep) * self.pose.height * self.pose.stretch

    def ellipse(self, cx: float, cy: float, rx: float, ry: float, fill: tuple[int, ...]) -> None:
        if rx > 0.3 and ry > 0.3:
            self.draw.ellipse((cx - rx, cy - ry, cx + rx, cy + ry), fill=fill)

    def limb(self, a: tuple[float, float], b: tuple[float, float], ra: float, rb: float, fill: tuple[int, ...]) -> None:
        """A tapered limb with round ends; radii in body heights."""
        ra, rb = ra * self.pose.height, rb * self.pose.height
        dx, dy = b[0] - a[0], b[1] - a[1]
        length = math.hypot(dx, dy) or 1.0
        nx, ny = -dy / length, dx / length
        self.draw.polygon(
            ((a[0] + nx * ra, a[1] + ny * ra), (b[0] + nx * rb, b[1] + ny * rb),
             (b[0] - nx * rb, b[1] - ny * rb), (a[0] - nx * ra, a[1] - ny * ra)), fill=fill,
        )  # fmt: skip
        self.ellipse(*a, ra, ra, fill)
        self.ellipse(*b, rb, rb, fill)

    def chain(
        self,
        joints: tuple[tuple[float, float], ...],
        radii: tuple[float, ...],
        cover: float,
        cloth: tuple[int, ...],
        skin: tuple[int, ...],
        widen: float = 1.0,
    ) -> None:
        """A limb of two bones, clothed over the first ``cover`` of its length."""
        if cover < 1.0:
            self.limb(joints[0], joints[1], radii[0], radii[1], skin)
            self.limb(joints[1], joints[2], radii[1], radii[2], skin)
        for bone in (0, 1):
            part = min(1.0, cover * 2 - bone)
            if part > 0:
                a, b = joints[bone], joints[bone + 1]
                end = (a[0] + (b[0] - a[0]) * part, a[1] + (b[1] - a[1]) * part)
                ra, rb = radii[bone] * widen, (radii[bone] + (radii[bone + 1] - radii[bone]) * part) * widen
                self.limb(a, end, ra, rb, cloth)

    # -- the parts, far to near --------------------------------------------------------------------------------------

    def leg(self, side: int) -> None:
        who, build = self.who, self.who.build
        forward = self.step * side
        lift = max(0.0, -forward) * 0.25
        near = 1.0 if self.depth(side * 0.04, forward) >= 0 else 0.82
        left = side * who.hip * 0.52
        joints = (
            self.at(left, 0.0, self.hip_y),
            self.at(left, forward * 0.6 + 0.01, self.hip_y + who.leg_share * 0.5),
            self.at(left, forward, 0.965 - lift),
        )
        foot = self.at(left, forward + 0.05, 0.985 - lift)
        self.limb(joints[2], foot, 0.02, 0.016, _shade(who.shoes, near))
        cloth = _shade(who.bottom, near)
        cover = 0.1 if who.skirt else who.leg_cover
        self.chain(
            joints, (0.05 * build, 0.036 * build, 0.024), cover, cloth, _shade(who.skin, near), who.trouser_width
        )

    def arm(self, side: int) -> None:
        who, build = self.who, self.who.build
        holds = who.carried == "umbrella" and side == who.side
        forward = self.arm_swing * side
        left = side * who.shoulder * build * 0.94
        near = 0.92 if self.depth(left, forward) >= 0 else 0.78
        shoulder = self.at(left * 0.92, 0.0, 0.205)
        if holds:
            joints = (shoulder, self.at(left * 1.1, 0.03, 0.33), self.at(left * 0.8, 0.12, 0.25))
        else:
            joints = (shoulder, self.at(left * 1.14, forward * 0.4, 0.34), self.at(left * 1.2, forward + 0.02, 0.47))
        self.ellipse(*joints[2], 0.02 * self.pose.height, 0.024 * self.pose.height, _shade(who.skin, near))
        radii = (0.027 * build, 0.026 * build, 0.019)
        self.chain(joints, radii, who.sleeve_cover, _shade(who.top, near), _shade(who.skin, near), 1.08)
        if who.carried == "handbag" and side == who.side:
            self.bag(joints[2][0], joints[2][1] + 0.09 * self.pose.height, 0.07, 0.055)
        if holds:
            self.umbrella(joints[2])

    def bag(self, x: float, y: float, rx: float, ry: float) -> None:
        size = self.pose.height
        rx, ry = rx * size * self.pose.stretch * (0.55 + 0.45 * abs(self.sin)), ry * size
        fill = _shade(self.who.bag, 0.95)
        self.draw.line((x - rx * 0.6, y - ry, x, y - ry * 1.8, x + rx * 0.6, y - ry), fill=fill, width=2)
        self.draw.rectangle((x - rx, y - ry, x + rx, y + ry), fill=fill)
        self.draw.rectangle((x - rx, y - ry, x + rx, y - ry * 0.5), fill=_shade(self.who.bag, 0.75))

    def umbrella(self, hand: tuple[float, float]) -> None:
        size = self.pose.height
        x, y = self.pose.x + 0.3 * (hand[0] - self.pose.x), self.pose.y - 0.03 * size
        rx, ry = 0.3 * size * self.pose.stretch, 0.15 * size
        self.draw.line((x, y, hand[0], hand[1]), fill=(60, 60, 60, 255), width=3)
        self.draw.pieslice((x - rx, y - ry, x + rx, y + ry), 180, 360, fill=_shade(self.who.bag, 1.0))
        self.draw.pieslice((x - rx * 0.4, y - ry, x + rx * 0.4, y + ry), 180, 360, fill=_shade(self.who.bag, 0.85))

    def backpack(self) -> None:
        who, size = self.who, self.pose.height
        x, _ = self.at(0.0, -0.085 * who.build, 0.3)
        rx = self.half(0.085, 0.055)
        top, end = self.at(0, 0, 0.195)[1], self.at(0, 0, 0.43)[1]
        self.draw.rounded_rectangle((x - rx, top, x + rx, end), radius=0.035 * size, fill=_shade(who.bag, 1.0))
        self.draw.rectangle((x - rx * 0.7, top + (end - top) * 0.55, x + rx * 0.7, end - 2), fill=_shade(who.bag, 0.78))

    def torso(self) -> None:
        who, build = self.who, self.who.build
        deep = 0.072 * build
        levels = (
            (0.158, who.shoulder * build * 0.45, deep * 0.6),
            (0.19, who.shoulder * build, deep * 0.9),
            (0.3, who.shoulder * build * 0.9, deep * 1.05),
            (0.42, who.hip * build * 1.02, deep),
            (who.shirt_end, who.hip * build * 1.12, deep * 1.05),
        )
        rows = [(self.at(0, 0, y), self.half(lateral, depth)) for y, lateral, depth in levels]
        outline = [(p[0] - w, p[1]) for p, w in rows] + [(p[0] + w, p[1]) for p, w in reversed(rows)]
        if who.skirt:
            self.skirt()
        else:
            hip, crotch = self.at(0, 0, self.hip_y - 0.05), self.at(0, 0, self.hip_y + 0.03)
            w = self.half(who.hip * build, deep)
            self.draw.rectangle((hip[0] - w, hip[1], hip[0] + w, crotch[1]), fill=_shade(who.bottom, 1.0))
        self.draw.polygon(outline, fill=_shade(who.top, 1.0))
        if who.pattern in ("stripes", "bars", "checks", "halves"):
            self.woven(outline)
        elif who.pattern in ("print", "open"):
            self.front(deep)
        straps = who.carried == "backpack" and self.cos > 0.1
        for left in (-0.06, 0.06) if straps else ():
            a, b = self.at(left, deep, 0.185), self.at(left, deep, 0.34)
            self.draw.line((*a, *b), fill=_shade(who.bag, 0.9), width=4)
        if who.carried == "shoulder_bag":
            front = deep if self.cos > 0 else -deep
            a, b = self.at(-0.08 * who.side, front, 0.18), self.at(who.side * 0.1, front * 0.6, 0.47)
            self.draw.line((*a, *b), fill=_shade(who.bag, 0.85), width=4)

    def skirt(self) -> None:
        who = self.who
        hem = self.hip_y + who.leg_share * who.leg_cover
        (x, waist), (_, end) = self.at(0, 0, 0.42), self.at(0, 0, hem)
        w0 = self.half(who.hip * who.build, 0.07)
        w1 = self.half(who.hip * 1.35 * who.trouser_width, 0.1) + abs(self.step * self.sin) * self.pose.height * 0.4
        self.draw.polygon(
            ((x - w0, waist), (x + w0, waist), (x + w1, end), (x - w1, end)), fill=_shade(who.bottom, 1.0)
        )

    def woven(self, outline: list[tuple[float, float]]) -> None:
        """Stripes across, bars down, both, or a lower half in the second colour, inside the outline of the shirt."""
        who, size = self.who, self.pose.height
        mask = Image.new("1", self.layer.size)
        ImageDraw.Draw(mask).polygon(outline, fill=1)
        cloth = Image.new("RGBA", self.layer.size, _shade(who.top, 1.0))
        pen, fill = ImageDraw.Draw(cloth), _shade(who.accent, 1.0)
        x0, x1 = min(p[0] for p in outline), max(p[0] for p in outline)
        y0, y1 = outline[0][1], outline[4][1]
        step = who.pattern_step * size
        if who.pattern == "halves":
            pen.rectangle((x0, y0 + (y1 - y0) * 0.5, x1, y1), fill=fill)
        if who.pattern in ("stripes", "checks"):
            for i in range(int((y1 - y0) / step) + 1):
                pen.rectangle((x0, y0 + (i + 0.3) * step, x1, y0 + (i + 0.72) * step), fill=fill)
        if who.pattern in ("bars", "checks"):
            offset = (self.pose.yaw * 0.08 * size) % step  # the cloth turns with the body
            for i in range(-1, int((x1 - x0) / step) + 1):
                left = x0 + offset + (i + 0.3) * step
                pen.rectangle((left, y0, left + 0.42 * step, y1), fill=fill)
        self.layer.paste(cloth, (0, 0), mask)

    def front(self, deep: float) -> None:
        """A print on the chest or the shirt under an open jacket: only where the front is seen."""
        if self.cos < 0.15:
            return
        who, size = self.who, self.pose.height
        x = self.at(0, deep, 0)[0]
        wide = (0.055 if who.pattern == "print" else 0.034) * size * self.cos
        if who.pattern == "print":
            y = self.at(0, 0, 0.29)[1]
            box = (x - wide, y - who.pattern_step * size, x + wide, y + who.pattern_step * size)
            (self.draw.ellipse if who.side > 0 else self.draw.rectangle)(box, fill=_shade(who.accent, 1.0))
        else:
            top, end = self.at(0, 0, 0.165)[1], self.at(0, 0, who.shirt_end)[1]
            self.draw.polygon(
                ((x - wide, top), (x + wide, top), (x + wide * 1.3, end), (x - wide * 1.3, end)),
                fill=_shade(who.accent, 1.0),
            )

    def head(self) -> None:
        who, size = self.who, self.pose.height
        x, y = self.at(0, 0.012, who.head * 0.5)
        ry = who.head * 0.5 * size * self.scale_y
        rx = self.half(0.044, 0.052)
        neck = self.at(0, 0, 0.17)
        self.limb((x, y), neck, 0.028, 0.03, _shade(who.skin, 0.85))
        self.ellipse(x, y, rx, ry, _shade(who.hair, 1.0))
        if self.cos > -0.45:
            shift = self.sin * 0.02 * size * self.pose.stretch
            wide = rx * (0.84 if self.cos > 0.4 else 0.68)
            self.ellipse(x + shift, y + ry * 0.22, wide, ry * 0.76, _shade(who.skin, 1.0))
        if who.hair_length > 0 and self.cos <= 0.2:
            self.hair(x, y, rx)

    def hair(self, x: float, y: float, rx: float) -> None:
        """Long hair, falling over the shoulders; painted before the body where the face is seen."""
        end = y + (self.who.hair_length + 0.05) * self.pose.height
        x -= self.sin * 0.02 * self.pose.height
        box = (x - rx * 1.15, y, x + rx * 1.15, end)
        self.draw.rounded_rectangle(box, radius=rx * 0.5, fill=_shade(self.who.hair, 0.95))

    def paint(self) -> None:
        """The whole person."""
        far_first = (-1, 1) if self.depth(-1, 0) < self.depth(1, 0) else (1, -1)
        behind = self.cos > 0  # the backpack is
        lead = sorted((-1, 1), key=lambda side: self.depth(side * 0.04, self.step * side))
        for side in lead:
            self.leg(side)
        self.arm(far_first[0])
        if self.who.carried == "backpack" and behind:
            self.backpack()
        if self.who.hair_length > 0 and self.cos > 0.2:
            self.hair(*self.at(0, 0.012, self.who.head * 0.5), self.half(0.044, 0.052))
        self.torso()
        self.head()
        if self.who.carried == "shoulder_bag":
            x, y = self.at(self.who.side * 0.11, -0.01, 0.5)
            if self.depth(self.who.side * 0.11, -0.01) > -0.06:
                self.bag(x, y, 0.065, 0.05)
        self.arm(far_first[1])
        if self.who.carried == "backpack" and not behind:
            self.backpack()


def draw_person(layer: Image.Image, who: Person, pose: Pose) -> None:
    """Draw ``who`` on an RGBA layer; untouched pixels keep alpha 0."""
    _Figure(layer, who, pose).paint()
