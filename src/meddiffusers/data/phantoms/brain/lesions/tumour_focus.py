"""One focus of a tumour, grown on a lattice around its centre.

The core is an irregular ellipsoid. Oedema and infiltration advance from it as a front (fast marching): the travel time
is short along white matter, long through grey matter and fluid, and practically infinite in ventricles. The front
follows white matter, stops at ventricles and cortex, does not cross sulci and leaves no islands.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from skimage.graph import MCP_Geometric

from meddiffusers.data.phantoms.brain.lesions.mass_effect import undisplaced
from meddiffusers.data.phantoms.brain.local_field import LocalField, lattice
from meddiffusers.data.phantoms.brain.smooth_field import points_of
from meddiffusers.data.phantoms.brain.tissue import Surroundings, Tissue

FAR = 9.0  # margin widths: at ±FAR the fraction is 1 or 0
_GREY, _FLUID, _BARRIER = 2.5, 5.0, 40.0  # travel times relative to white matter


@dataclass(frozen=True)
class FocusShape:
    """Sampled geometry of a focus; lengths in mm.

    Attributes:
        centre: (3,) position.
        radius: of the core.
        rim: mean thickness of the enhancing rim, 0 for a core that does not enhance.
        spread: extent of the oedema through white matter, 0 for none.
        core_margin: width of the transition at the border of the core.
        margin: width of the transition at the border of the oedema.
        lobes: amplitude of the lobulation relative to the radius.
        infiltration: in [0, 1], how much the core follows white matter.
    """

    centre: np.ndarray
    radius: float
    rim: float
    spread: float
    core_margin: float
    margin: float
    lobes: float
    infiltration: float

    @property
    def extent(self) -> float:
        """Half the edge in mm of a cube that contains the focus."""
        margins = max(1.2 * self.core_margin, 1.5 * self.margin if self.spread else 0)
        return self.radius * (1.15 + 1.2 * self.lobes) + 1.2 * self.spread + margins


@dataclass(frozen=True)
class Focus:
    """Level sets of core, necrosis and oedema in margin widths, and the raters who miss the focus.

    A level is 0 where its fraction is one half, and positive inside.
    """

    levels: LocalField
    left_out_by: frozenset[int]


def grow(
    rng: np.random.Generator,
    shape: FocusShape,
    surroundings: Surroundings,
    displacement: LocalField | None,
    left_out_by: frozenset[int],
) -> Focus:
    """Grow a focus in a brain that is displaced by its mass effect.

    Args:
        rng: source of randomness.
        shape: geometry of the focus.
        surroundings: tissue at points of the healthy brain.
        displacement: of the mass effect, None for none.
        left_out_by: raters who miss the focus.
    """
    spacing = max(shape.extent / 13, 0.8)
    nodes = lattice(shape.centre, shape.extent, spacing)
    points = points_of(nodes)
    cube = points.shape[1:]
    tissue = surroundings(undisplaced(displacement, points, nodes))
    noise = LocalField.noise(rng, nodes, max(0.8 * shape.radius, 2.5), 6)(nodes)
    elsewhere = 1 - np.clip(tissue.white, 0, 1).reshape(cube)
    core = _core(rng, shape, points, noise[:4]) - 0.7 * shape.infiltration * shape.radius * elsewhere
    necrosis = core / 0.8 - shape.rim / 0.8 * (1 + 0.55 * noise[4]) if shape.rim else np.full(cube, FAR)
    oedema = np.full(cube, -FAR)
    if shape.spread:
        fingers = LocalField.noise(rng, nodes, max(0.5 * shape.spread, 5.0), 1)(nodes)[0]
        uneven = np.exp(0.5 * np.abs(fingers + noise[5])) / 1.5  # about 1
        time = _travel_time(core, _cost(tissue, cube) * uneven, spacing)
        oedema = (shape.spread - time) / shape.margin
    wall = shape.extent - np.abs(points - shape.centre.reshape(3, 1, 1, 1)).max(
        axis=0
    )  # keeps the focus within the lattice
    levels = np.stack(
        [
            np.minimum(core / shape.core_margin, wall / shape.core_margin - 2),
            necrosis,
            np.minimum(oedema, wall / shape.margin - 2),
        ]
    )
    return Focus(LocalField(np.array([planes[0] for planes in nodes]), spacing, levels.clip(-FAR, FAR)), left_out_by)


def _core(rng: np.random.Generator, shape: FocusShape, points: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Depth in mm below the surface of the core: a lobulated ellipsoid in warped space."""
    axes = np.exp((0.1 + 0.5 * shape.lobes) * rng.standard_normal(3))
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0] / (axes / np.cbrt(axes.prod()))[:, None].clip(0.7, 1.4)
    offset = points - shape.centre.reshape(3, 1, 1, 1) + shape.lobes * shape.radius * noise[:3]
    distance = np.sqrt((np.tensordot(turn, offset, 1) ** 2).sum(axis=0))
    return shape.radius * (1 + 0.4 * shape.lobes * noise[3]) - distance


def _cost(tissue: Tissue, cube: tuple[int, ...]) -> np.ndarray:
    """Travel time per mm; 1 in white matter."""
    deep = np.clip((tissue.depth - 15) / 10, 0, 1)
    cost = tissue.white + (_GREY - deep) * tissue.grey + _FLUID * tissue.fluid
    inside = np.clip(tissue.brain * (1 - tissue.ventricle), 0, 1)
    return (np.maximum(cost, 1.0) * inside + _BARRIER * (1 - inside)).reshape(cube).astype(np.float64)


def _travel_time(core: np.ndarray, cost: np.ndarray, spacing: float) -> np.ndarray:
    """Travel time from the core to each node, in mm of white matter."""
    starts = np.argwhere(core > 0)
    if not len(starts):
        starts = np.argwhere(core == core.max())
    front = MCP_Geometric(cost, sampling=(spacing,) * 3)
    return front.find_costs(starts)[0]
