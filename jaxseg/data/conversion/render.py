"""Renders scenes of `streets` in worker processes.

The workers are plain Python processes that write records to a pipe. Unlike multiprocessing, they
neither import the main script again (with all of JAX) nor fork a process with running JAX threads,
and they also work from a notebook or a script on standard input.
"""

import contextlib
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator, Sequence

from jaxseg.data import codec

_FEW = 32  # up to this many scenes, starting more processes takes longer than rendering


def record(seed: int, index: int, domain: str, size: tuple[int, int]) -> dict:
    """Returns scene `index` as a record: id, and image, label and depth as PNG bytes."""
    from jaxseg.data.streets import (
        scene as streets_scene,  # imported on use, so that a test can replace it
    )

    scene = streets_scene.render(seed, index, domain, tuple(size))
    return {
        "id": f"{domain}_{seed}_{index:08d}",
        "image": codec.encode_png(scene["image"]),
        "label": codec.encode_png(scene["label"], 6),
        "depth": codec.encode_depth(scene["depth"]),
    }


def records(
    seed: int, indices: Sequence[int], domain: str, size: tuple[int, int], workers: int
) -> Iterator[dict]:
    """Yields the records of `indices` in order, rendered by up to `workers` processes."""
    workers = min(workers, len(indices) // (_FEW // 2))
    if workers < 2:
        yield from (record(seed, index, domain, size) for index in indices)
        return
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        environment[variable] = "1"
    with contextlib.ExitStack() as stack:
        pipes = []
        for worker in range(workers):
            job = json.dumps([seed, list(indices[worker::workers]), domain, list(size)])
            process = subprocess.Popen(
                [sys.executable, "-c", f"from {__name__} import _serve; _serve()"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
                start_new_session=True,  # Ctrl-C reaches only this process; it ends the workers
            )
            stack.callback(process.wait)
            stack.callback(process.stdout.close)
            stack.callback(process.kill)
            process.stdin.write(job.encode())
            process.stdin.close()
            pipes.append(process.stdout)
        for i in range(len(indices)):
            # A worker waits while its pipe is full, so memory stays bounded.
            try:
                scene = pickle.load(pipes[i % workers])
            except (EOFError, pickle.UnpicklingError) as error:
                raise RuntimeError("a rendering process failed; its traceback is above") from error
            yield scene


def _serve() -> None:
    seed, indices, domain, size = json.loads(sys.stdin.buffer.read())
    out, sys.stdout = (
        sys.stdout.buffer,
        sys.stderr,
    )  # a stray print must not get into the records
    for index in indices:
        scene = record(seed, index, domain, size)
        try:
            pickle.dump(scene, out)
            out.flush()
        except BrokenPipeError:  # the reading process was killed
            os._exit(1)
