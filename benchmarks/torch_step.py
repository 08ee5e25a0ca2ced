"""PyTorch's side of `step.py`, which starts it: the AdvEnt multi-level training step.

The order is that of the published recipe: backward of the source loss, backward of the target's
adversarial loss with the discriminators frozen, backward of the discriminator losses on detached
maps, then all optimisers. Both sides clip gradients in the same way if the preset clips.
"""

import contextlib
import json
import math
import os
import sys
import time
from pathlib import Path

BEGAN = time.perf_counter()  # before the imports, as on the other side

import numpy as np
import torch
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import turns
from benchmarks.torch_lite import LiteFPN
from benchmarks.torch_networks import DeepLabV2, Discriminator, load

SOURCE, TARGET = 0.0, 1.0


class Training:
    """Networks, optimisers and one batch on the device."""

    def __init__(self, job: dict):
        self.job = job
        self.device = torch.device("cuda" if job["gpu"] else "cpu")
        self.layout = torch.channels_last if job["channels_last"] else torch.contiguous_format
        arrays = dict(np.load(job["arrays"]))
        place = dict(device=self.device, memory_format=self.layout)
        if job["channels"]:
            self.net = LiteFPN(job["classes"], job["channels"], **job["sizes"])
        else:
            self.net = DeepLabV2(job["classes"], job["rates"], **job["sizes"])
        load(self.net, _below(arrays, "gen/segmenter/"))
        self.net = self.net.to(**place).train()
        if job["fixed_affine"]:
            for name, parameter in self.net.named_parameters():
                if ".bn" in name or "downsample_bn" in name:
                    parameter.requires_grad_(False)
        self.judges = {}
        for level in job["adversarial"]:
            judge = Discriminator(job["classes"], job["disc_width"])
            load(judge, _below(arrays, f"disc/{level}/"))
            self.judges[level] = judge.to(**place)
        self.batch = {name: self._image(arrays[name]) for name in ("source_image", "target_image")}
        label = torch.from_numpy(arrays["source_label"]).long()
        self.batch["source_label"] = label.to(self.device)
        gen, disc = job["gen"], job["disc"]
        named = [(n, p) for n, p in self.net.named_parameters() if p.requires_grad]
        is_head = lambda name: "_head." in name or name.startswith("decoder.")  # noqa: E731
        heads = [p for n, p in named if is_head(n)]
        trunk = [p for n, p in named if not is_head(n)]
        self.trained = heads + trunk
        self.sgd = torch.optim.SGD(
            [dict(params=trunk, factor=1.0), dict(params=heads, factor=gen["head_multiplier"])],
            lr=gen["lr"], momentum=gen["momentum"], weight_decay=gen["weight_decay"],
        )  # fmt: skip
        self.adams = {
            level: torch.optim.Adam(judge.parameters(), lr=disc["lr"], betas=disc["betas"])
            for level, judge in self.judges.items()
        }
        self.forward, self.score = self.net, dict(self.judges)
        if job["compile"]:
            self.forward = torch.compile(self.net)
            self.score = {level: torch.compile(judge) for level, judge in self.judges.items()}
        self.done = 0

    def _image(self, image):
        # Once, outside the timed step; jaxseg does this within its step.
        image = torch.from_numpy(image).float().permute(0, 3, 1, 2)
        order = [2, 1, 0] if self.job["order"] == "BGR" else [0, 1, 2]
        mean, std = (torch.tensor(self.job[k]).view(1, 3, 1, 1) for k in ("mean", "std"))
        return ((image[:, order] - mean) / std).to(self.device, memory_format=self.layout)

    def _half(self):
        if self.job["dtype"] != "bfloat16":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def _logits(self, images):
        with self._half():
            outputs = self.forward(images)
        size = images.shape[2:]
        resize = dict(size=size, mode="bilinear", align_corners=True)
        return {level: F.interpolate(x.float(), **resize) for level, x in outputs.items()}

    def _information(self, logits):
        p = F.softmax(logits, dim=1)
        return -p * torch.log(p + 1e-30) / math.log(logits.shape[1])

    def _judged(self, level, maps, domain):
        with self._half():
            scores = self.score[level](maps)
        return F.binary_cross_entropy_with_logits(
            scores.float(), torch.full_like(scores, domain, dtype=torch.float32)
        )

    def _switch(self, on):
        for judge in self.judges.values():
            for parameter in judge.parameters():
                parameter.requires_grad_(on)

    def step(self):
        """One training step; returns its losses as tensors."""
        job, batch, losses = self.job, self.batch, {}
        for group in self.sgd.param_groups:
            group["lr"] = group["factor"] * job["gen"]["lr"] * self._decay("gen")
        for adam in self.adams.values():
            adam.param_groups[0]["lr"] = job["disc"]["lr"] * self._decay("disc")
        for optimiser in (self.sgd, *self.adams.values()):
            optimiser.zero_grad(set_to_none=True)

        self._switch(False)
        source = self._logits(batch["source_image"])
        total = 0.0
        for level, weight in job["segmentation"].items():
            value = F.cross_entropy(source[level], batch["source_label"], ignore_index=255)
            losses[f"segmentation/{level}"] = value.detach()
            total = total + weight * value
        total.backward()
        shown = {level: self._information(source[level].detach()) for level in self.judges}

        maps = {k: self._information(x) for k, x in self._logits(batch["target_image"]).items()}
        adversarial = 0.0
        for level, weight in job["adversarial"].items():
            value = self._judged(level, maps[level], SOURCE)
            losses[f"adversarial/{level}"] = value.detach()
            adversarial = adversarial + weight * value
        adversarial.backward()
        losses["loss/gen"] = (total + adversarial).detach()

        self._switch(True)
        fooled = 0.0
        for level in self.judges:
            for seen, domain in ((shown[level], SOURCE), (maps[level].detach(), TARGET)):
                value = 0.5 * self._judged(level, seen, domain)
                value.backward()
                fooled = fooled + value.detach()
        losses["loss/disc"] = fooled

        if job["gen"]["clip"]:
            torch.nn.utils.clip_grad_norm_(self.trained, job["gen"]["clip"])
        for optimiser in (self.sgd, *self.adams.values()):
            optimiser.step()
        self.done += 1
        return losses

    def _decay(self, player):
        settings = self.job[player]
        return max(0.0, 1 - self.done / settings["schedule_steps"]) ** settings["power"]

    def synchronise(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def peak_bytes(self):
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated()
        return turns.peak_resident()

    def parameters(self):
        nets = (self.net, *self.judges.values())
        return sum(p.numel() for net in nets for p in net.parameters())


def _below(arrays, prefix):
    return {k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)}


def product_rate(device, dtype, side=2048):
    """Measures operations per second of a square matrix product, the best of several."""
    a = torch.randn(side, side, device=device, dtype=getattr(torch, dtype))
    best = math.inf
    for _ in range(6):
        start = time.perf_counter()
        a @ a
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best


def main() -> None:
    job = json.loads(sys.argv[1])
    if not job["gpu"]:
        torch.set_num_threads(job["threads"])
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    training = Training(job)
    history = []
    for number in range(job["warmup"]):
        history.append({name: float(value) for name, value in training.step().items()})
        if number == 0:
            first = time.perf_counter() - BEGAN
    flops = None
    if not (job["compile"] or job["channels"]):  # it counts grouped convolutions as dense ones
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter:
            training.step()
        flops = counter.get_total_flops()
    turns.say(
        name=f"PyTorch {torch.__version__}", first_step=first, losses=history, flops=flops,
        parameters=training.parameters(), rate=product_rate(training.device, job["dtype"]),
    )  # fmt: skip
    turns.answer(training.step, lambda _: training.synchronise(), training.peak_bytes)


if __name__ == "__main__":
    if hasattr(os, "sched_setaffinity") and (cores := json.loads(sys.argv[1])["cores"]):
        os.sched_setaffinity(0, cores)
    main()
