"""bf16 only where the device has instructions for it; fp16 never on a CPU."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
import torch
from helpers.toy_task import ToyTask, run_toy

from meddiffusers.training import TrainingConfig
from meddiffusers.training.engine import precision
from meddiffusers.training.engine.precision import has_bf16, supported_precision


def processor(
    monkeypatch: pytest.MonkeyPatch, capability: str, *, avx512_bf16: bool = False, amx: bool = False
) -> None:
    """Let PyTorch describe this x86 processor."""
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)


@pytest.mark.parametrize(
    ("capability", "avx512_bf16", "amx", "expected"),
    [
        ("AVX512", True, False, True),
        ("AVX512", False, True, True),
        ("AVX512", False, False, False),  # Skylake
        ("AVX2", False, False, False),
        ("AVX2", True, True, False),  # held to AVX2 by ATEN_CPU_CAPABILITY
        ("DEFAULT", True, True, False),
    ],
)
def test_x86(monkeypatch: pytest.MonkeyPatch, capability: str, avx512_bf16: bool, amx: bool, expected: bool) -> None:
    processor(monkeypatch, capability, avx512_bf16=avx512_bf16, amx=amx)
    assert has_bf16("cpu") is expected


@pytest.mark.parametrize(
    ("info", "expected"),
    [("Features\t: fp asimd i8mm bf16 dgh", True), ("Features\t: fp asimd svebf16", False), (None, False)],
)
def test_arm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, info: str | None, expected: bool) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(precision, "CPU_INFO", tmp_path / "cpuinfo")
    if info:
        (tmp_path / "cpuinfo").write_text(info)
    assert has_bf16("cpu") is expected


@pytest.mark.parametrize("supported", [True, False])
def test_cuda(monkeypatch: pytest.MonkeyPatch, supported: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported or including_emulation)
    assert has_bf16("cuda") is supported


def test_mps_is_left_as_it_is() -> None:
    assert has_bf16("mps")


def test_without_instructions_for_bf16_a_run_uses_float32_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    processor(monkeypatch, "AVX2")
    task, seen = ToyTask(), set()
    task.modules["net"].net[0].register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    run_toy(tmp_path, task, mixed_precision="bf16", max_train_steps=3)
    assert seen == {torch.float32}
    assert caplog.text.count("This processor has no instructions for bf16; the run uses float32") == 1


@pytest.mark.parametrize(("capability", "requested"), [("AVX512", "bf16"), ("AVX2", "no")])
def test_what_the_processor_can_do_is_done_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capability: str, requested: str
) -> None:
    processor(monkeypatch, capability, avx512_bf16=True)
    assert supported_precision(requested) == requested
    run_toy(tmp_path, mixed_precision=requested, max_train_steps=1)
    assert "no instructions" not in caplog.text


def test_fp16_on_a_cpu_is_refused_by_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "device_type", lambda: "cpu")
    with pytest.raises(ValueError, match=r"mixed_precision is 'fp16', but this run uses the CPU; fp16 needs a GPU"):
        TrainingConfig(mixed_precision="fp16")
    monkeypatch.setattr(precision, "device_type", lambda: "cuda")
    assert TrainingConfig(mixed_precision="fp16").mixed_precision == "fp16"


def test_accelerates_choice_of_the_cpu_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    assert precision.device_type() == "cuda"
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert precision.device_type() == "cpu"
