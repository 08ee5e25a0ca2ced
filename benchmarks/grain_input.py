"""Our side of `input.py`, which starts it: batches from jaxseg's own pipeline."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import input_turns, turns
from jaxseg.data import (
    labels,
    pipeline,
    records,
)


class Repeated:
    """A source that repeats its records up to the published count; otherwise unchanged.

    Shuffling a few records would cost milliseconds per image, because grain draws numbers from a
    fixed range until one is below the count; for thousands of records the cost is negligible.
    """

    def __init__(self, source: records.Source, count: int):
        self._source, self._count = source, count

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._source[index % len(self._source)]


class Stream:
    """The training stream of a job, the same as from `batches.train_batches`.

    A job has data (name of the data set), published (number of its images), size (height, width),
    stored (whether records have that size, or the published one), raw and records (folders), batch
    and threads.
    """

    def __init__(self, job: dict):
        self.job = job
        self.source = records.open_split(
            job["data"],
            "train",
            records_dir=job["records"],
            raw_dir=job["raw"],
            size=tuple(job["size"]) if job["stored"] else None,
        )

    def __call__(self, seed: int) -> Iterator[dict[str, np.ndarray]]:
        """Returns an endless stream with a close()."""
        many = Repeated(self.source, self.job["published"])
        return self._stream(many, seed, self.job["batch"])

    def _stream(self, source, seed: int, batch: int) -> Iterator[dict[str, np.ndarray]]:
        return pipeline.train_stream(
            source,
            size=tuple(self.job["size"]),
            batch=batch,
            seed=seed,
            table=labels.remap(self.source.label_set, labels.CITYSCAPES),
            threads=self.job["threads"],
        )

    def save(self, file: str) -> None:
        """Writes every image once, as the stream delivers it, to an .npz file."""
        stream = self._stream(self.source, seed=0, batch=1)
        batches = [next(stream) for _ in range(len(self.source))]
        stream.close()
        arrays = {
            key: np.concatenate([batch[f"source_{key}"] for batch in batches])
            for key in ("image", "label")
        }
        np.savez(file, **arrays)


def main() -> None:
    """Serves the job given on the command line."""
    job = json.loads(sys.argv[1])
    turns.stay_on(job["cores"])
    stream = Stream(job)
    turns.say(name="jaxseg, " + ("stored at training size" if job["stored"] else "original files"))
    ahead = 2 * job["threads"]  # batches that the pipeline prefetches
    input_turns.serve(lambda turn, count: stream(turn), stream.save, skip=2 * ahead)


if __name__ == "__main__":
    main()
