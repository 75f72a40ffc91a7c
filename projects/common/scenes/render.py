"""Draw shapes, textures, light and shadow, and cluttered backgrounds.

Everything is drawn at a higher resolution and reduced by area averaging. Each object is drawn in
its own small patch, so that the cost depends on the area of the objects and not of the canvas.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

from .scene import ObjectSpec, pick

# Hue in degrees, its jitter, saturation, value.
_HUES = {
    'red': (356, 4, 0.88, 0.86),
    'orange': (25, 3, 0.94, 0.97),
    'yellow': (51, 3, 0.86, 0.97),
    'green': (132, 12, 0.74, 0.64),
    'blue': (213, 8, 0.82, 0.86),
    'purple': (280, 7, 0.62, 0.70),
}
_DARK_TONE = {'yellow': 0.6}
_SHIFT = 4  # fractional bits of cv2's polygon coordinates
# Kinds of background by the range of their HSV value.
BACKGROUNDS = {'dark': (0.18, 0.32), 'grey': (0.46, 0.60), 'light': (0.78, 0.92)}


class Patch(Protocol):
    """Describe an object drawn alone: see :class:`ObjectPatch`."""

    @property
    def origin(self) -> tuple[int, int]:
        """Return x and y of the patch's upper left pixel in the image."""

    @property
    def alpha(self) -> np.ndarray:
        """Return the coverage (P, P) float32 of each pixel, from 0 to 1."""


@dataclass
class ObjectPatch:
    """Hold the outline of an object, drawn alone.

    Attributes:
        origin: x and y of the patch's upper left pixel in the image.
        points: Outline (N, 2) in subpixels of the patch.
        alpha: Coverage (P, P) float32 of each pixel, from 0 to 1.
    """

    origin: tuple[int, int]
    points: np.ndarray
    alpha: np.ndarray


def _unit_outlines() -> dict[str, np.ndarray]:
    def ring(count: int, start: float) -> np.ndarray:
        angles = np.deg2rad(start) + np.arange(count) * 2 * np.pi / count
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)

    star = ring(10, -90)
    star[1::2] *= 0.46
    arm = 0.36
    cross = [(-arm, -1), (arm, -1), (arm, -arm), (1, -arm), (1, arm), (arm, arm)]
    cross += [(-x, -y) for x, y in cross]
    t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    heart_y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return {
        'circle': ring(72, 0),
        'square': ring(4, 45),
        'triangle': ring(3, -90),
        'star': star,
        'cross': np.array(cross, dtype=float),
        'heart': np.stack([16 * np.sin(t) ** 3, -heart_y], axis=1),
    }


_OUTLINES = _unit_outlines()


def supersampling(image_size: int) -> int:
    """Return the number of subpixels per side of a pixel."""
    return 4 if image_size <= 256 else 3


def outline(shape: str, angle: float) -> np.ndarray:
    """Return an outline (N, 2) whose box is centered on the origin with a longer side of 1."""
    c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    points = _OUTLINES[shape] @ np.array([[c, s], [-s, c]])
    low, high = points.min(axis=0), points.max(axis=0)
    return (points - (low + high) / 2) / (high - low).max()


def object_patch(spec: ObjectSpec, image_size: int) -> ObjectPatch:
    """Draw the outline of an object."""
    fine = supersampling(image_size)
    side = spec.extent * image_size
    x, y = spec.center[0] * image_size, spec.center[1] * image_size
    origin = (int(x - side / 2) - 1, int(y - side / 2) - 1)
    patch_size = int(np.ceil(side)) + 4
    points = outline(spec.shape, spec.angle) * side + [x - origin[0], y - origin[1]]
    # cv2 counts from pixel centers.
    points = points * fine - 0.5
    canvas = np.zeros((patch_size * fine, patch_size * fine), dtype=np.uint8)
    cv2.fillPoly(canvas, [_fixed(points)], 255, shift=_SHIFT)
    alpha = cv2.resize(canvas, (patch_size, patch_size), interpolation=cv2.INTER_AREA)
    return ObjectPatch(origin, points, alpha.astype(np.float32) / 255)


def full_masks(patches: Sequence[Patch], image_size: int) -> np.ndarray:
    """Return masks (num_objects, size, size) bool of the pixels that are at least half covered."""
    masks = np.zeros((len(patches), image_size, image_size), dtype=bool)
    for mask, patch in zip(masks, patches):
        window, inner = windows(patch.origin, patch.alpha.shape[0], image_size)
        mask[window] = patch.alpha[inner] >= 0.5
    return masks


def draw_background(rng: np.random.Generator, image_size: int, tone: str) -> np.ndarray:
    """Draw a muted, cluttered background.

    Args:
        rng: Chooses colors and clutter.
        image_size: Side of the image in pixels.
        tone: 'dark', 'grey' or 'light'.

    Returns:
        The background (size, size, 3) float32, BGR, 0 to 255.
    """
    value = float(rng.uniform(*BACKGROUNDS[tone]))
    hue = float(rng.random())
    first = _muted(rng, hue, value * 0.86)
    second = _muted(rng, hue + float(rng.uniform(-0.2, 0.2)), min(1.0, value * 1.14))
    angle = float(rng.uniform(0, 2 * np.pi))
    axis = np.linspace(-0.5, 0.5, image_size, dtype=np.float32)
    ramp = axis[None, :] * np.cos(angle) + axis[:, None] * np.sin(angle)
    if rng.random() < 0.3:
        centre = rng.uniform(-0.3, 0.3, 2)
        ramp = np.hypot(axis[None, :] - centre[0], axis[:, None] - centre[1]) - 0.5
    ramp = np.clip(ramp + 0.5, 0, 1).astype(np.float32)[..., None]
    image = first * (1 - ramp) + second * ramp

    # Cloud-like variation from enlarged coarse random grids, with a slight vignette.
    shade = 1.07 - 0.30 * (axis[None, :] ** 2 + axis[:, None] ** 2)
    for cells, strength in ((4, 0.09), (12, 0.05), (40, 0.035)):
        grid = rng.random((cells, cells), dtype=np.float32) * 2 - 1
        cloud = cv2.resize(grid, (image_size, image_size), interpolation=cv2.INTER_CUBIC)
        shade += strength * cloud
    image = np.clip(image * shade[..., None], 0, 255).astype(np.uint8)

    fine = 2
    image = cv2.resize(image, None, fx=fine, fy=fine, interpolation=cv2.INTER_LINEAR)
    side = image_size * fine
    _draw_clutter(rng, image, side, hue, value)
    image = cv2.resize(image, (image_size, image_size), interpolation=cv2.INTER_AREA)
    return image.astype(np.float32)


def _draw_clutter(
    rng: np.random.Generator, image: np.ndarray, side: int, hue: float, value: float
) -> None:
    """Draw blobs, lines and fragments in tones close to the background, in place."""

    def tone(contrast: float) -> tuple[float, ...]:
        shift = contrast * (1 if rng.random() < 0.5 else -1)
        near = float(np.clip(value * (1 + shift), 0.06, 0.97))
        return tuple(_muted(rng, hue + float(rng.uniform(-0.25, 0.25)), near).tolist())

    def spot() -> tuple[int, int]:
        return int(rng.random() * side), int(rng.random() * side)

    def radius(low: float, high: float) -> int:
        return max(1, round(side * float(rng.uniform(low, high))))

    blobs = image.copy()
    for _ in range(int(rng.integers(3, 7))):
        axes = (radius(0.08, 0.28), radius(0.06, 0.2))
        cv2.ellipse(blobs, spot(), axes, float(rng.uniform(0, 180)), 0, 360, tone(0.14), -1)
    # Blur the blobs, but not the shapes drawn after them.
    soft = max(3, side // 16)
    image[:] = cv2.blur(cv2.blur(blobs, (soft, soft)), (soft, soft))

    draw = rng.random()
    if draw < 0.5:
        # Faint parallel lines, or a grid of dots.
        color, step = tone(0.09), side * float(rng.uniform(0.07, 0.11))
        count = int(side / step) + 1
        lean = float(rng.uniform(-0.5, 0.5)) * side
        for i in range(-count, 2 * count):
            at = int(i * step)
            if draw < 0.25:
                foot = (int(at + lean), side)
                cv2.line(image, (at, 0), foot, color, max(1, side // 170), cv2.LINE_AA)
            elif 0 <= i < count:
                for j in range(count):
                    cv2.circle(image, (at, int(j * step)), side // 110, color, -1, cv2.LINE_AA)
    for _ in range(int(rng.integers(2, 6))):
        width = radius(0.003, 0.008)
        cv2.line(image, spot(), spot(), tone(0.2), width, cv2.LINE_AA)
    for _ in range(int(rng.integers(1, 4))):
        start = float(rng.uniform(0, 360))
        size, width = radius(0.04, 0.2), radius(0.003, 0.007)
        cv2.ellipse(
            image, spot(), (size, size), start, 0, rng.uniform(60, 200), tone(0.2), width, 16
        )
    for _ in range(int(rng.integers(12, 26))):
        x, y = spot()
        reach = side * float(rng.uniform(0.008, 0.026))
        angles = np.sort(rng.uniform(0, 2 * np.pi, pick(rng, (3, 4, 5))))
        points = np.stack([x + reach * np.cos(angles), y + reach * np.sin(angles)], axis=1)
        cv2.fillPoly(image, [_fixed(points)], tone(0.25), cv2.LINE_AA, _SHIFT)


def draw_object(
    rng: np.random.Generator, image: np.ndarray, spec: ObjectSpec, patch: ObjectPatch
) -> None:
    """Draw an object with its shadow into the image, in place.

    Args:
        rng: Chooses the tones and the position of the texture.
        image: Image (size, size, 3) float32, BGR, 0 to 255.
        spec: The object to draw.
        patch: Its outline and position.
    """
    image_size = image.shape[0]
    draw_shadow(image, patch, 0.55)

    fine = supersampling(image_size)
    patch_size = patch.alpha.shape[0]
    second = _texture(rng, spec, patch_size, fine, image_size)
    rim = np.zeros((patch_size * fine,) * 2, dtype=np.uint8)
    thickness = max(2, round(0.014 * image_size * fine))
    cv2.polylines(rim, [_fixed(patch.points)], True, 255, thickness, cv2.LINE_8, _SHIFT)
    rim = cv2.resize(rim, (patch_size, patch_size), interpolation=cv2.INTER_AREA)
    weight_rim = rim.astype(np.float32)[..., None] * (0.75 / 255)

    main, other = _two_tones(rng, spec.color)
    colors = np.broadcast_to(main, (patch_size, patch_size, 3))
    if second is not None:
        colors = main + (other - main) * second[..., None]
    colors = colors + (main * 0.45 - colors) * weight_rim
    # Light from the upper left, with a soft gloss.
    axis = np.linspace(-0.5, 0.5, patch_size, dtype=np.float32)
    light = 1.0 - 0.18 * (axis[None, :] + axis[:, None])
    gloss = np.exp(-22 * (axis + np.float32(0.17)) ** 2)
    light += 0.13 * gloss[None, :] * gloss[:, None]
    colors = np.minimum(colors * light[..., None], 255)

    window, inner = windows(patch.origin, patch_size, image_size)
    alpha = patch.alpha[inner][..., None]
    image[window] += (colors[inner] - image[window]) * alpha


def add_noise(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Add mild camera noise, and return the image (size, size, 3) as uint8."""
    noise = rng.standard_normal(image.shape[:2], dtype=np.float32) * 2.0
    return np.clip(image + noise[..., None] + 0.5, 0, 255).astype(np.uint8)


def draw_shadow(image: np.ndarray, patch: Patch, strength: float) -> None:
    """Darken the image (size, size, 3) float32 beside and below a patch, in place."""
    image_size = image.shape[0]
    blur = max(3, round(0.035 * image_size))
    shadow = cv2.copyMakeBorder(patch.alpha, blur, blur, blur, blur, cv2.BORDER_CONSTANT, value=0)
    shadow = cv2.blur(cv2.blur(shadow, (blur, blur)), (blur, blur))
    x, y = patch.origin
    offset = round(0.018 * image_size)
    origin = (x - blur + offset, y - blur + offset)
    window, inner = windows(origin, shadow.shape[0], image_size)
    image[window] *= 1 - np.float32(strength) * shadow[inner][..., None]


def _texture(
    rng: np.random.Generator, spec: ObjectSpec, patch_size: int, fine: int, image_size: int
) -> np.ndarray | None:
    """Return the share (P, P) float32 of the second tone in each pixel, or None if plain."""
    if spec.texture == 'plain':
        return None
    # The period grows more slowly than the object: visible on small ones, fine on large ones.
    period = (0.022 + 0.18 * spec.extent) * image_size * fine
    angle = np.deg2rad(pick(rng, (0, 45, 90, 135)) + float(rng.uniform(-12, 12)))
    count = patch_size * fine
    axis = np.arange(count, dtype=np.float32) - count / 2
    c, s = np.float32(np.cos(angle) / period), np.float32(np.sin(angle) / period)
    u = axis[None, :] * c + axis[:, None] * s
    v = axis[:, None] * c - axis[None, :] * s
    if spec.texture == 'striped':
        cells = (u - np.floor(u)) < 0.5
    else:
        # Dots on a hexagonal grid, with every second row shifted by half a period.
        row = np.floor(v / 0.87)
        u = u + (row.astype(np.int32) & 1) * np.float32(0.5)
        du, dv = u - np.floor(u) - 0.5, v - (row + 0.5) * np.float32(0.87)
        cells = du * du + dv * dv < 0.30**2
    fine_mask = cells.astype(np.uint8) * 255
    mask = cv2.resize(fine_mask, (patch_size, patch_size), interpolation=cv2.INTER_AREA)
    return mask.astype(np.float32) / 255


def _two_tones(rng: np.random.Generator, color: str) -> tuple[np.ndarray, np.ndarray]:
    """Return two (3,) float32 BGR tones of one color."""
    degrees, jitter, saturation, value = _HUES[color]
    hue = (degrees + float(rng.uniform(-jitter, jitter))) % 360 / 360
    value = min(1.0, value * float(rng.uniform(0.93, 1.06)))
    main = _bgr(hue, saturation, value)
    # Pale yellow is hard to see on yellow, and dark orange looks brown.
    dark = {'yellow': True, 'orange': False}.get(color, bool(rng.random() < 0.4))
    if dark:
        return main, _bgr(hue, min(1.0, saturation * 1.1), value * _DARK_TONE.get(color, 0.45))
    return main, main + (255 - main) * np.float32(0.68)


def _muted(rng: np.random.Generator, hue: float, value: float) -> np.ndarray:
    return _bgr(hue % 1.0, float(rng.uniform(0.03, 0.09 + 0.1 * (1 - value))), value)


def _bgr(hue: float, saturation: float, value: float) -> np.ndarray:
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return np.array([blue, green, red], dtype=np.float32) * 255


def _fixed(points: np.ndarray) -> np.ndarray:
    """Convert points to cv2's fixed-point integers."""
    return np.round(points * (1 << _SHIFT)).astype(np.int32)


def windows(
    origin: tuple[int, int], patch_size: int, image_size: int
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the index of a patch in the image, and of the same pixels in the patch."""
    outer, inner = [], []
    for start in (origin[1], origin[0]):
        low, high = max(0, start), min(image_size, start + patch_size)
        outer.append(slice(low, high))
        inner.append(slice(low - start, high - start))
    return (outer[0], outer[1]), (inner[0], inner[1])
