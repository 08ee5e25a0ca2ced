"""PyTorch's side of `evaluation.py`, which starts it: evaluation and prediction.

Eager, in evaluation mode, under `torch.inference_mode`; the auxiliary head, whose output is not
used, is not computed.
"""

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
from benchmarks.torch_networks import DeepLabV2, load

NET = "gen/segmenter/"
STATISTICS = {"mean": "running_mean", "var": "running_var"}


class Evaluation:
    """The network and one image with its label."""

    def __init__(self, job: dict, arrays: dict[str, np.ndarray]):
        self.job, self.classes = job, job["classes"]
        layout = torch.channels_last if job["channels_last"] else torch.contiguous_format
        if job["channels"]:
            self.net = LiteFPN(job["classes"], job["channels"], **job["sizes"])
        else:
            self.net = DeepLabV2(job["classes"], job["rates"], **job["sizes"])
        load(self.net, _below(arrays, NET))
        load_statistics(self.net, _below(arrays, "segmenter/"))
        device = self.device = torch.device("cuda" if job["gpu"] else "cpu")
        self.net = self.net.to(device, memory_format=layout).eval()
        self.layout = layout
        self.mean, self.std = (
            torch.tensor(job[name], device=device).view(1, 3, 1, 1) for name in ("mean", "std")
        )
        self.image = torch.from_numpy(arrays["image"])
        self.label = torch.from_numpy(arrays["label"])

    def _logits(self, images):
        """Logits of the main head, averaged over the image and its mirror image if requested."""
        logits = self._main(images)
        return (logits + self._main(images.flip(3)).flip(3)) / 2 if self.job["flip"] else logits

    def _main(self, images):
        stages = self.net.backbone(images)
        if self.job["channels"]:
            return self.net.main_head(self.net.decoder(stages))
        return self.net.main_head(stages[1])

    @torch.inference_mode()
    def step(self) -> dict[str, torch.Tensor]:
        """Does all the work on the image once."""
        job = self.job
        image, label = self.image.to(self.device), self.label.to(self.device)
        images = image.permute(2, 0, 1)[None].float()
        images = images.flip(1) if job["order"] == "BGR" else images
        images = ((images - self.mean) / self.std).contiguous(memory_format=self.layout)
        size, scales = images.shape[2:], job["scales"]
        resize = dict(mode="bilinear", align_corners=True)
        if scales == [1.0]:
            logits = self._logits(images)
        else:
            logits = 0.0
            for scale in scales:
                # Resizing is linear and its weights sum to 1, so the mean can be subtracted before.
                wanted = [math.floor(scale * n + 1e-6) for n in size]
                seen = F.interpolate(images, wanted, **resize) if scale != 1.0 else images
                logits = logits + F.interpolate(self._logits(seen), size, **resize)
            logits = logits / len(scales)
        logits = F.interpolate(logits, label.shape, **resize)
        prediction = logits.argmax(1)[0]
        found = dict(prediction=prediction.byte())
        if job["mode"] == "evaluate":
            known = label != 255
            cells = label[known].long() * self.classes + prediction[known]
            counts = torch.bincount(cells, minlength=self.classes**2)
            found["counts"] = counts.view(self.classes, self.classes)
        if job["entropy"]:
            log_p = F.log_softmax(logits, 1)
            entropy = -(log_p.exp() * log_p).sum(1)[0] / math.log(self.classes)
            found["entropy"] = entropy
            if job["mode"] == "evaluate":
                found["mean"] = entropy.mean()
        return found


def load_statistics(module: torch.nn.Module, arrays: dict[str, np.ndarray]) -> None:
    """Loads all of jaxseg's running statistics {'backbone/bn1/mean': [C], ...} into a module."""
    own = {name: x for name, x in module.named_buffers() if not name.endswith("batches_tracked")}
    given = {}
    for path, value in arrays.items():
        *parts, leaf = path.split("/")
        given[".".join((*parts, STATISTICS[leaf]))] = torch.from_numpy(value)
    if set(own) != set(given):
        raise ValueError(f"statistics differ: {sorted(set(own) ^ set(given))[:4]}")
    for name, buffer in own.items():
        buffer.copy_(given[name])


def compared(found: dict[str, np.ndarray], ours: dict[str, np.ndarray]) -> dict[str, float]:
    """Returns how much the results of the two sides differ.

    Returns:
      'pixels': share of the class map that differs; 'counts': half the sum of absolute differences
      of the confusion matrices, divided by the pixels counted (absent in prediction); 'entropy':
      largest difference of the maps (absent if PyTorch computes none).
    """
    apart = dict(pixels=float((found["prediction"] != ours["prediction"]).mean()))
    if "counts" in ours:
        difference = np.abs(found["counts"] - ours["counts"]).sum()
        apart["counts"] = float(difference / 2 / ours["counts"].sum())
    if "entropy" in found:
        apart["entropy"] = float(np.abs(found["entropy"] - ours["entropy"]).max())
    return apart


def _below(arrays, prefix):
    return {k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)}


def main() -> None:
    job = json.loads(sys.argv[1])
    if not job["gpu"]:
        torch.set_num_threads(job["threads"])
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    arrays = dict(np.load(job["arrays"]))
    work = Evaluation(job, arrays)
    wants_entropy, job["entropy"] = job["entropy"], True
    found = {name: x.cpu().numpy() for name, x in work.step().items()}
    first = time.perf_counter() - BEGAN
    apart = compared(found, _below(arrays, "shown/"))
    job["entropy"] = wants_entropy
    del arrays, found
    for _ in range(job["warmup"]):
        work.step()
    turns.say(name=f"PyTorch {torch.__version__}", first_step=first, apart=apart)
    synchronise = torch.cuda.synchronize if job["gpu"] else lambda: None
    peak = torch.cuda.max_memory_allocated if job["gpu"] else turns.peak_resident
    turns.answer(work.step, lambda _: synchronise(), peak)


if __name__ == "__main__":
    if hasattr(os, "sched_setaffinity") and (cores := json.loads(sys.argv[1])["cores"]):
        os.sched_setaffinity(0, cores)
    main()
