"""Packages are found, not listed; three folders of the repository's root are packages of meddiffusers as well."""

from setuptools import find_packages, setup

FROM_ROOT = {
    "meddiffusers.pipelines": "pipelines",
    "meddiffusers.model_cards": "model_cards",
    "meddiffusers.scripts": "training",
}
setup(packages=[*find_packages("src"), *FROM_ROOT], package_dir={"": "src", **FROM_ROOT})
