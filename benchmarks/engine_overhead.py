"""What the training engine costs over a loop of bare PyTorch.

Both train the same convolutional VAE of 28×28 images in batches of 128, from the same data set, with AdamW, clipping and
a learning-rate schedule, in this process, on one thread, in turns. A run's time per step is its mean after a warm-up; the
claim is the median, over pairs of runs, of the engine's time divided by the bare loop's. Time is the process's own CPU
time, which other programs on the machine disturb less than the clock on the wall; nothing in a step sleeps or waits.

    python benchmarks/engine_overhead.py
"""

from __future__ import annotations

import logging
import statistics
import tempfile
import time
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.optimization import get_scheduler
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from torch import Tensor, nn
from torch.utils.data import DataLoader

from meddiffusers.evaluation.results import Bar, write_results
from meddiffusers.training import Batch, BatchRandom, TrainingConfig, Validation, train

PAIRS, STEPS, WARM_UP, BATCH, SEED = 15, 60, 10, 128, 0


class ConvVAE(ModelMixin, ConfigMixin):
    """(B, 1, 28, 28) images and (B, 16) noise → logits of the images, posterior mean and log-variance."""

    @register_to_config
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, width, 4, 2, 1), nn.SiLU(), nn.Conv2d(width, 2 * width, 4, 2, 1), nn.SiLU(), nn.Flatten(),
            nn.Linear(2 * width * 49, 32),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Linear(16, 2 * width * 49), nn.SiLU(), nn.Unflatten(1, (2 * width, 7, 7)),
            nn.ConvTranspose2d(2 * width, width, 4, 2, 1), nn.SiLU(), nn.ConvTranspose2d(width, 1, 4, 2, 1),
        )  # fmt: skip

    def forward(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, logvar = self.encoder(images).chunk(2, dim=1)
        return self.decoder(mean + (logvar / 2).exp() * noise), mean, logvar


class VAEPipeline(DiffusionPipeline):
    def __init__(self, vae: ConvVAE) -> None:
        super().__init__()
        self.register_modules(vae=vae)


class Pictures:
    """4,096 smooth random pictures."""

    def __init__(self) -> None:
        coarse = torch.rand(4096, 1, 7, 7, generator=torch.Generator().manual_seed(SEED))
        self.images = F.interpolate(coarse, size=28, mode="bilinear")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index]


def elbo_loss(vae: nn.Module, images: Tensor, noise: Tensor) -> Tensor:
    logits, mean, logvar = vae(images, noise)
    likelihood = F.binary_cross_entropy_with_logits(logits, images, reduction="sum") / len(images)
    return likelihood + 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(dim=1).mean()


def new_vae() -> ConvVAE:
    torch.manual_seed(SEED)
    return ConvVAE().train()


class VAETask:
    """The task for the engine; notes when each step computes its loss."""

    def __init__(self, data: Pictures) -> None:
        self.train_dataset, self.modules = data, {"vae": new_vae()}
        self.times: list[float] = []

    def collate(self, items: list[Tensor]) -> Batch:
        return {"images": torch.stack(items)}

    def loss(self, modules: Mapping[str, nn.Module], batch: Batch, random: BatchRandom) -> dict[str, Tensor]:
        self.times.append(time.process_time())
        return {"loss": elbo_loss(modules["vae"], batch["images"], random.randn(BATCH, 16))}

    def validate(self, modules: Mapping[str, nn.Module], step: int) -> Validation:
        return Validation()

    def build_pipeline(self, modules: Mapping[str, nn.Module]) -> VAEPipeline:
        return VAEPipeline(modules["vae"])


def engine_step_seconds(data: Pictures) -> float:
    task = VAETask(data)
    settings = {"seed": SEED, "train_batch_size": BATCH, "lr_scheduler": "cosine"}
    limits = {"max_train_steps": STEPS, "checkpointing_steps": 10 * STEPS}
    with tempfile.TemporaryDirectory() as folder:
        train(task, TrainingConfig(output_dir=folder, **settings, **limits))
    return mean_difference(task.times)


def bare_step_seconds(data: Pictures) -> float:
    vae, times, step = new_vae(), [], 0
    optimizer = torch.optim.AdamW(vae.parameters(), lr=1e-4)
    scheduler = get_scheduler("cosine", optimizer, num_warmup_steps=500, num_training_steps=STEPS)
    loader = DataLoader(data, BATCH, shuffle=True, drop_last=True, collate_fn=torch.stack)
    while step < STEPS:
        for images in loader:
            times.append(time.process_time())
            loss = elbo_loss(vae, images, torch.randn(BATCH, 16))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            step += 1
            if step % 10 == 0:
                logging.info("%d %f", step, loss.item())
            if step == STEPS:
                break
    return mean_difference(times)


def mean_difference(times: list[float]) -> float:
    return (times[-1] - times[WARM_UP]) / (len(times) - 1 - WARM_UP)


def main() -> None:
    torch.set_num_threads(1)
    start, data, pairs = time.monotonic(), Pictures(), []
    engine_step_seconds(data)  # what is only paid once in a process
    for pair in range(PAIRS):
        order = (bare_step_seconds, engine_step_seconds)[:: 1 if pair % 2 else -1]
        times = {measure: measure(data) for measure in order}
        pairs.append((times[bare_step_seconds], times[engine_step_seconds]))
    print(f"{'bare loop':>12}{'engine':>12}{'ratio':>9}")
    for bare, engine in pairs:
        print(f"{1e3 * bare:>9.2f} ms{1e3 * engine:>9.2f} ms{engine / bare:>9.3f}")
    ratios = [engine / bare for bare, engine in pairs]
    write_results(
        "engine_overhead",
        [Bar("CPU time per step, engine over bare PyTorch loop, median", statistics.median(ratios), "<=", 1.05)],
        seed=SEED,
        n=PAIRS,
        duration_s=time.monotonic() - start,
        steps_per_run=STEPS - WARM_UP,
        bare_ms=[round(1e3 * bare, 2) for bare, _ in pairs],
        engine_ms=[round(1e3 * engine, 2) for _, engine in pairs],
    )


if __name__ == "__main__":
    main()
