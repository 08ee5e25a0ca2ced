"""PyTorch's side of `input.py`, which starts it: batches of a DataLoader with Pillow.

The data set does the same work as AdaptSegNet's: open with Pillow, convert to RGB, resize the image
bicubic and the label nearest, map the ids to train ids in NumPy. By default, ids are mapped by a
table and both arrays stay uint8, which is fastest. With `released`, ids are compared one by one and
the image becomes float32 BGR minus a mean, channels first.
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
AHEAD = 2  # batches that each PyTorch worker prefetches, the default


class Pairs(data.Dataset):
    """Images and labels of a job.

    A job has files [(image, label)], size (height, width), ids {published id: train id} and
    released.
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
        """Writes every image once as uint8, in both forms, to an .npz file."""
        images, labels = zip(*(self[i] for i in range(len(self))), strict=True)
        if self.released:
            images = [np.round((x.transpose(1, 2, 0) + MEAN)[:, :, ::-1]) for x in images]
        np.savez(
            file,
            image=np.stack(images).astype(np.uint8),
            label=np.stack(labels).astype(np.uint8),
        )


class Order(data.Sampler):
    """Indices of the next `wanted` samples, reshuffled each time all have been drawn."""

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
    """Serves the job given on the command line."""
    job = json.loads(sys.argv[1])
    turns.stay_on(job["cores"])
    pairs, workers = Pairs(job), job["workers"]
    order = Order(len(pairs))
    loader = data.DataLoader(
        pairs, batch_size=job["batch"], sampler=order, num_workers=workers,
        persistent_workers=workers > 0, prefetch_factor=AHEAD if workers else None,
    )  # fmt: skip

    def stream(turn: int, count: int) -> Iterator:
        # Plus the prefetched batches, so that the workers are busy until the end.
        order.wanted = (count + AHEAD * workers) * job["batch"]
        order.seed = turn
        return iter(loader)

    turns.say(name=f"PyTorch {torch.__version__.split('+')[0]}, {workers} workers")
    input_turns.serve(stream, pairs.save, skip=max(1, 2 * AHEAD * workers))


if __name__ == "__main__":
    main()
