"""Videos, read and written with PyAV: `pip install 'jaxseg[video]'`."""

import importlib.util
import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg.errors import UserError

REMEDY = "videos need PyAV: pip install 'jaxseg[video]'"


def available() -> bool:
    """Whether PyAV is installed."""
    return importlib.util.find_spec("av") is not None


def painted(path: Path, output: Path, paint: Callable[[np.ndarray], np.ndarray]) -> int:
    """Writes a video with each frame painted, without sound, at the same times.

    Args:
      path: of the video, in any format that FFmpeg reads.
      output: an .mp4 file (H.264). It is complete or not there.
      paint: (frame uint8 [H,W,3], upright) -> uint8 [H,W,3].

    Returns:
      The number of frames.

    Raises:
      UserError: PyAV is missing, or the video is damaged, has no frames, or ends long before the
        length that it states (what there is was painted); the file is named.
    """
    if not available():
        raise UserError(f"{path}: {REMEDY}")
    import av

    temporary, count = output.with_name(output.name + ".tmp.mp4"), 0
    try:
        with av.open(str(path)) as source, av.open(str(temporary), "w") as target:
            if not source.streams.video:
                raise UserError(f"{path}: no pictures in this video")
            taken, made = source.streams.video[0], None
            for frame, picture in _frames(source, taken):
                shown = _even(paint(picture))
                if made is None:
                    made = _stream(target, taken, shown.shape)
                new = av.VideoFrame.from_ndarray(shown, format="rgb24")
                new.pts, new.time_base = frame.pts, frame.time_base
                for packet in made.encode(new):
                    target.mux(packet)
                count += 1
            for packet in made.encode() if made else ():
                target.mux(packet)
            short = _short(source, taken, frame) if count else ""
        if not count:
            raise UserError(f"{path}: no pictures in this video")
        os.replace(temporary, output)
        if short:
            raise UserError(f"{path}: {short}; {output} has what there is")
    except av.error.FFmpegError as error:
        where = f" at frame {count}" if count else ""
        raise UserError(f"{path}: damaged video{where} ({error.strerror})") from error
    finally:
        temporary.unlink(missing_ok=True)
    return count


def _short(source: Any, stream: Any, last: Any) -> str:
    """What to say of a video that ends long before it should; '' for others.

    What its file states counts for the pictures where it does so, or else for all streams.
    """
    if stream.duration is not None:
        stated = float(stream.duration * stream.time_base)
    elif source.duration is not None and len(source.streams) == 1:
        stated = source.duration / 1e6
    else:
        return ""
    ends = 0.0 if last.time is None else last.time - float((source.start_time or 0) / 1e6)
    if ends + 1 >= 0.9 * stated:
        return ""
    return f"cut off: the pictures end after {ends:.1f} of {stated:.1f} seconds"


def _frames(source: Any, stream: Any) -> Iterator[tuple[Any, np.ndarray]]:
    """Each frame as decoded, and as it is to be looked at: a telephone's lie on their sides."""
    for frame in source.decode(stream):
        turns = round(getattr(frame, "rotation", 0) / 90)
        yield frame, np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns))


def _stream(target: Any, taken: Any, shape: tuple[int, ...]) -> Any:
    rate = taken.average_rate or Fraction(25)
    made = target.add_stream("libx264", rate=rate)
    made.height, made.width = shape[:2]
    made.pix_fmt, made.options = "yuv420p", {"crf": "18", "preset": "veryfast"}
    made.codec_context.time_base = taken.time_base or 1 / rate
    return made


def _even(picture: np.ndarray) -> np.ndarray:
    """Repeats the last row and column where their number is odd: H.264 halves the colours."""
    return np.pad(picture, ((0, picture.shape[0] % 2), (0, picture.shape[1] % 2), (0, 0)), "edge")
