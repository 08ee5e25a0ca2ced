"""Prefetches batches from the host to the devices."""

import queue
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxseg.errors import UserError


def shard(batch: Mapping[str, Any], devices: Sequence[jax.Device]) -> dict[str, np.ndarray]:
    """Splits a host batch over devices by dealing its images out in turn.

    The first images of the devices together are then the first images of the batch, so a
    micro-batch (see `update.make_update`) holds the same images for any number of devices. Images
    are dealt out to processes in the same way; see `pipeline.train_stream`.

    Args:
      batch: arrays [n, ...] by key; other values (such as a list of ids) are left out.
      devices: the D local devices.

    Returns:
      arrays [D, n / D, ...], still on the host; uint8 labels become int32. Device d has the images
      d, d + D, d + 2 D, ...

    Raises:
      UserError: n is not divisible by D.
    """
    count, out = len(devices), {}
    for key, array in batch.items():
        if not isinstance(array, np.ndarray):
            continue
        if array.shape[0] % count:
            raise UserError(
                f"a batch of {array.shape[0]} ({key}) cannot be split over {count} devices; "
                f"make the batch size of each process a multiple of {count}"
            )
        if key.endswith("label"):
            array = array.astype(np.int32)
        turns = array.reshape(array.shape[0] // count, count, *array.shape[1:])
        out[key] = np.ascontiguousarray(turns.swapaxes(0, 1))
    return out


class Prefetch:
    """Iterates over batches that already lie on the devices, sharded as `jax.pmap` wants them over
    axis 0.

    A background thread draws from `batches`, splits each batch and sends it to the devices. An
    exception in the thread is raised by the `next()` that would have returned the batch. Call
    `close` (or use `with`) to stop the thread and the iterator it draws from.

    Args:
      batches: host batches as `shard` takes them.
      devices: the local devices, in the order that pmap uses.
      depth: how many batches to keep ready on the devices.
    """

    def __init__(
        self, batches: Iterable[Mapping[str, Any]], devices: Sequence[jax.Device], depth: int = 2
    ):
        self._ready: queue.Queue = queue.Queue(maxsize=max(1, depth))
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=_send, args=(iter(batches), list(devices), self._ready, self._stop), daemon=True
        )
        self._thread.start()

    def __iter__(self) -> Iterator[dict[str, jax.Array]]:
        return self

    def __next__(self) -> dict[str, jax.Array]:
        if self._stop.is_set():
            raise StopIteration
        item = self._ready.get()
        if isinstance(item, dict):
            return item
        self._stop.set()
        if isinstance(item, BaseException):
            raise item
        raise StopIteration

    def close(self) -> None:
        """Stops the thread and waits for it; later calls of next() end the iteration."""
        self._stop.set()
        while self._thread.is_alive():
            _drain(self._ready)
            self._thread.join(0.05)
        _drain(self._ready)

    def __enter__(self) -> "Prefetch":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def __del__(self) -> None:
        self._stop.set()


def _drain(ready: queue.Queue) -> None:
    while not ready.empty():
        try:
            ready.get_nowait()
        except queue.Empty:
            return


def _send(
    batches: Iterator[Mapping[str, Any]],
    devices: list[jax.Device],
    ready: queue.Queue,
    stop: threading.Event,
) -> None:
    try:
        # pmap ignores the mesh's axis name; axis 0 has to be split over the devices.
        sharding = NamedSharding(Mesh(np.array(devices), ("devices",)), PartitionSpec("devices"))
        for batch in batches:
            if stop.is_set() or not _put(
                ready, jax.device_put(shard(batch, devices), sharding), stop
            ):
                return
        _put(ready, None, stop)
    except BaseException as error:
        _put(ready, error, stop)
    finally:
        if hasattr(batches, "close"):
            batches.close()


def _put(ready: queue.Queue, item: Any, stop: threading.Event) -> bool:
    """Waits for room in the queue, until `stop` is set."""
    while not stop.is_set():
        try:
            ready.put(item, timeout=0.1)
            return True
        except queue.Full:
            continue
    return False
