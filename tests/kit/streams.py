"""Records in memory and batches drawn from them."""

import itertools

import numpy as np

from jaxseg.data import codec, labels, pipeline, records


def draw(seed, *shape, high=256):
    return np.random.default_rng(seed).integers(0, high, shape).astype(np.uint8)


class Memory:
    """Records in memory; image i is filled with noise, its label's first pixel is i."""

    name, split, folder, label_set = "memory", "train", "nowhere", labels.CITYSCAPES
    size, labelled, keeps_proportions = None, True, False
    where = records.Source.where

    def __init__(self, sizes, damaged=()):
        self.records = []
        for i, size in enumerate(sizes):
            label = draw(i, *size, high=19)
            label[0, 0] = i % 19
            depth = draw(50 + i, *size).astype(np.float32)
            record = {
                "id": f"r{i}",
                "image": codec.encode_png(draw(100 + i, *size, 3)),
                "label": codec.encode_png(label),
                "depth": codec.encode_depth(depth),
            }
            if i in damaged:
                record["image"] = record["image"][:200]
            self.records.append(record)

    def __len__(self):
        return len(self.records)

    def __getitem__(self, index):
        return self.records[index]

    def image(self, index):
        return codec.decode_image(self.records[index]["image"])

    def label(self, index):
        return codec.decode_ids(self.records[index]["label"])


def take(source, number, **options):
    options = {"size": (12, 16), "batch": 3, "seed": 7} | options
    stream = pipeline.train_stream(source, **options)
    batches = list(itertools.islice(stream, number))
    stream.close()
    return batches


def assert_same(batches, others):
    assert len(batches) == len(others)
    for batch, other in zip(batches, others, strict=True):
        assert batch.keys() == other.keys()
        for key in batch:
            np.testing.assert_array_equal(batch[key], other[key])
