"""Batches of a PyTorch DataLoader with Pillow: the other side of `input.py`, which starts it.

The data set is that of AdaptSegNet in what it does: open with Pillow, convert to RGB, resize the
image bicubic and the label nearest, map the ids to train ids in NumPy. By default the ids go
through a table and both stay bytes, which is the fastest way; as `released`, the ids are compared
one after another and the image becomes float32 BGR less a mean, channels first.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils import data

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import input_turns, turns

IGNORE = 255
MEAN = np.array((104.00698793, 116.66876762, 122.67891434), np.float32)  # BGR
AHEAD = 2  # batches that each of PyTorch's workers reads ahead, its default


class Pairs(data.Dataset):
    """Images and labels of a job, which has files [(image, label)], size (height, width), ids
    {published id: train id} and released.
    """

    def __init__(self, job: dict):
        self.files, self.released = job["files"], job["released"]
        self.size = job["size"][1], job["size"][0]
        self.ids = {int(known): train for known, train in job["ids"].items()}
        self.table = np.full(256, IGNORE, np.uint8)
        for known, train in self.ids.items():
            self.table[known] = train

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Image uint8 [H, W, 3] and label uint8 [H, W]; released: float32 [3, H, W], [H, W]."""
        image_file, label_file = self.files[index]
        image = Image.open(image_file).convert("RGB").resize(self.size, Image.Resampling.BICUBIC)
        label = Image.open(label_file).resize(self.size, Image.Resampling.NEAREST)
        if not self.released:
            return np.array(image), self.table.take(np.asarray(label))
        image, label = np.asarray(image, np.float32), np.asarray(label, np.float32)
        mapped = np.full(label.shape, IGNORE, np.float32)
        for known, train in self.ids.items():
            mapped[label == known] = train
        return (image[:, :, ::-1] - MEAN).transpose(2, 0, 1).copy(), mapped

    def save(self, file: str) -> None:
        """Writes every image once, as bytes whatever the form, into an .npz file."""
        images, labels = zip(*(self[i] for i in range(len(self))), strict=True)
        if self.released:
            images = [np.round((x.transpose(1, 2, 0) + MEAN)[:, :, ::-1]) for x in images]
        np.savez(
            file,
            image=np.stack(images).astype(np.uint8),
            label=np.stack(labels).astype(np.uint8),
        )


class Order(data.Sampler):
    """Indices of as many samples as are wanted next, shuffled anew each time all were drawn."""

    def __init__(self, size: int):
        self.size, self.wanted, self.seed = size, 0, 0

    def __len__(self) -> int:
        return self.wanted

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng(self.seed)
        rounds = -(-self.wanted // self.size)
        drawn = np.concatenate([rng.permutation(self.size) for _ in range(rounds)])
        return iter(drawn[: self.wanted].tolist())


def main() -> None:
    """Serves the job of the command line."""
    job = json.loads(sys.argv[1])
    turns.stay_on(job["cores"])
    pairs, workers = Pairs(job), job["workers"]
    order = Order(len(pairs))
    loader = data.DataLoader(
        pairs, batch_size=job["batch"], sampler=order, num_workers=workers,
        persistent_workers=workers > 0, prefetch_factor=AHEAD if workers else None,
    )  # fmt: skip

    def stream(turn: int, count: int) -> Iterator:
        # As many more as are read ahead, so that the workers have work to do until the end.
        order.wanted = (count + AHEAD * workers) * job["batch"]
        order.seed = turn
        return iter(loader)

    turns.say(name=f"PyTorch {torch.__version__.split('+')[0]}, {workers} workers")
    input_turns.serve(stream, pairs.save, skip=max(1, 2 * AHEAD * workers))


if __name__ == "__main__":
    main()
