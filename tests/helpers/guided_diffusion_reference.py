"""Networks of guided-diffusion: random weights by name and shape, and what the reference computes with them.

`tests/convert/fixtures/guided_diffusion.safetensors` holds the names and shapes of the weights of every network below
(in the metadata, as JSON), and the outputs of `NETWORKS` and `CLASSIFIERS`. With the reference code checked out
(https://github.com/openai/guided-diffusion), it is recorded anew by

    PYTHONPATH=tests python tests/helpers/guided_diffusion_reference.py FOLDER_OF_THE_REFERENCE
"""

from __future__ import annotations

import importlib
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

FIXTURE = Path(__file__).parents[1] / "convert" / "fixtures" / "guided_diffusion.safetensors"
SIZE = 16  # of the images, in pixels

# Arguments of the reference's UNetModel, those that differ from DEFAULTS.
DEFAULTS: dict[str, Any] = {
    "image_size": SIZE,
    "in_channels": 1,
    "out_channels": 2,
    "model_channels": 32,
    "channel_mult": (1, 2),
    "num_res_blocks": 1,
    "attention_resolutions": (2,),
}
NETWORKS: dict[str, dict[str, Any]] = {
    "segmentation": {"in_channels": 5, "channel_mult": (1, 1, 2), "num_res_blocks": 2, "attention_resolutions": (4,)},
    "anomaly": {"in_channels": 4, "out_channels": 8, "num_classes": 2},
    "legacy heads": {"out_channels": 1, "num_heads": 4, "use_scale_shift_norm": True},
    "new heads": {"num_heads": 4, "use_new_attention_order": True, "attention_resolutions": ()},  # in the middle alone
    "residual resampling": {"num_heads": 1, "attention_resolutions": (1, 2), "resblock_updown": True},
    "one level": {"channel_mult": (1,), "num_res_blocks": 2, "attention_resolutions": (1,)},
    "everything": {
        "in_channels": 3,
        "out_channels": 6,
        "channel_mult": (1, 2, 3),
        "attention_resolutions": (2, 4),
        "num_head_channels": 16,
        "num_classes": 5,
        "use_scale_shift_norm": True,
        "resblock_updown": True,
        "use_new_attention_order": True,
    },
}
CLASSIFIERS: dict[str, dict[str, Any]] = {  # arguments of EncoderUNetModel
    "classifier": {"num_head_channels": 32},
    "classifier of the papers kind": {
        "in_channels": 4,
        "channel_mult": (1, 1, 2),
        "num_res_blocks": 2,
        "attention_resolutions": (2, 4),
        "num_head_channels": 16,
        "use_scale_shift_norm": True,
        "resblock_updown": True,
    },
    "classifier, new order": {
        "channel_mult": (1, 2),
        "num_head_channels": 16,
        "use_scale_shift_norm": True,
        "resblock_updown": True,
        "use_new_attention_order": True,
        "out_channels": 3,
    },
}
PAPER: dict[str, Any] = {  # Wolleb et al. 2022, segmentation
    "image_size": 256,
    "model_channels": 128,
    "in_channels": 5,
    "num_res_blocks": 2,
    "channel_mult": (1, 1, 2, 2, 4, 4),
    "attention_resolutions": (16,),
}
INEXPRESSIBLE: dict[str, dict[str, Any]] = {
    "pooled": {"conv_resample": False},
    "3D": {"dims": 3},
    "wide stem": {"channel_mult": (2, 2)},
}


def random_weights(shapes: dict[str, list[int]]) -> dict[str, torch.Tensor]:
    """Weights in the order of their names, none of them zero; `RandomState` draws the same in every version of NumPy.

    Matrices keep the variance of what goes through them, norms stay near the identity.
    """
    random = np.random.RandomState(0)
    weights = {}
    for name, shape in sorted(shapes.items()):
        values = torch.from_numpy(random.uniform(-1, 1, shape)).float()
        fan_in = math.prod(shape[1:])
        norm = name.endswith("weight") and len(shape) == 1
        weights[name] = 1 + 0.2 * values if norm else values * (math.sqrt(3 / fan_in) if len(shape) > 1 else 0.2)
    return weights


def inputs(network: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Arguments of the reference's `forward`: x (2, C, 16, 16), timesteps (2,), and y (2,) where there are classes."""
    random = np.random.RandomState(1)
    x = torch.from_numpy(random.uniform(-2, 2, (2, network["in_channels"], SIZE, SIZE))).float()
    classes = {"y": torch.tensor([1, 0])} if network.get("num_classes") else {}
    return {"x": x, "timesteps": torch.tensor([3, 871]), **classes}


def recorded() -> tuple[dict[str, dict[str, list[int]]], dict[str, torch.Tensor]]:
    """Of every network, names and shapes of the weights; of `NETWORKS` and `CLASSIFIERS`, the outputs."""
    with safe_open(FIXTURE, "pt") as file:
        shapes = {name: json.loads(text) for name, text in file.metadata().items()}
        return shapes, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (a file, not a dictionary)


def record(reference: str) -> None:
    """Write the fixture."""
    sys.path.insert(0, reference)
    code = importlib.import_module("guided_diffusion.unet")
    unets = {
        name: code.UNetModel(**DEFAULTS | network).eval()
        for name, network in {**NETWORKS, **INEXPRESSIBLE, "paper": PAPER}.items()
    }
    classifiers = {
        name: code.EncoderUNetModel(**DEFAULTS | network, pool="attention").eval()
        for name, network in CLASSIFIERS.items()
    }
    networks = {**unets, **classifiers}
    shapes = {
        name: {key: list(tensor.shape) for key, tensor in network.state_dict().items()}
        for name, network in networks.items()
    }
    outputs = {}
    for name, network in {**NETWORKS, **CLASSIFIERS}.items():
        networks[name].load_state_dict(random_weights(shapes[name]))
        with torch.no_grad():
            outputs[name] = networks[name](**inputs(DEFAULTS | network)).contiguous()
    FIXTURE.parent.mkdir(parents=True, exist_ok=True)
    save_file(outputs, FIXTURE, {name: json.dumps(entry) for name, entry in shapes.items()})


if __name__ == "__main__":
    record(sys.argv[1])
