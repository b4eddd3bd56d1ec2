"""The geometry of the labelled phantoms: which tissue and which class every voxel has."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["AIR", "BONE", "FAT", "GLAND", "LOBE", "NODE", "SOFT", "VESSEL", "draw_anatomy", "smooth_field"]

AIR, FAT, SOFT, BONE, VESSEL, LOBE, GLAND, NODE = range(8)
_MARGIN = 1.5  # distractors stay this far (in organ radii) from the organs, so that no border is ambiguous


def smooth_field(rng: np.random.Generator, shape: Sequence[int], knots: int) -> np.ndarray:
    """Draw a smooth random field: normal values on a coarse grid, spread by uniform cubic B-splines.

    The spline weights of every voxel are scaled to unit length, so that each value is standard normal over draws.

    Args:
        rng: source of the values.
        shape: size of the field in voxels.
        knots: intervals of the coarse grid along each axis, at least 1; fewer is smoother.

    Shape:
        ``(H, W, D)``, that is ``shape``.
    """
    field = rng.standard_normal([knots + 3] * len(shape))
    for size in shape:  # each pass takes the coarse leading axis and appends its dense version
        away = np.abs(np.linspace(0, knots, size)[:, None] - np.arange(-1, knots + 2))
        weight = np.where(away < 1, 2 / 3 - away**2 + away**3 / 2, np.clip(2 - away, 0, None) ** 3 / 6)
        weight /= np.linalg.norm(weight, axis=1, keepdims=True)
        field = np.einsum("k...,nk->...n", field, weight)
    return field


def _radius(points: np.ndarray, centre: np.ndarray, radii: np.ndarray, power: float = 2.0) -> np.ndarray:
    """Distance from ``centre`` in units of ``radii``: below 1 is inside; infinite radii make a cylinder."""
    total = np.zeros(points.shape[1:])
    for axis in range(3):
        scaled = np.abs((points[axis] - centre[axis]) / radii[axis])
        total += scaled * scaled if power == 2 else scaled**power
    return np.asarray(total ** (1 / power))


def _body_points(rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    """Coordinates of every voxel in the body's own frame (-1 to 1, RAS), after pose and smooth deformation."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij"))
    rotation = np.eye(3)
    for axis, angle in enumerate(rng.uniform(-0.08, 0.08, 3)):
        a, b = (other for other in range(3) if other != axis)
        turn = np.eye(3)
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        rotation = turn @ rotation
    matrix = rotation * rng.uniform(0.97, 1.1, 3)
    points = np.einsum("ij,j...->i...", matrix, grid) + rng.uniform(-0.05, 0.05, 3)[:, None, None, None]
    for axis in range(3):
        points[axis] += 0.04 * smooth_field(rng, shape, 3) + 0.016 * smooth_field(rng, shape, 7)
    return np.asarray(points)


def _unit(rng: np.random.Generator, direction: Sequence[float], spread: float) -> np.ndarray:
    """Draw a unit vector around ``direction``."""
    vector = np.asarray(direction) + spread * rng.standard_normal(3)
    return np.asarray(vector / np.linalg.norm(vector))


def _organs(rng: np.random.Generator, points: np.ndarray) -> list[np.ndarray]:
    """Radius fields of the lobe, the gland that leans on it, and the node that leans on the gland."""
    centre = np.array([0.40, 0.08, 0.15]) + rng.uniform(-0.05, 0.05, 3)
    radii = np.array([0.38, 0.48, 0.58]) * rng.uniform(0.9, 1.15, 3)
    flank = _radius(points, centre + radii * [0.1, -0.35, -0.45], radii * [0.75, 0.8, 0.8])
    lobe = np.minimum(_radius(points, centre, radii), flank)
    gland_radii = np.array([0.32, 0.29, 0.38]) * rng.uniform(0.9, 1.2, 3)
    direction = _unit(rng, (-0.9, 0.3, -0.35), 0.08)
    gland_centre = centre + direction * (radii + 0.55 * gland_radii)
    gland = _radius(points, gland_centre, gland_radii)
    node_radii = np.array([0.22, 0.21, 0.28]) * rng.uniform(0.9, 1.2, 3)
    node_centre = gland_centre + _unit(rng, (-0.7, -0.5, -0.3), 0.08) * (gland_radii + 0.7 * node_radii)
    return [lobe, gland, _radius(points, node_centre, node_radii)]


def draw_anatomy(rng: np.random.Generator, shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Draw a body with three labelled organs, a spine, a vessel and unlabelled look-alikes.

    Args:
        rng: source of every draw.
        shape: size of the volume in voxels, its axes pointing right, anterior and superior.

    Returns:
        The tissue of every voxel (``AIR`` to ``NODE``; a look-alike has an organ's tissue) and its class (0 to 3).

    Shape:
        both ``(H, W, D)``, uint8.
    """
    points = _body_points(rng, shape)
    body = _radius(points, np.zeros(3), np.array([0.92, 0.86, np.inf]), 2.6)
    tissue = np.full(shape, AIR, np.uint8)
    tissue[body < 1] = FAT
    inner = body < rng.uniform(0.82, 0.92)
    tissue[inner] = SOFT
    tissue[inner & (smooth_field(rng, shape, 10) > 1.6)] = FAT  # strands
    organs = _organs(rng, points)
    free = inner & (np.min(organs, axis=0) > _MARGIN)
    twin = np.array([-0.5, -0.05, 0.2]) + rng.uniform(-0.1, 0.1, 3)
    tissue[free & (_radius(points, twin, np.array([0.2, 0.28, 0.4]) * rng.uniform(0.8, 1.2, 3)) < 1)] = LOBE
    for look in rng.choice([LOBE, GLAND, NODE, VESSEL, FAT], int(rng.integers(2, 6))):
        centre = rng.uniform(-0.75, 0.75, 3) * [1, 1, 1.2]
        tissue[free & (_radius(points, centre, rng.uniform(0.09, 0.2, 3)) < 1)] = look
    for where, size, kind in (((0.02, -0.52), 0.17, BONE), ((0.02, -0.72), 0.06, FAT), ((-0.05, -0.27), 0.075, VESSEL)):
        column = np.array([*where, 0.0]) + rng.uniform(-0.03, 0.03, 3)
        tissue[inner & (_radius(points, column, np.array([size, size, np.inf])) < 1)] = kind
    label = np.zeros(shape, np.uint8)
    for value, (field, kind) in enumerate(zip(organs, (LOBE, GLAND, NODE), strict=True), start=1):
        here = (field < 1) & (label == 0)
        label[here], tissue[here] = value, kind
    return tissue, label
