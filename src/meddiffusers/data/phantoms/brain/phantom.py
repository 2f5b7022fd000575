"""Brain phantom of one random subject, rendered from a seed on any axis-aligned grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property

import numpy as np
from scipy import ndimage

from meddiffusers.data.modalities import LABELS
from meddiffusers.data.phantoms.brain.anatomy import Anatomy, Sulci, anatomy_at
from meddiffusers.data.phantoms.brain.contrasts import MODALITIES
from meddiffusers.data.phantoms.brain.demographics import random_demographics
from meddiffusers.data.phantoms.brain.fitting import fit_volumes
from meddiffusers.data.phantoms.brain.head import head_fractions
from meddiffusers.data.phantoms.brain.lesions.kinds import Lesion, lesion_labels, random_lesions
from meddiffusers.data.phantoms.brain.rendering import Texture, ideal_image, scene
from meddiffusers.data.phantoms.brain.scanner import random_acquisitions
from meddiffusers.data.phantoms.brain.smooth_field import Grid, SmoothField
from meddiffusers.data.phantoms.brain.template import template
from meddiffusers.data.phantoms.brain.tissue import Tissue
from meddiffusers.data.phantoms.brain.warp import CENTRE, Warp
from meddiffusers.data.scan import Scan
from meddiffusers.data.subject import Subject

EXTENT = (160.0, 192.0, 160.0)  # mm along x, y, z of a skull-stripped volume
HEAD_EXTENT = (200.0, 240.0, 208.0)  # mm along x, y, z of a volume with the skull
FIELD_OF_VIEW = 208.0  # mm along both axes of a slice
COARSE_SPACING = 3.0  # mm, grid on which lesions are placed


class BrainPhantom:
    """One random subject, healthy or with lesions.

    Args:
        seed: of everything that is random.
        age: years, 18 to 90; sampled if not given.
        sex: "F" or "M"; sampled if not given.
        brain_volume_ml: grey and white matter, 1100 to 1600 ml; sampled if not given.
        ventricular_volume_ml: 8 to 60 ml; sampled if not given.
        lesion: None for a healthy brain, or one of `lesions.KINDS`.
        difficulty: of the lesion, from 0, obvious, to 1, small, faint and scattered, with borders on which raters
            disagree.

    Raises:
        ValueError: a value out of its range, an unknown kind of lesion, or ventricles that do not fit this brain.
        ImportError: the extra `phantom` is not installed.

    Example:
        >>> phantom = BrainPhantom(0, lesion="tumour", difficulty=0.3)
        >>> subject = phantom.volume(2.0, ("t1", "flair"))
        >>> subject.images["t1"].shape
        (80, 96, 80)
    """

    def __init__(
        self,
        seed: int,
        *,
        age: float | None = None,
        sex: str | None = None,
        brain_volume_ml: float | None = None,
        ventricular_volume_ml: float | None = None,
        lesion: str | None = None,
        difficulty: float = 0.5,
    ) -> None:
        self.seed = seed
        # Independent streams: a lesion changes nothing else about the subject.
        people, shapes, textures, visits, lesions = (np.random.default_rng([seed, part]) for part in range(5))
        self.demographics = random_demographics(people, age, sex, brain_volume_ml, ventricular_volume_ml)
        years = (self.demographics.age - 50) / 20
        self._sulci = Sulci(SmoothField(shapes, 5, 3), float(np.clip(0.35 * years + 0.2 * shapes.normal(), -0.8, 1.2)))
        self._warp = fit_volumes(Warp.random(shapes), self.demographics, self._sulci, template())
        cap = float(np.clip(0.25 + 0.35 * years + 0.2 * textures.normal(), 0, 1.2))
        cap *= lesion != "white_matter_lesions"  # these have caps of their own
        self._texture = Texture(SmoothField(textures, 3.5, 2), SmoothField(textures, 6), cap)
        self._skull = SmoothField(textures, 30, 3)
        self._acquisitions = random_acquisitions(visits)
        self.lesion: Lesion | None = None
        self.kind, self.difficulty = lesion, difficulty
        if lesion is not None:
            self.lesion = random_lesions(lesions, lesion, difficulty, self._surroundings, self.demographics.age)

    def volume(
        self,
        spacing: float | tuple[float, float, float] = 1.0,
        modalities: Sequence[str] = MODALITIES[:4],
        *,
        skull: bool = False,
    ) -> Subject:
        """Render the whole brain.

        Args:
            spacing: edge length of the voxels in mm, one or three; a large one gives thick slices along that axis.
            modalities: some of `contrasts.MODALITIES`.
            skull: render the whole head.

        Returns:
            Images and label maps (1, X, Y, Z) with axes in RAS+.

        Raises:
            ValueError: a spacing that is not positive, or an unknown modality.
        """
        x, y, z = (float(spacing),) * 3 if isinstance(spacing, int | float) else spacing
        if not all(0 < edge < np.inf for edge in (x, y, z)):
            raise ValueError(f"spacing={spacing}; expected mm above 0 along each axis.")
        extent = HEAD_EXTENT if skull else EXTENT
        sizes = [int(np.ceil(mm / edge)) for mm, edge in zip(extent, (x, y, z), strict=True)]
        return self.on_grid(_centred(CENTRE, sizes, (x, y, z)), (x, y, z), modalities, skull=skull)

    def slice(
        self,
        height: float = 10.0,
        size: int = 128,
        modalities: Sequence[str] = MODALITIES[:4],
        *,
        thickness: float = 1.0,
        skull: bool = False,
    ) -> Subject:
        """Render one axial slice with a field of view of 208 mm.

        Args:
            height: mm above the anterior commissure of the average brain.
            size: pixels along both axes.
            modalities: some of `contrasts.MODALITIES`.
            thickness: of the slice in mm.
            skull: render the whole head.

        Returns:
            Images and label maps (1, size, size, 1) with axes in RAS+.

        Raises:
            ValueError: a size or thickness that is not positive, or an unknown modality.
        """
        if size < 1 or not thickness > 0:
            raise ValueError(f"size={size}, thickness={thickness}; expected at least one pixel, and mm above 0.")
        edge = FIELD_OF_VIEW / size
        spacing = (edge, edge, thickness)
        grid = _centred(np.array([CENTRE[0], CENTRE[1], height]), [size, size, 1], spacing)
        return self.on_grid(grid, spacing, modalities, skull=skull)

    def on_grid(
        self, grid: Grid, spacing: tuple[float, float, float], modalities: Sequence[str], *, skull: bool = False
    ) -> Subject:
        """Render images and label maps on any axis-aligned grid.

        Args:
            grid: mm of the planes along x, y and z, ascending or descending.
            spacing: edge lengths of a voxel in mm.
            modalities: some of `contrasts.MODALITIES`.
            skull: render the whole head.

        Raises:
            ValueError: a modality that is not one of `contrasts.MODALITIES`, or a grid without voxels.
        """
        unknown = sorted(set(modalities) - set(MODALITIES))
        if unknown:
            raise ValueError(f"The phantom has no modality {', '.join(unknown)}; it has {', '.join(MODALITIES)}.")
        if not min(map(len, grid)):
            sizes = " × ".join(str(len(planes)) for planes in grid)
            raise ValueError(f"Got a grid of {sizes} voxels; expected at least one voxel along each axis.")
        anatomy = self._anatomy(grid, spacing)
        tissue = anatomy.tissue()
        parts = self.lesion.parts(grid, tissue) if self.lesion else {}
        appearance = self.lesion.appearance if self.lesion else None
        head = head_fractions(anatomy, grid, self._skull, template()) if skull else None
        seen = scene(anatomy, grid, self._texture, parts, appearance, head)
        affine = _affine(grid, spacing)
        mask = tissue.brain > 0.5 if head is None else np.ones(tissue.brain.shape, bool)
        images = {}
        for name in modalities:
            acquisition = self._acquisitions[name]
            image = acquisition.apply_shift(
                acquisition.apply_bias_field(ideal_image(anatomy, seen, name, acquisition), grid), spacing
            )
            noise = np.random.default_rng([self.seed, 5, MODALITIES.index(name), round(10 * float(grid[2][0])) % 2**32])
            images[name] = Scan(acquisition.add_noise(image, float(np.prod(spacing)), noise) * mask, affine, name)
        return Subject(
            number=self.seed,
            images=images,
            regions=Scan(anatomy.labels(), affine, LABELS),
            lesions=Scan(lesion_labels(parts) if parts else np.zeros(mask.shape, np.uint8), affine, LABELS),
            raters=Scan(self.lesion.raters(grid, tissue).astype(np.uint8), affine, LABELS) if self.lesion else None,
            volumes=anatomy.volumes(float(np.prod(spacing))),
            record=self.record,
        )

    def lesion_heights(self) -> np.ndarray:
        """Heights in mm at which the lesion is, on a grid of 3 mm; empty for a healthy brain."""
        if self.lesion is None:
            return np.zeros(0)
        sizes = [int(np.ceil(mm / COARSE_SPACING)) for mm in EXTENT]
        grid = _centred(CENTRE, sizes, (COARSE_SPACING,) * 3)
        labels = lesion_labels(self.lesion.parts(grid, Tissue(*self._coarse_tissue[0])))
        return grid[2][labels.any(axis=(0, 1))]

    @property
    def record(self) -> dict[str, float | str]:
        """Metadata: age in years, sex, volumes in ml, kind and difficulty of the lesion."""
        return {
            **asdict(self.demographics),
            "lesion": self.kind or "none",
            "difficulty": self.difficulty if self.kind else 0.0,
        }

    def _anatomy(self, grid: Grid, spacing: tuple[float, float, float]) -> Anatomy:
        displacement = self.lesion.displacement if self.lesion else None
        return anatomy_at(grid, self._warp, self._sulci, template(), spacing, displacement)

    @cached_property
    def _coarse_tissue(self) -> tuple[np.ndarray, np.ndarray]:
        """(8, X, Y, Z) tissue of the healthy brain on a coarse grid, and the position of its first point in mm."""
        sizes = [int(np.ceil(mm / COARSE_SPACING)) for mm in EXTENT]
        grid = _centred(CENTRE, sizes, (COARSE_SPACING,) * 3)
        tissue = anatomy_at(grid, self._warp, self._sulci, template()).tissue()
        return np.stack(list(vars(tissue).values())), np.array([planes[0] for planes in grid])

    def _surroundings(self, points: np.ndarray) -> Tissue:
        maps, first = self._coarse_tissue
        index = (points.T - first[:, None]) / COARSE_SPACING
        return Tissue(*(ndimage.map_coordinates(part, index, order=1, mode="nearest") for part in maps))


def _centred(centre: np.ndarray, sizes: Sequence[int], spacing: tuple[float, float, float]) -> Grid:
    x, y, z = (
        middle + (np.arange(size) - (size - 1) / 2) * edge
        for middle, size, edge in zip(centre, sizes, spacing, strict=True)
    )
    return x, y, z


def _affine(grid: Grid, spacing: tuple[float, float, float]) -> np.ndarray:
    """Affine of a grid whose planes are ascending or descending."""
    steps = [
        edge if len(planes) < 2 or planes[1] > planes[0] else -edge for planes, edge in zip(grid, spacing, strict=True)
    ]
    affine = np.diag([*steps, 1.0])
    affine[:3, 3] = [planes[0] for planes in grid]
    return affine
