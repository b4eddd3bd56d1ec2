"""The geometry of the chest phantoms: lungs, vessels in them, and nodules, as intensities in Hounsfield units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.ndimage import distance_transform_edt

from monai_ssl.data.phantom_anatomy import smooth_field

__all__ = ["AIR", "draw_chest", "draw_nodules", "draw_vessels"]

AIR = -1000.0
"""Intensity outside the body in HU."""

_LUNG, _FAT, _SOFT, _BONE = -860.0, -100.0, 45.0, 380.0  # HU
_DIAMETERS = (4.0, 12.0)  # mm, of a nodule along its longest axis
_BRIGHTNESS = (-100.0, 50.0)  # HU, of nodules and of vessels alike
_GAP = 2.5  # mm between nodules, so that each is an object of its own

Tube = tuple[np.ndarray, np.ndarray, float]  # both ends and the radius, in mm


def draw_chest(rng: np.random.Generator, shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Draw a body with ribs, a spine, a heart and two lungs that reach through the whole volume.

    Args:
        rng: source of every draw.
        shape: size of the volume in voxels, its axes pointing right, anterior and superior; about a millimetre each.

    Returns:
        Intensities in HU, float64, and a mask of the lungs.

    Shape:
        both ``(H, W, D)``, that is ``shape``.
    """
    points = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij"))
    points = points * rng.uniform(0.97, 1.08, 3)[:, None, None, None] + rng.uniform(-0.04, 0.04, 3)[:, None, None, None]
    for axis in range(3):
        points[axis] += 0.03 * smooth_field(rng, shape, 3)
    body = _radius(points, (0, 0, 0), (0.97, 0.88, np.inf), 2.5)
    intensity = np.full(shape, AIR)
    intensity[body < 1] = _FAT
    intensity[body < rng.uniform(0.9, 0.94)] = _SOFT
    ribs = np.sin(2 * np.pi * (1.5 * points[2] + 0.4 * points[1] + rng.uniform())) > 0.5
    intensity[(body > 0.82) & (body < 0.9) & ribs] = _BONE
    lung = np.zeros(shape, bool)
    for side in (-1, 1):
        centre = np.array((side * 0.44, 0.03, 0)) + rng.uniform(-0.03, 0.03, 3)
        lung |= _radius(points, centre, np.array((0.37, 0.66, 1.6)) * rng.uniform(0.95, 1.05, 3), 2.6) < 1
    heart = _radius(points, (-0.12, 0.25, -0.5), np.array((0.34, 0.36, 0.55)) * rng.uniform(0.85, 1.1, 3))
    lung &= (body < 0.8) & (heart > 1)
    intensity[lung] = (_LUNG + 30 * rng.uniform(-1, 1) - 35 * points[1])[lung]  # denser at the back
    intensity[_radius(points, (0, -0.62, 0), (0.16, 0.17, np.inf)) < 1] = _BONE
    return intensity, lung & (intensity < _FAT)


def _radius(points: np.ndarray, centre: Any, radii: Any, power: float = 2.0) -> np.ndarray:
    """Distance from ``centre`` in units of ``radii``: below 1 is inside; infinite radii make a cylinder."""
    return np.asarray(sum(np.abs((points[a] - centre[a]) / radii[a]) ** power for a in range(3)) ** (1 / power))


def draw_vessels(rng: np.random.Generator, intensity: np.ndarray, lung: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Draw branching and stray tubes into the lungs.

    Trees come from the middle. Stray tubes, from thin to as thick as a nodule, are not joined to anything: else
    standing alone in a lung would tell a nodule.

    Args:
        rng: source of every draw.
        intensity: in HU; written to.
        lung: mask of the lungs, outside of which nothing is drawn.
        spacing: of the voxels in mm.

    Returns:
        How much of every voxel the tubes take, 0 to 1.

    Shape:
        intensity, lung and output ``(H, W, D)``.
    """
    extent = np.array(lung.shape) * spacing
    tubes: list[Tube] = []
    for side in (-1, 1):
        for height in (-0.25, 0.2):
            start = extent * (np.array((side * 0.08, 0.0, height)) + rng.uniform(-0.04, 0.04, 3)) + extent / 2
            direction = _unit(rng, (side, 0.0, 1.5 * height), 0.3)
            tubes += _branches(rng, start, direction, rng.uniform(1.5, 2.4), 0.2 * extent[0], 4)
    inside = np.argwhere(lung)
    for _ in range(int(rng.integers(14, 23))):
        start = (inside[rng.integers(len(inside))] + 0.5) * spacing
        tubes.append((start, start + rng.uniform(4, 18) * _unit(rng, (0, 0, 0), 1), rng.uniform(0.9, 3.0)))
    share = np.zeros(lung.shape)
    for tube in tubes:
        place, part = _tube_share(tube, lung.shape, spacing)
        part = part * lung[place]
        intensity[place] += part * (rng.uniform(*_BRIGHTNESS) - intensity[place])
        share[place] = np.maximum(share[place], part)
    return share


def _branches(
    rng: np.random.Generator, start: np.ndarray, direction: np.ndarray, radius: float, length: float, depth: int
) -> list[Tube]:
    end = start + length * rng.uniform(0.7, 1.3) * direction
    tubes = [(start, end, radius)]
    if depth > 1:
        for _ in range(2):
            onward = _unit(rng, direction, 0.45)
            tubes += _branches(rng, end, onward, rng.uniform(0.65, 0.9) * radius, 0.85 * length, depth - 1)
    return tubes


def _unit(rng: np.random.Generator, direction: Any, spread: float) -> np.ndarray:
    """Draw a unit vector around ``direction``."""
    vector = np.asarray(direction, float) + spread * rng.standard_normal(3)
    return np.asarray(vector / np.linalg.norm(vector))


def _tube_share(tube: Tube, shape: Sequence[int], spacing: np.ndarray) -> tuple[tuple[slice, ...], np.ndarray]:
    """The part of the volume around a tube, and how much of each of its voxels the tube takes."""
    start, end, radius = tube
    low = np.clip((np.minimum(start, end) - radius) / spacing - 1, 0, shape).astype(int)
    high = np.clip((np.maximum(start, end) + radius) / spacing + 2, 0, shape).astype(int)
    place = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    away = _from(start, place, spacing)
    along = sum(away[a] * (end - start)[a] for a in range(3)) / np.sum((end - start) ** 2)
    along = np.clip(along, 0, 1)
    distance = np.sqrt(sum((away[a] - along * (end - start)[a]) ** 2 for a in range(3)))
    return place, np.clip((radius - distance) / spacing.mean() + 0.5, 0, 1)


def _from(point: np.ndarray, place: tuple[slice, ...], spacing: np.ndarray) -> list[np.ndarray]:
    """The way in mm from a point to the centres of voxels, one array an axis, to be broadcast."""
    return list(
        np.ix_(*[(np.arange(p.start, p.stop) + 0.5) * s - c for p, s, c in zip(place, spacing, point, strict=True)])
    )


def draw_nodules(
    rng: np.random.Generator,
    intensity: np.ndarray,
    lung: np.ndarray,
    vessels: np.ndarray,
    spacing: np.ndarray,
    count: int,
) -> np.ndarray:
    """Draw nodules: ellipsoids wholly in a lung and apart from each other, about half of them on a vessel.

    Args:
        rng: source of every draw.
        intensity: in HU; written to.
        lung: mask of the lungs.
        vessels: how much of every voxel they take.
        spacing: of the voxels in mm.
        count: number of nodules.

    Returns:
        Their mask, uint8, numbered from 1.

    Shape:
        intensity, lung, vessels and output ``(H, W, D)``.
    """
    mask = np.zeros(lung.shape, np.uint8)
    if not count:
        return mask
    inner = np.zeros_like(lung)
    inner[1:-1, 1:-1, 1:-1] = lung[1:-1, 1:-1, 1:-1]  # no nodule is cut off by the border of the scan
    whole = tuple(slice(0, n) for n in lung.shape)
    margin = 1.2 * spacing.max()
    room = distance_transform_edt(inner, sampling=spacing) - margin  # the radius that a nodule may have there
    for number in range(1, count + 1):
        radius = min(rng.uniform(*_DIAMETERS) / 2, 0.98 * room.max())
        spot = _spot(rng, room, vessels, spacing, radius)
        centre = (spot + rng.uniform(0, 1, 3)) * spacing
        axes = radius * np.array([1.0, *rng.uniform(0.75, 1.0, 2)])
        turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
        away = _from(centre, whole, spacing)
        scaled = np.sqrt(sum((sum(turn[i, a] * away[a] for a in range(3)) / axes[i]) ** 2 for i in range(3)))
        share = np.clip((1 - scaled) * axes.min() / spacing.mean() + 0.5, 0, 1)
        intensity += share * (rng.uniform(*_BRIGHTNESS) - intensity)
        mask[scaled <= 1] = number
        distance = np.sqrt(sum(step**2 for step in away))
        room = np.minimum(room, distance - radius - margin - _GAP)
    return mask


def _spot(
    rng: np.random.Generator, room: np.ndarray, vessels: np.ndarray, spacing: np.ndarray, radius: float
) -> np.ndarray:
    """Choose a voxel with room for a nodule, every other time so that the nodule touches a vessel where one is near."""
    free = np.argwhere(room >= radius)
    if rng.uniform() < 0.5:
        vessel = np.argwhere(vessels > 0.5)
        for _ in range(40):
            there = vessel[rng.integers(len(vessel))] + np.rint(0.8 * radius * _unit(rng, (0, 0, 0), 1) / spacing)
            there = np.clip(there, 0, np.array(room.shape) - 1).astype(int)
            if room[tuple(there)] >= radius:
                return np.asarray(there)
    return np.asarray(free[rng.integers(len(free))])
