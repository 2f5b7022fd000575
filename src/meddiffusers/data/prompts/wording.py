"""Vocabulary and sentence templates of prompts."""

from __future__ import annotations

from meddiffusers.data.regions import REGIONS

MODALITY_WORDS = {
    "t1": ("T1-weighted",),
    "t1ce": ("contrast-enhanced T1-weighted", "post-contrast T1-weighted"),
    "t2": ("T2-weighted",),
    "flair": ("FLAIR", "T2-FLAIR"),
    "pd": ("proton-density-weighted", "PD-weighted"),
    "dwi": ("diffusion-weighted",),
    "us": ("ultrasound",),
    "cine": ("cine",),
    "ct": ("CT",),
}
SEX_WORDS = {"F": ("woman", "female patient"), "M": ("man", "male patient"), None: ("person", "patient")}
BASES = {"axial": "base of the skull", "coronal": "back of the head", "sagittal": "side of the head"}

HEADERS = (
    "{Plane} {modality} image of the brain of {who}{place}{voxel}.",
    "{Modality} {plane} slice through the brain of {who}{place}{voxel}.",
    "Brain of {who}, {modality}, {plane}{place}{voxel}.",
    "{Plane} slice of {who}'s brain in {modality} contrast{place}{voxel}.",
    "This {plane} slice shows the brain of {who}, seen in {modality} imaging{place}{voxel}.",
    "{Modality} brain imaging of {who} in the {plane} plane{place}{voxel}.",
    "The brain of {who}, cut in the {plane} plane and imaged as {modality}{place}{voxel}.",
)
AGED = ("{article} {age}-year-old {sex}", "a {sex} aged {age}", "a {sex} of {age} years", "a {sex} (age {age})")
AGELESS = ("a {sex}",)
PLACES = (
    ", slice {number} from the {base}",
    ", slice number {number} counted from the {base}",
    " (slice {number} from the {base})",
)
VOXELS = (", voxels of {voxel} mm", ", with a voxel size of {voxel} mm", ", resolution {voxel} mm")

OPENINGS = ("It contains ", "Visible are ", "The slice shows ", "In the slice lie ", "Regions: ", "Seen here: ")
REGION_FORMS = (
    "the {region} of volume {mm3} mm³",
    "the {region} ({mm3} mm³)",
    "the {region} with {mm3} mm³",
    "{region}: {mm3} mm³",
    "{region} measuring {mm3} mm³",
    "{mm3} mm³ of {region}",
)
SEPARATORS = (", ", "; ")

REGION_IDS = {name: label for label, name in REGIONS.items() if label != 48}  # 48 has the same name as 49
