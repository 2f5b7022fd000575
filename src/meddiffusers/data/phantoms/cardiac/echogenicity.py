"""Echogenicity of a heart and its surroundings in decibels, one frame at a time."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from meddiffusers.data.phantoms.cardiac.raster import fill_polygon
from meddiffusers.data.phantoms.cardiac.sector import BEAMS, RANGES, Sector

_SURROUNDINGS, _MYOCARDIUM, BLOOD = -29.0, -18.0, -51.0
_ENDOCARDIUM, _PERICARDIUM, _LEAFLET = 11.0, 14.0, -10.0  # dB that borders add; level of a valve leaflet

_SOFTNESS = (1.2, 0.7)  # standard deviation of the borders' blur, samples and beams


def echogenicity(
    sector: Sector,
    endocardium: np.ndarray,
    epicardium: np.ndarray,
    atrium: np.ndarray,
    opening: float,
    right_heart: bool,
) -> np.ndarray:
    """Compute the echogenicity of one frame, without speckle.

    Reflection at borders is specular: strongest where the beam is perpendicular to them.

    Args:
        sector: Geometry of the beams.
        endocardium, epicardium, atrium: Outlines `(P, 2)` of the frame, in mm.
        opening: Opening of the mitral valve in [0, 1].
        right_heart: Whether right ventricle and right atrium lie to the left (four-chamber view).

    Returns:
        Level `(RANGES, BEAMS)` in dB, float32.
    """
    level = np.full((RANGES, BEAMS), _SURROUNDINGS, np.float32)
    chambers = [endocardium, atrium, *(_right_heart(endocardium, epicardium) if right_heart else [])]
    blood = np.zeros((RANGES, BEAMS), np.uint8)
    for chamber in chambers:
        blood |= _inside(sector, chamber)
    heart = _inside(sector, epicardium)
    level[heart == 1] = _MYOCARDIUM
    level[(blood == 1) & (heart == 0)] = BLOOD
    level[_inside(sector, endocardium) == 1] = BLOOD
    level += _ENDOCARDIUM * _reflection(level <= BLOOD) + _PERICARDIUM * _reflection(heart == 1)
    level = ndimage.gaussian_filter(level, _SOFTNESS)
    column, row = np.rint(sector.samples(_leaflets(endocardium, opening))).astype(int).T
    visible = (column >= 0) & (column < BEAMS) & (row >= 0) & (row < RANGES)
    level[row[visible], column[visible]] = _LEAFLET
    return level


def _inside(sector: Sector, polygon: np.ndarray) -> np.ndarray:
    return fill_polygon(sector.samples(polygon) + 0.5, RANGES, BEAMS)


def _reflection(mask: np.ndarray) -> np.ndarray:
    """Near 1 on borders perpendicular to the beam, less on those along it, 0 elsewhere."""
    soft = ndimage.gaussian_filter(mask.astype(np.float32), (2.2, 1.1))
    along, across = np.zeros_like(soft), np.zeros_like(soft)
    along[1:-1], across[:, 1:-1] = soft[2:] - soft[:-2], soft[:, 2:] - soft[:, :-2]
    return np.clip(2.6 * np.abs(along) + 0.5 * np.abs(across), 0, 1)


def _leaflets(endocardium: np.ndarray, opening: float) -> np.ndarray:
    """Points (P, 2) along both mitral leaflets, which hinge on the corners of the base and meet when closed."""
    left, right = endocardium[0], endocardium[-1]
    across, up = (right - left) / 2, endocardium[len(endocardium) // 2] - (left + right) / 2
    up = up / np.linalg.norm(up) * np.linalg.norm(across)
    turn = np.deg2rad(12 + 50 * opening)
    along = np.linspace(0, 1, 50)[:, None]
    bow = 0.12 * np.sin(np.pi * along) * up
    reach = (np.cos(turn) * across + np.sin(turn) * up, -np.cos(turn) * across + np.sin(turn) * up)
    return np.concatenate([left + along * reach[0] + bow, right + along * reach[1] + bow])


def _right_heart(endocardium: np.ndarray, epicardium: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Outlines of the right ventricle, which borders on the septum, and of the right atrium below it."""
    caps = (len(epicardium) - len(endocardium)) // 2
    septum = epicardium[caps : caps + int(0.38 * len(endocardium))]
    across = endocardium[-1] - endocardium[0]
    left = -across / np.linalg.norm(across)
    down = np.array([left[1], -left[0]])
    depth = np.linspace(0, 1, len(septum))[:, None]
    free_wall = septum + left * 34 * np.sqrt(1 - depth**1.6)
    angle = np.linspace(0, 2 * np.pi, 60)[:, None]
    atrium = septum[0] + 20 * left + 21 * down + 18 * np.cos(angle) * left + 19 * np.sin(angle) * down
    return np.concatenate([septum, free_wall[::-1]]), atrium
