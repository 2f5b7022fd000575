"""The state of a run: all that the steps to come depend on, and how it lies in a checkpoint's folder.

    checkpoint-120/
      unet/                 the network, as diffusers saves it (config.json, safetensors)
      unet_ema/             its moving average, likewise, if one is kept
      optimizer.pt          Adam's moments and the loss scaler
      trainer_state.json    the counters below, the configuration, the division of the batch

No random state is stored, since every random number is a function of the seed and the step (``randomness``). Nor are
the settings of the optimiser and of the learning rate's course: the configuration of the resumed run holds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from diffusers.models.modeling_utils import ModelMixin
from safetensors.torch import load_model, save_model
from torch import nn

from meddiffusers.training.engine.checkpoints import reading

if TYPE_CHECKING:
    from diffusers.training_utils import EMAModel

_OPTIMIZER, _FACTS, _WEIGHTS = "optimizer.pt", "trainer_state.json", "diffusion_pytorch_model.safetensors"


@dataclass
class TrainingState:
    """The networks (not wrapped by DDP) and averages by name, the optimiser, and the counters of a run."""

    modules: dict[str, Any]
    averages: dict[str, EMAModel]
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler | None = None
    step: int = 0  # optimiser steps taken
    updates: int = 0  # of these, the steps that changed the weights: the scaler of fp16 skips some
    seconds: float = 0.0  # time spent, that before a resumption included
    facts: dict[str, Any] = field(default_factory=dict)  # what the engine wants to know on resuming

    def save(self, folder: Path) -> None:
        """Writes everything into ``folder``, which exists."""
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
        """Reads everything from ``folder``; raises CheckpointError, naming the file, if one is missing or damaged.

        An average that the checkpoint lacks begins with its weights.
        """
        with reading(folder / _FACTS):
            self.facts = json.loads((folder / _FACTS).read_text())
            self.step, self.updates, self.seconds = (self.facts.pop(key) for key in ("step", "updates", "seconds"))
        for name, module in self.modules.items():
            if name in self.averages:
                average = folder / f"{name}_ema"
                _load(module, average if average.exists() else folder / name)
                shadow = [parameter.detach() for parameter in module.parameters()]
                self.averages[name].load_state_dict({"shadow_params": shadow, "optimization_step": self.updates})
            _load(module, folder / name)
        with reading(folder / _OPTIMIZER):
            saved = torch.load(folder / _OPTIMIZER, map_location="cpu", weights_only=True)
            groups = self.optimizer.state_dict()["param_groups"]
            self.optimizer.load_state_dict({"state": saved["moments"], "param_groups": groups})
            if self.scaler and saved["scaler"]:
                self.scaler.load_state_dict(saved["scaler"])

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within it, the networks have the averaged weights, where averages are kept."""
        for name, average in self.averages.items():
            average.store(self.modules[name].parameters())
            average.copy_to(self.modules[name].parameters())
        try:
            yield
        finally:
            for name, average in self.averages.items():
                average.restore(self.modules[name].parameters())

    def update(self, max_grad_norm: float) -> bool:
        """Clips the gradients, takes them into weights and averages, and clears them.

        Returns False, with nothing updated, if gradients overflowed in fp16: the scaler then lowers its scale.
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
        """The size of a checkpoint, near enough: weights, averages, two moments for each trained weight."""
        modules = self.modules.values()
        weights = sum(tensor.nbytes for module in modules for tensor in (*module.parameters(), *module.buffers()))
        trained = sum(p.nbytes for module in modules for p in module.parameters() if p.requires_grad)
        return weights * (2 if self.averages else 1) + 2 * trained


def _save(module: Any, folder: Path) -> None:
    if isinstance(module, ModelMixin):
        module.save_pretrained(folder, max_shard_size="1TB")  # one file, which _load reads back
    else:  # of transformers, which would save but an adapter, or of no library
        folder.mkdir()
        save_model(module, str(folder / _WEIGHTS))


def _load(module: nn.Module, folder: Path) -> None:
    file = next(folder.glob("*.safetensors"), folder / _WEIGHTS)
    with reading(file):
        load_model(module, file)
