"""The text-to-MR pipeline before training: new, with parts from other repositories, or from a repository."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from diffusers import AutoencoderKL, DDIMScheduler, FlowMatchEulerDiscreteScheduler, UNet2DConditionModel
from transformers import AutoConfig, AutoModel, AutoTokenizer, CLIPTextModel, T5EncoderModel

from meddiffusers.datasets.captioned_config import CaptionedDataConfig
from meddiffusers.hub.load import load
from meddiffusers.models.quantity_encoder import QuantityEncoder
from meddiffusers.pipelines.text_to_mr_pipeline import TextToMRPipeline
from meddiffusers.training.tasks.autoencoder.repository import autoencoder_image_range
from meddiffusers.training.tasks.text_to_mr.vocabulary import QUANTITIES
from meddiffusers.training.tasks.unets import check_same_data
from meddiffusers.utils.settings import Range, check_fields, list_setting, setting

NORMALIZATION = ("scaling_factor", "shift_factor")  # of an autoencoder's latents
ENCODERS: dict[str, Any] = {
    "t5": T5EncoderModel,
    "clip": CLIPTextModel,
    "clip_text_model": CLIPTextModel,
}  # other types are loaded with AutoModel


@dataclass
class TextToMRConfig:
    """Settings of the parts, of the denoiser and of its loss."""

    pretrained_model_name_or_path: str | None = setting(None, "Repository or folder of the model to start from.")
    revision: str | None = setting(None, "Branch, tag or commit of that repository.")
    rank: int | None = setting(None, "Rank of a LoRA adapter; with it, only the adapter is trained.")
    lora_alpha: int | None = setting(None, "Alpha of the adapter, whose scale is alpha / rank; by default the rank.")
    text_encoder_rank: int | None = setting(None, "Rank of a LoRA adapter of the text encoder; by default it has none.")

    vae_name_or_path: str | None = setting(
        None, "Repository or folder of the AutoencoderKL, or of one with a better decoder."
    )
    vae_subfolder: str | None = setting(None, "Subfolder of the autoencoder in it, such as vae.")
    text_encoder_name_or_path: str | None = setting(
        None, "Repository of a BERT, CLIP or T5 encoder, or a folder with the subfolders text_encoder and tokenizer."
    )
    max_tokens: int = setting(512, "Maximum number of tokens of a prompt.")
    quantities: bool = setting(True, "Encode the numbers in a prompt as additional tokens.")

    block_out_channels: list[int] = list_setting([64, 128, 192], "Number of channels of each level of the denoiser.")
    attention_levels: list[int] = list_setting([1, 2], "Levels with cross-attention to the prompt, counted from 0.")
    attention_heads: int = setting(4, "Number of attention heads.")
    layers_per_block: int = setting(1, "Number of residual blocks in each level.")
    norm_num_groups: int = setting(16, "Number of groups in the group normalisation.")

    prediction_type: Literal["epsilon", "sample", "v_prediction", "flow"] = setting(
        "v_prediction", "What the network predicts: noise, latents, velocity, or noise minus latents (flow matching)."
    )
    zero_terminal_snr: bool = setting(
        True, "Rescale the noise schedule to end in pure noise (Lin et al. 2024); not with epsilon."
    )
    snr_gamma: float | None = setting(None, "γ of the min-SNR weights; by default the loss is not weighted.")
    prompt_dropout: float = setting(0.1, "Fraction of the prompts that is dropped, for classifier-free guidance.")
    captions_per_image: int = setting(
        2, "Number of prompts that are written and encoded for each image before training."
    )
    save_in_fp16: bool = setting(False, "Round the trained weights to half precision before saving.")

    def __post_init__(self) -> None:
        check_fields(self, _RANGES)
        if self.prediction_type == "epsilon" and self.zero_terminal_snr:
            raise ValueError(
                "prediction_type=epsilon and zero_terminal_snr: in pure noise, the noise says nothing about the image. "
                "Use v_prediction or sample, or set zero_terminal_snr to false."
            )
        if self.prediction_type == "flow" and self.snr_gamma is not None:
            raise ValueError(
                f"snr_gamma={self.snr_gamma} with prediction_type=flow, which is not weighted. Leave it out."
            )
        if (self.rank and not self.pretrained_model_name_or_path) or (self.text_encoder_rank and not self.rank):
            raise ValueError(
                f"Got rank={self.rank} and text_encoder_rank={self.text_encoder_rank}; an adapter needs a trained "
                "model: give --pretrained_model_name_or_path REPOSITORY with --rank, and --rank with "
                "--text_encoder_rank."
            )


_COUNT = Range(1)
_RANGES = {
    "rank": _COUNT,
    "lora_alpha": _COUNT,
    "text_encoder_rank": _COUNT,
    "max_tokens": _COUNT,
    "attention_heads": _COUNT,
    "layers_per_block": _COUNT,
    "norm_num_groups": _COUNT,
    "snr_gamma": Range(0, open_low=True),
    "prompt_dropout": Range(0, 1),
    "captions_per_image": _COUNT,
}


def build_text_to_mr_pipeline(data: CaptionedDataConfig, config: TextToMRConfig) -> TextToMRPipeline:
    """The pipeline before training.

    Raises:
        ValueError: There is no autoencoder or no text encoder; the repository holds another kind of pipeline, or one
            for other pixels.
    """
    if config.pretrained_model_name_or_path:
        return _from_repository(data, config)
    if not config.vae_name_or_path or not config.text_encoder_name_or_path:
        raise ValueError(
            f"Got vae_name_or_path={config.vae_name_or_path!r} and text_encoder_name_or_path="
            f"{config.text_encoder_name_or_path!r}; a new model needs both. Train them with "
            "training/train_autoencoder.py and training/train_prompt_encoder.py, or name repositories that hold them."
        )
    vae = _autoencoder(config)
    text_encoder, tokenizer = _text_encoder(config.text_encoder_name_or_path, config.max_tokens)
    width = text_encoder.config.hidden_size
    unet = UNet2DConditionModel(**_denoiser(config, vae, data.resolution), cross_attention_dim=width)
    quantities = QuantityEncoder(QUANTITIES, cross_attention_dim=width) if config.quantities else None
    return TextToMRPipeline(
        vae,
        text_encoder,
        tokenizer,
        unet,
        _scheduler(config),
        quantities,
        spacing=data.spacing,
        image_range=autoencoder_image_range(config.vae_name_or_path, config.vae_subfolder),
    )


def _autoencoder(config: TextToMRConfig) -> Any:
    return AutoencoderKL.from_pretrained(config.vae_name_or_path, subfolder=config.vae_subfolder or "").eval()


def _denoiser(config: TextToMRConfig, vae: Any, resolution: int) -> dict[str, Any]:
    channels, levels = config.block_out_channels, range(len(config.block_out_channels))
    down = ["CrossAttnDownBlock2D" if level in config.attention_levels else "DownBlock2D" for level in levels]
    return {
        "sample_size": resolution // 2 ** (len(vae.config["block_out_channels"]) - 1),
        "in_channels": vae.config["latent_channels"],
        "out_channels": vae.config["latent_channels"],
        "down_block_types": tuple(down),
        "up_block_types": tuple(name.replace("Down", "Up") for name in reversed(down)),
        "block_out_channels": tuple(channels),
        "layers_per_block": config.layers_per_block,
        "attention_head_dim": config.attention_heads,  # which diffusers takes as the number of heads
        "norm_num_groups": config.norm_num_groups,
    }


def _scheduler(config: TextToMRConfig) -> DDIMScheduler | FlowMatchEulerDiscreteScheduler:
    if config.prediction_type == "flow":
        return FlowMatchEulerDiscreteScheduler()
    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,  # as Stable Diffusion
        beta_end=0.012,
        clip_sample=False,
        prediction_type=config.prediction_type,
        rescale_betas_zero_snr=config.zero_terminal_snr,
        timestep_spacing="trailing",
    )


def _text_encoder(name: str, max_tokens: int) -> tuple[Any, Any]:
    """Encoder and tokenizer of a repository, from its root or from their subfolders."""
    subfolders = {part: part if Path(name, part).is_dir() else "" for part in ("text_encoder", "tokenizer")}
    kind = AutoConfig.from_pretrained(name, subfolder=subfolders["text_encoder"]).model_type
    encoder = ENCODERS.get(kind, AutoModel).from_pretrained(name, subfolder=subfolders["text_encoder"])
    tokenizer = AutoTokenizer.from_pretrained(name, subfolder=subfolders["tokenizer"], model_max_length=max_tokens)
    return encoder.eval(), tokenizer


def _from_repository(data: CaptionedDataConfig, config: TextToMRConfig) -> TextToMRPipeline:
    name = config.pretrained_model_name_or_path or ""
    pipeline = load(name, revision=config.revision)
    if not isinstance(pipeline, TextToMRPipeline):
        raise ValueError(f"{name} holds a {type(pipeline).__name__}; expected a TextToMRPipeline.")
    size = pipeline.vae_scale_factor * pipeline.unet.config["sample_size"]
    check_same_data(name, {"spacing": pipeline.config["spacing"], "resolution": size}, data)
    if config.vae_name_or_path:
        vae = _autoencoder(config)
        given, expected = ({key: each.config[key] for key in NORMALIZATION} for each in (vae, pipeline.vae))
        if given != expected:
            raise ValueError(
                f"{config.vae_name_or_path} has {given}, and the autoencoder of {name} has {expected}: the denoiser "
                "was trained on other latents. Give an autoencoder that was trained with --freeze_encoder."
            )
        pipeline.register_modules(vae=vae)
    return pipeline
