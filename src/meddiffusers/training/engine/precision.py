"""Which numeric format the forward pass runs in, given what is requested and what the device can do."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from accelerate.utils import parse_flag_from_env

Precision: TypeAlias = Literal["no", "fp16", "bf16"]

CPU_INFO = Path("/proc/cpuinfo")


def device_type() -> str:
    """The type of the device that accelerate will choose, such as "cpu" or "cuda"."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if accelerator is None or parse_flag_from_env("ACCELERATE_USE_CPU"):
        return "cpu"
    return accelerator.type


def supported_precision(requested: Precision) -> Precision:
    """The requested precision, or "no" (float32) for bf16 on a device without bf16 instructions.

    Without such instructions bf16 is emulated, which is about nine times slower than float32 on a CPU.

    Raises:
        ValueError: fp16 on a CPU.
    """
    device = device_type()
    if requested == "fp16" and device == "cpu":
        raise ValueError(
            "mixed_precision is 'fp16', but this run uses the CPU; fp16 needs a GPU. Give --mixed_precision no, or "
            "bf16, which is used where the processor has instructions for it."
        )
    if requested == "bf16" and not has_bf16(device):
        return "no"
    return requested


def has_bf16(device: str) -> bool:
    """Whether a device of this type computes in bf16 rather than emulating it."""
    if device == "cpu":
        return _arm_has_bf16() if platform.machine() in ("aarch64", "arm64") else _x86_has_bf16()
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return True


def _x86_has_bf16() -> bool:
    """AVX512-BF16 or AMX, unless PyTorch is held to older instructions (`ATEN_CPU_CAPABILITY`)."""
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        return False
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def _arm_has_bf16() -> bool:
    """Whether Linux lists the extension bf16; other systems do not say."""
    return CPU_INFO.is_file() and "bf16" in CPU_INFO.read_text(encoding="utf-8").split()
