"""diffusers finds the package's classes by name, once, lazily, and never in the place of its own."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import pytest

import meddiffusers
from meddiffusers import registration
from meddiffusers.models.attribute_vae import PUBLISHED_AS, AttributeVAE

diffusers: Any = importlib.import_module("diffusers")


def hooks() -> tuple[Any, Any]:
    return vars(diffusers)["__getattr__"], vars(diffusers.pipelines)["__getattr__"]


def test_every_public_class_is_found_by_its_name() -> None:
    assert set(meddiffusers.PUBLIC) >= {"AttributeVAE", "AttributeVAEPipeline"}
    assert set(meddiffusers.PUBLIC) <= set(meddiffusers.__all__)
    for name, module in meddiffusers.PUBLIC.items():
        cls = getattr(importlib.import_module(module), name)
        assert getattr(diffusers, name) is getattr(meddiffusers, name) is cls
        assert cls.__module__ == module


def test_the_published_name_of_this_version_leads_to_its_module() -> None:
    assert getattr(diffusers.pipelines, PUBLISHED_AS).AttributeVAE is AttributeVAE


@pytest.mark.parametrize("name", ["meddiffusers_attribute_vae_v2", "meddiffusers_attribute_vae", "meddiffusers_x_v1"])
def test_other_names_and_versions_are_left_to_the_repository(name: str) -> None:
    with pytest.raises(AttributeError, match=name):
        getattr(diffusers.pipelines, name)


@pytest.mark.parametrize("module", [diffusers, diffusers.pipelines, meddiffusers])
def test_unknown_names_raise_as_ever(module: Any) -> None:
    with pytest.raises(AttributeError, match=r"has no attribute '?NoSuchClass"):
        module.NoSuchClass  # noqa: B018


def test_registering_again_changes_nothing() -> None:
    before = hooks()
    registration.register(meddiffusers.PUBLIC)
    importlib.reload(registration).register(meddiffusers.PUBLIC)
    importlib.reload(meddiffusers)
    assert hooks() == before
    assert diffusers.AttributeVAE is AttributeVAE


def test_a_name_that_diffusers_has_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diffusers, "FutureVAE", object, raising=False)
    before = hooks()
    with pytest.raises(ImportError, match=r"already has FutureVAE, which .*constraints\.txt"):
        registration.register({"FutureVAE": "meddiffusers.models.future_vae", "Other": "meddiffusers.models.other"})
    assert hooks() == before
    assert diffusers.FutureVAE is object
    assert not hasattr(diffusers, "Other")


def test_a_registered_name_is_not_given_to_another_module() -> None:
    with pytest.raises(ImportError, match="already has AttributeVAE,"):
        registration.register({"AttributeVAE": "elsewhere.attribute_vae"})


def test_a_hook_of_another_plugin_goes_on_answering() -> None:
    def earlier(name: str) -> str:
        if name == "Theirs":
            return "theirs"
        raise AttributeError(name)

    module = ModuleType("module")
    vars(module)["__getattr__"] = earlier
    registration._hook(module, lambda name: f"ours: {name}")
    assert (module.Theirs, module.Ours) == ("theirs", "ours: Ours")


def test_importing_the_package_imports_only_what_it_must(with_package: dict[str, Any]) -> None:
    imported = with_package["imported"]
    assert [name for name in imported if name.startswith("meddiffusers")] == [
        "meddiffusers",
        "meddiffusers.registration",
    ]
    assert not {"monai", "sklearn", "skimage", "scipy", "peft", "accelerate", "datasets"} & set(imported)
    assert "diffusers" in imported


def test_compatible_schedulers_are_found_by_name(with_package: dict[str, Any]) -> None:
    assert with_package["compatibles"] == {"names": ["DDIMScheduler", "DampedDDIMScheduler"], "steps": 7}
