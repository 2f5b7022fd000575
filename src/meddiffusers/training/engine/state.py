"""The state of a run, which all later steps depend on, and its files in a checkpoint.

    checkpoint-120/
      unet/                 the network, as diffusers saves it (config.json, safetensors)
      unet_ema/             its moving average, if one is kept
      optimizer.pt          Adam's moments and the loss scaler
      trainer_state.json    the counters below, the configuration, the division of the batch

No random state is stored, since every random number is a function of the seed and the step (see `randomness`). The
settings of the optimiser and of the learning rate schedule are not stored either; a resumed run uses its own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from diffusers.models.modeling_utils import ModelMixin
from safetensors.torch import load_model, save_model
from torch import nn

from meddiffusers.hub.weights import shapes_of
from meddiffusers.training.engine.checkpoints import reading
from meddiffusers.utils.reading import FileContentError, read_json, special_kind

if TYPE_CHECKING:
    from diffusers.training_utils import EMAModel

# Numbers that give the position in the data, and the least value of each; see `StepBatchSampler.position`.
_POSITION = {"step": 0, "dataset_size": 1, "samples_per_step": 1, "seed": 0}
_OPTIMIZER, _FACTS, _WEIGHTS = "optimizer.pt", "trainer_state.json", "diffusion_pytorch_model.safetensors"


@dataclass
class TrainingState:
    """The networks (not wrapped by DDP) and averages by name, the optimiser, and the counters of a run."""

    modules: dict[str, Any]
    averages: dict[str, EMAModel]
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler | None = None
    step: int = 0  # optimiser steps taken
    updates: int = 0  # of these, the steps that changed the weights; the loss scaler of fp16 skips some
    seconds: float = 0.0  # duration, including the time before a resumption
    facts: dict[str, Any] = field(default_factory=dict)  # what the engine needs to resume

    def save(self, folder: Path) -> None:
        """Write everything into `folder`, which exists."""
        for name, module in self.modules.items():
            _save(module, folder / name)
        if self.averages:
            with self.averaged():
                for name, module in self.modules.items():
                    _save(module, folder / f"{name}_ema")
        scaler = self.scaler.state_dict() if self.scaler else None
        torch.save({"moments": self.optimizer.state_dict()["state"], "scaler": scaler}, folder / _OPTIMIZER)
        facts = {"step": self.step, "updates": self.updates, "seconds": self.seconds, **self.facts}
        (folder / _FACTS).write_text(json.dumps(facts, indent=2) + "\n")

    def load(self, folder: Path) -> None:
        """Read everything from `folder`. An average that the checkpoint lacks starts from its weights.

        Raises:
            CheckpointError: A file is missing or damaged; the message names it.
        """
        with reading(folder / _FACTS):
            self.facts = _read_facts(folder / _FACTS)
            self.step, self.updates, self.seconds = (self.facts.pop(key) for key in ("step", "updates", "seconds"))
        for name, module in self.modules.items():
            if name in self.averages:
                average = folder / f"{name}_ema"
                _load(module, average if average.exists() else folder / name)
                shadow = [parameter.detach() for parameter in module.parameters()]
                self.averages[name].load_state_dict({"shadow_params": shadow, "optimization_step": self.updates})
            _load(module, folder / name)
        with reading(folder / _OPTIMIZER):
            saved = _read_optimizer(folder / _OPTIMIZER)
            groups = self.optimizer.state_dict()["param_groups"]
            _check_moments(saved["moments"], [p for group in self.optimizer.param_groups for p in group["params"]])
            if self.updates and not saved["moments"]:
                raise ValueError("it has no moments, though weights were updated")
            self.optimizer.load_state_dict({"state": saved["moments"], "param_groups": groups})
            if self.scaler and saved["scaler"]:
                self.scaler.load_state_dict(saved["scaler"])

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Context in which the networks have the averaged weights, if averages are kept."""
        for name, average in self.averages.items():
            average.store(self.modules[name].parameters())
            average.copy_to(self.modules[name].parameters())
        try:
            yield
        finally:
            for name, average in self.averages.items():
                average.restore(self.modules[name].parameters())

    def update(self, max_grad_norm: float) -> bool:
        """Clip the gradients, update weights and averages, and clear the gradients.

        Returns:
            False if the gradients overflowed in fp16. Then nothing is updated, and the scaler lowers its scale.
        """
        if self.scaler:
            self.scaler.unscale_(self.optimizer)
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        nn.utils.clip_grad_norm_(parameters, max_grad_norm)
        updated = self._step_optimizer()
        self.optimizer.zero_grad()
        if updated:
            self.updates += 1
            for name, average in self.averages.items():
                average.step(self.modules[name].parameters())
        return updated

    def _step_optimizer(self) -> bool:
        if not self.scaler:
            self.optimizer.step()
            return True
        scale = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return self.scaler.get_scale() >= scale

    def is_finite(self) -> bool:
        """Whether no weight is NaN or infinite."""
        weights = (parameter for module in self.modules.values() for parameter in module.parameters())
        return all(bool(weight.isfinite().all()) for weight in weights)

    def nbytes(self) -> int:
        """Approximate size of a checkpoint: weights, averages, and two moments of each trained weight."""
        modules = self.modules.values()
        weights = sum(tensor.nbytes for module in modules for tensor in (*module.parameters(), *module.buffers()))
        trained = sum(p.nbytes for module in modules for p in module.parameters() if p.requires_grad)
        return weights * (2 if self.averages else 1) + 2 * trained


def _save(module: Any, folder: Path) -> None:
    if isinstance(module, ModelMixin):
        module.save_pretrained(folder, max_shard_size="1TB")  # in one file, for _load
    else:  # transformers would save only an adapter; others have no save_pretrained
        folder.mkdir()
        save_model(module, str(folder / _WEIGHTS))


def _load(module: nn.Module, folder: Path) -> None:
    file = next(folder.glob("*.safetensors"), folder / _WEIGHTS)
    with reading(file):
        if file.exists() and (kind := special_kind(file)):
            raise ValueError(f"it is {kind}")
        kinds = {name: kind for name, (kind, _) in shapes_of(file).items()}
        load_model(module, file)
        for name, weight in module.state_dict().items():
            if weight.is_floating_point() and name in kinds and "F" not in kinds[name]:
                raise ValueError(f"{name} is of type {kinds[name]}")
            if weight.is_floating_point() and not weight.isfinite().all():
                raise ValueError(f"{name} has NaN or infinite values")


def _read_facts(file: Path) -> dict[str, Any]:
    """The counters and the position in the data, checked."""
    facts = read_json(file)
    step, updates, seconds = (facts.get(name) for name in ("step", "updates", "seconds"))
    if type(step) is not int or type(updates) is not int or not 0 <= updates <= step:
        raise FileContentError(file, f"has step {step!r} and updates {updates!r}, expected numbers of steps.")
    if not isinstance(seconds, int | float) or not 0 <= seconds < math.inf:
        raise FileContentError(file, f"has seconds {seconds!r}, expected a duration.")
    position = facts.get("data")
    counts = [position.get(name) if isinstance(position, dict) else None for name in _POSITION]
    if not all(type(count) is int and count >= least for count, least in zip(counts, _POSITION.values(), strict=True)):
        raise FileContentError(file, f"has the position {position!r} in the data, expected {', '.join(_POSITION)}.")
    if position["samples_per_step"] > position["dataset_size"]:
        raise FileContentError(file, "has more samples per step than in the data set.")
    return facts


def _read_optimizer(file: Path) -> dict[str, Any]:
    if file.exists() and (kind := special_kind(file)):
        raise ValueError(f"it is {kind}")
    saved = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(saved, dict) or not isinstance(saved.get("moments"), dict) or "scaler" not in saved:
        raise ValueError("it does not hold the moments of an optimiser")
    return saved


def _check_moments(moments: dict[Any, Any], parameters: list[nn.Parameter]) -> None:
    """Raise a ValueError unless the moments belong to these parameters and are finite."""
    for number, entry in moments.items():
        shape = parameters[number].shape if type(number) is int and 0 <= number < len(parameters) else None
        tensors = [entry.get(name) if isinstance(entry, dict) else None for name in ("exp_avg", "exp_avg_sq")]
        if not all(isinstance(tensor, torch.Tensor) and tensor.shape == shape for tensor in tensors):
            raise ValueError(f"the moments of parameter {number} are not of its shape {list(shape or [])}")
        if not all(bool(tensor.isfinite().all()) for tensor in entry.values() if isinstance(tensor, torch.Tensor)):
            raise ValueError(f"the moments of parameter {number} have NaN or infinite values")
