"""What the training engine costs over a loop of bare PyTorch.

Both train the same convolutional VAE of 28×28 images in batches of 128, from the same data set, with AdamW, clipping
and a learning-rate schedule, in one process, on one thread. They take turns step by step, so that whatever else the
machine does disturbs both alike: each time the engine asks for a loss, the bare loop first takes a step of its own,
which is timed apart. Time is the CPU time of the process, since nothing in a step waits. The claim is the median,
over runs, of the engine's time divided by the bare loop's.

    python benchmarks/engine_overhead.py
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.optimization import get_scheduler
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from parts import exit_with
from torch import Tensor, nn
from torch.utils.data import DataLoader

from meddiffusers.evaluation.results import Bar, write_results
from meddiffusers.training import Batch, BatchRandom, TrainingConfig, Validation, train

RUNS, STEPS, WARM_UP, BATCH, SEED = 7, 120, 20, 128, 0


class ConvVAE(ModelMixin, ConfigMixin):
    """(B, 1, 28, 28) images and (B, 16) noise → logits of the images, posterior mean and log-variance."""

    @register_to_config
    def __init__(self, width: int = 12) -> None:
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


class Images:
    """4,096 smooth random images."""

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
    """The task for the engine; takes a step of the bare loop, and the times of both, at each step."""

    def __init__(self, data: Images) -> None:
        self.train_dataset, self.modules = data, {"vae": new_vae()}
        self.bare_steps = bare_loop(data)
        self.engine_seconds: list[float] = []
        self.bare_seconds: list[float] = []
        self.since = time.process_time()

    def collate(self, items: list[Tensor]) -> Batch:
        return {"images": torch.stack(items)}

    def loss(self, modules: Mapping[str, nn.Module], batch: Batch, random: BatchRandom) -> dict[str, Tensor]:
        engine_paused = time.process_time()
        next(self.bare_steps)
        engine_resumed = time.process_time()
        self.engine_seconds.append(engine_paused - self.since)
        self.bare_seconds.append(engine_resumed - engine_paused)
        self.since = engine_resumed
        return {"loss": elbo_loss(modules["vae"], batch["images"], random.randn(BATCH, 16))}

    def validate(self, modules: Mapping[str, nn.Module], step: int) -> Validation:
        return Validation()

    def build_pipeline(self, modules: Mapping[str, nn.Module]) -> VAEPipeline:
        return VAEPipeline(modules["vae"])

    def save(self, pipeline: VAEPipeline, folder: object) -> None:
        pipeline.save_pretrained(folder)


def bare_loop(data: Images) -> Iterator[None]:
    """Train endlessly, one step per `next`."""
    vae, losses = new_vae(), []
    optimizer = torch.optim.AdamW(vae.parameters(), lr=1e-4)
    scheduler = get_scheduler("cosine", optimizer, num_warmup_steps=500, num_training_steps=STEPS)
    loader = DataLoader(data, BATCH, shuffle=True, drop_last=True, collate_fn=torch.stack)
    while True:
        for images in loader:
            loss = elbo_loss(vae, images, torch.randn(BATCH, 16))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            losses.append(loss.item())
            yield


def seconds_per_step(data: Images) -> tuple[float, float]:
    """Of one run: the bare loop's and the engine's mean time per step."""
    task = VAETask(data)
    settings = {"seed": SEED, "train_batch_size": BATCH, "lr_scheduler": "cosine", "max_train_steps": STEPS}
    with tempfile.TemporaryDirectory() as folder:
        train(task, TrainingConfig(output_dir=folder, checkpointing_steps=10 * STEPS, **settings))
    return statistics.mean(task.bare_seconds[WARM_UP:]), statistics.mean(task.engine_seconds[WARM_UP:])


def main() -> None:
    torch.set_num_threads(1)
    start, data = time.monotonic(), Images()
    runs = [seconds_per_step(data) for _ in range(RUNS)]
    print(f"{'bare loop':>12}{'engine':>12}{'ratio':>9}")
    for bare, engine in runs:
        print(f"{1e3 * bare:>9.2f} ms{1e3 * engine:>9.2f} ms{engine / bare:>9.3f}")
    ratio = statistics.median(engine / bare for bare, engine in runs)
    bars = [Bar("CPU time per step, engine over bare PyTorch loop, median of runs", ratio, "<=", 1.05)]
    write_results(
        "engine_overhead",
        bars,
        seed=SEED,
        n=RUNS,
        duration_s=time.monotonic() - start,
        steps_per_run=STEPS - WARM_UP,
        bare_ms=[round(1e3 * bare, 2) for bare, _ in runs],
        engine_ms=[round(1e3 * engine, 2) for _, engine in runs],
    )
    exit_with(bars)


if __name__ == "__main__":
    main()
