"""AutoPipelineForText2Image and AutoPipelineForImage2Image of diffusers open repositories of TextToMRPipeline.

Their module imports every pipeline of diffusers, so the tests import it when they run.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from diffusers import DDIMScheduler, DDPMPipeline, UNet2DModel
from helpers.small_text_to_mr import small_text_to_mr

from meddiffusers import TextToMRPipeline

ORDERS = {
    "after the package": "import meddiffusers; from diffusers.pipelines import auto_pipeline",
    "before the package": "from diffusers import AutoPipelineForText2Image; import meddiffusers",
}


@pytest.mark.slow
def test_a_repository_is_opened_by_the_automatic_classes(tmp_path: Path) -> None:
    from diffusers import AutoPipelineForImage2Image, AutoPipelineForText2Image

    small_text_to_mr().save_pretrained(tmp_path)
    for automatic in (AutoPipelineForText2Image, AutoPipelineForImage2Image):
        pipeline = automatic.from_pretrained(tmp_path)
        assert type(pipeline) is TextToMRPipeline
        again = automatic.from_pipe(pipeline)
        assert type(again) is TextToMRPipeline and again.components == pipeline.components
        assert again.config["spacing"] == pipeline.config["spacing"]


@pytest.mark.slow
def test_other_pipelines_are_found_as_ever(tmp_path: Path) -> None:
    from diffusers import AutoPipelineForText2Image

    DDPMPipeline(UNet2DModel(8, block_out_channels=(4,) * 4, norm_num_groups=2), DDIMScheduler()).save_pretrained(
        tmp_path
    )
    with pytest.raises(ValueError, match="AutoPipeline can't find a pipeline linked to DDPMPipeline"):
        AutoPipelineForText2Image.from_pretrained(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
def test_the_order_of_imports_does_not_matter(order: str) -> None:
    code = (
        f"{ORDERS[order]}\n"
        "from diffusers.pipelines.auto_pipeline import _get_task_class, AUTO_TEXT2IMAGE_PIPELINES_MAPPING as table\n"
        "assert _get_task_class(table, 'TextToMRPipeline') is meddiffusers.TextToMRPipeline\n"
        "assert _get_task_class(table, 'StableDiffusionPipeline').__name__ == 'StableDiffusionPipeline'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
