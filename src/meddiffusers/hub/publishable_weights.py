"""Check that weight files and figures hold tensors and pixels, and no text beside them."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import fields
from pathlib import Path
from typing import Any

from peft import LoraConfig

from meddiffusers.hub.identifiers import given_away_by_settings
from meddiffusers.hub.versions import VERSION
from meddiffusers.hub.vocabulary import texts_in
from meddiffusers.hub.weights import ADAPTER
from meddiffusers.utils.reading import FileContentError, read_json

MAX_HEADER = 2**27  # bytes; the format allows 100 MB
_ENTRY = {"dtype", "shape", "data_offsets"}
_NUMBERS = ("F64", "F32", "F16", "BF16", "I64")  # floating-point weights, and positions or counts
# What the settings of an adapter may hold beside names of weights.
_ADAPTER_TEXTS = {"LORA", "none", "all", "lora_only", "gaussian", "pissa", "olora", "orthogonal", "megatron.core"}
_PNG = b"\x89PNG\r\n\x1a\n"
# The chunks of pixels, with their greatest size in bytes.
_CHUNKS = {"IHDR": 13, "PLTE": 768, "IDAT": 2**31, "IEND": 0, "tRNS": 256, "gAMA": 4, "sRGB": 1, "pHYs": 9}


def weights_content_issues(path: Path) -> list[str]:
    """Check the header of a .safetensors file, whose metadata can be any text."""
    header = _header(path)
    metadata = header.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict):
        return ["has metadata of another format. Save it again."]
    entries = [name for name, entry in header.items() if not isinstance(entry, dict) or set(entry) != _ENTRY]
    issues = [f"describes the tensor {name} by more than type, shape and place. Save it again." for name in entries[:1]]
    unknown = [key for key in metadata if key not in ("format", "lora_adapter_metadata")]
    issues += [f"has the metadata {key!r}, which could hold anything. Save it without." for key in unknown]
    if metadata.get("format", "pt") not in ("pt", "np"):
        issues.append(f"has the format {metadata['format']!r}, expected 'pt'. Save it again.")
    tensors = {name: entry["dtype"] for name, entry in header.items() if isinstance(entry, dict) and "dtype" in entry}
    bytes_ = [f"{name} as {kind}" for name, kind in tensors.items() if kind not in _NUMBERS]
    if bytes_ and not _is_quantized(path):
        issues.append(f"holds {bytes_[0]}, which could be any file; expected floating-point numbers. Save it again.")
    if path.name == ADAPTER or metadata.get("lora_adapter_metadata") is not None:
        issues += _adapter_metadata_issues(metadata.get("lora_adapter_metadata"), list(tensors))
    return issues + [
        f"has {what} as the name of a tensor. Save it again." for what in given_away_by_settings(list(header))
    ]


def shard_index_issues(path: Path) -> list[str]:
    """Check the index of weights in several files: names of tensors and files, and their size."""
    index = read_json(path)
    metadata = index.get("metadata")
    known = set(index) <= {"metadata", "weight_map"} and isinstance(metadata, dict | None)
    if not known or not set(metadata or {}) <= {"total_size", "total_parameters"}:
        return ["holds more than total_size and weight_map. Save the weights again."]
    return [f"has {what}. Save the weights again." for what in given_away_by_settings(index)]


def figure_content_issues(path: Path) -> list[str]:
    """Check that a PNG image holds pixels alone: no texts, no EXIF data, nothing behind its end."""
    data = path.read_bytes()
    pixels, start, name, sides = b"", len(_PNG), "", b""
    while name != "IEND":
        if not data.startswith(_PNG) or start + 12 > len(data):
            return ["is no whole PNG image. Save the figure again."]
        length, name = struct.unpack_from(">I", data, start)[0], data[start + 4 : start + 8].decode("latin-1")
        if length > _CHUNKS.get(name, -1):
            return [f"has a chunk {name!r} of {length} bytes, which can hold texts. Save the pixels alone."]
        content = data[start + 8 : start + 8 + length]
        pixels, sides = pixels + content * (name == "IDAT"), content if name == "IHDR" else sides
        start += 12 + length
    if start != len(data) or not _is_exactly(pixels, sides):
        return ["holds more or less than its pixels. Save the figure again, without interlacing."]
    return []


def _is_exactly(compressed: bytes, header: bytes) -> bool:
    """Whether PNG data are the rows of an image with this header, which are not interlaced."""
    if len(header) != 13:
        return False
    width, height, depth, colours, *_, interlaced = struct.unpack(">IIBBBBB", header)
    row = 1 + -(-width * depth * {2: 3, 4: 2, 6: 4}.get(colours, 1) // 8)
    stream = zlib.decompressobj()
    try:
        rows = stream.decompress(compressed, height * row + 1)
    except zlib.error:
        return False
    return not interlaced and len(rows) == height * row and stream.eof and not stream.unused_data


def _header(path: Path) -> dict[str, Any]:
    """The header of a .safetensors file, {name: {dtype, shape, data_offsets}} and `__metadata__`; empty if damaged."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        text = file.read(length) if length <= MAX_HEADER else b""
    try:
        header = json.loads(text, object_pairs_hook=_unique)
    except FileContentError:
        raise FileContentError(path, "has a name twice in its header. Save it again.") from None
    except (ValueError, RecursionError):
        return {}  # which `weight_issues` reports
    return header if isinstance(header, dict) else {}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise FileContentError("", "")
    return dict(pairs)


def _is_quantized(path: Path) -> bool:
    config = path.with_name("config.json")
    return config.is_file() and "quantization_config" in read_json(config)


def _adapter_metadata_issues(text: str | None, tensors: list[str]) -> list[str]:
    """Check the settings of an adapter, which diffusers writes as {component.setting: value}.

    Their texts are names of the adapter's weights or parts of them, or settings of peft.
    """
    if text is None:
        return []
    try:
        settings = json.loads(text)
    except (ValueError, RecursionError):
        settings = None
    if not isinstance(settings, dict):
        return ["has adapter metadata that are no JSON. Save the adapter again."]
    known = {field.name for field in fields(LoraConfig)}
    unknown = [name for name in settings if name.rpartition(".")[2] not in known]
    issues = [
        f"has the adapter setting {name!r}, which peft does not know. Save the adapter again." for name in unknown
    ]
    names = {name.rpartition(".")[2] for name in settings} | {name.partition(".")[0] for name in settings}
    for setting, value in settings.items():
        for part in texts_in(value):
            is_setting = part in _ADAPTER_TEXTS | names or bool(VERSION.fullmatch(part))
            if not part or not (is_setting or any(part in name for name in tensors)):
                issues.append(
                    f"has the adapter setting {setting} as {part[:60]!r}, which is no name of its weights. Set it to "
                    "None, and save the adapter again."
                )
    return issues
