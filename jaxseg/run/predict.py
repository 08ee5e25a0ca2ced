"""Prediction on images of any size: class ids, colours, overlay and entropy of each."""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from jaxseg.data import photograph
from jaxseg.data.labels import CITYSCAPES, LabelSet, colorize, id_table
from jaxseg.engine import processes
from jaxseg.errors import UserError
from jaxseg.evaluation.results import percent
from jaxseg.experiment import finished, memory, settings
from jaxseg.experiment.finished import Wanted
from jaxseg.experiment.method import make_predictor
from jaxseg.report import gallery, paint
from jaxseg.run import images, video
from jaxseg.run.maps import make_programs, smaller

DEFAULT = Wanted()


class Done(NamedTuple):
    """What a prediction did.

    Attributes:
      count: number of predicted images, of all processes.
      broken: a line for each file that could not be read, or is too large; the others are done.
    """

    count: int
    broken: list[str]


def predict_folder(
    predict: Callable,
    model: Mapping[str, Any],
    input_path: str | Path,
    output: str | Path,
    *,
    label_set: LabelSet,
    size: tuple[int, int] | None = None,
    published: np.ndarray | None = None,
    advise: Callable[[], str] = smaller,
    announce: Callable[[str], None] = print,
) -> Done:
    """Predicts an image or all images of a folder (and of its subfolders).

    For each image it writes <output>/<stem>_id.png (grey, train ids), _color.png, _overlay.png and
    _entropy.png at the image's own size. Subfolders of the input are kept in the output. If images
    have equal stems, the suffix is added (a.png, a.jpg -> a_png_id.png, ...). Files that cannot be
    read are passed over and told at the end. A video becomes <stem>_overlay.mp4. `index.html` shows
    everything on one page.
    The network is compiled for each image size, or just once with `size`; then only the resizing to
    the image's own size is compiled for each size.

    Args:
      predict: (params, stats, memory, images uint8 [N,H,W,3]) -> logits [N,h,w,K].
      model: {'params', 'stats', 'memory'}.
      input_path: a file, a folder or a pattern; see `images.find`.
      output: another folder, created if it does not exist. It may lie inside the input folder: the
        images in it are not predicted.
      label_set: names and colours of the K classes.
      size: (height, width) the image is resized to for the network (bicubic, as in evaluation);
        None gives the network the image as it is.
      published: uint8 [256] from class ids to published label ids (see `published_ids`); if given,
        <stem>_labelIds.png is written too.
      advise: says what to do where memory is short.
      announce: called with one line per image.

    Returns:
      See `Done`. Several processes share the images out among them; `broken` is of this process.

    Raises:
      UserError: no image is found, an output cannot be written, or memory is short for the network
        at the `size` that all images have; earlier predictions are kept.
    """
    output = Path(output)
    found = images.find(input_path, output)
    with _writing(output):
        output.mkdir(parents=True, exist_ok=True)
    seen, broken, shown = _look(predict, model, size, advise), [], []
    for item in found[jax.process_index() :: jax.process_count()]:
        target = output / item.name
        with _writing(output):
            target.parent.mkdir(parents=True, exist_ok=True)
        try:
            if item.video:
                one = _video(item, target, seen, label_set)
            else:
                image = images.read(item.path)
                shows = seen(image)
        except _Hopeless:
            raise
        except UserError as error:
            named = str(error).startswith(f"{item.path}:")
            broken.append(str(error) if named else f"{item.path}: {error}")
            announce(broken[-1])
            continue
        if not item.video:
            with _writing(output):
                one = _image(item, image, shows, target, label_set, published)
        shown.append(one)
        announce(f"{item.path} -> {target}_*, mean entropy {percent(one.entropy, 1)}")
    with _writing(output):
        _write_gallery(output, shown, broken, label_set)
    return Done(len(found) - len(broken), broken)


Seen = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]  # image -> class ids, entropy


class _Hopeless(UserError):
    """The network is too large for memory at the size that all images have."""


def _look(predict: Callable, model: Mapping[str, Any], size: Any, advise: Callable) -> Seen:
    """What the network sees in an image; see `predict_folder` for the arguments."""
    network, maps = make_programs(predict, advise)
    model = jax.device_put((model["params"], model["stats"], model["memory"]))
    alike = isinstance(size, tuple) and not isinstance(size, photograph.Covering)

    def seen(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        (small,) = images.resized(image[None], size)
        try:
            with memory.told_with(advise):
                logits = network(model, small)
        except UserError as error:
            if alike:
                raise _Hopeless(str(error)) from error
            raise
        with memory.told_with(advise):
            ids, entropy = maps(logits, image.shape[:2])
            return np.asarray(ids), np.asarray(entropy)

    return seen


def _image(
    item: images.Item,
    image: np.ndarray,
    maps: tuple[np.ndarray, np.ndarray],
    target: Path,
    label_set: LabelSet,
    published: np.ndarray | None,
) -> gallery.Shown:
    """Writes an image's pictures: of class ids and of entropy."""
    ids, entropy = maps
    _save(target, "id", ids)
    _save(target, "color", colorize(ids, label_set))
    _save(target, "overlay", paint.overlay(image, ids, label_set))
    _save(target, "entropy", paint.heat(entropy))
    if published is not None:
        _save(target, "labelIds", published[ids])
    shares = np.bincount(ids.ravel(), minlength=len(label_set.classes)) / ids.size
    return gallery.Shown(item.name.as_posix(), float(entropy.mean()), tuple(shares.tolist()))


def _video(item: images.Item, target: Path, seen: Seen, label_set: LabelSet) -> gallery.Shown:
    """Predicts each frame of a video and writes them as <target>_overlay.mp4."""
    counts, uncertain, pixels = np.zeros(len(label_set.classes)), 0.0, 0

    def painted(frame: np.ndarray) -> np.ndarray:
        nonlocal counts, uncertain, pixels
        ids, entropy = seen(frame)
        counts = counts + np.bincount(ids.ravel(), minlength=len(counts))
        uncertain, pixels = uncertain + float(entropy.sum()), pixels + ids.size
        return paint.overlay(frame, ids, label_set)

    output = target.with_name(f"{target.name}_overlay.mp4")
    frames = video.painted(item.path, output, painted)
    shares = tuple((counts / pixels).tolist())
    return gallery.Shown(item.name.as_posix(), uncertain / pixels, shares, frames)


def _write_gallery(
    output: Path, shown: list[gallery.Shown], broken: list[str], label_set: LabelSet
) -> None:
    """Writes index.html in the first process, with what all have predicted."""
    told = processes.gather("predictions", json.dumps([shown, broken]))
    if jax.process_index():
        return
    parts = [json.loads(part) for part in told]
    everything = [gallery.Shown(*one) for part in parts for one in part[0]]
    gallery.write(output, everything, label_set, [line for part in parts for line in part[1]])


def published_ids(label_set: LabelSet) -> np.ndarray:
    """The table uint8 [256] from a set's train ids to Cityscapes' published ids, matched by class
    name: a network of 16 or 13 classes writes the same ids as one of 19.

    Raises:
      UserError: a class that Cityscapes does not have.
    """
    published = {CITYSCAPES.classes[train]: raw for raw, train in CITYSCAPES.ids.items()}
    for name in label_set.classes:
        if name not in published:
            raise UserError(
                f"--submission writes the ids of Cityscapes, which has no class {name!r} of "
                f"config.data.classes={label_set.name}"
            )
    return id_table({train: published[name] for train, name in enumerate(label_set.classes)})


@contextlib.contextmanager
def _writing(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write into --output={output}: {error}") from error


def _save(target: Path, kind: str, picture: np.ndarray) -> None:
    Image.fromarray(picture).save(target.with_name(f"{target.name}_{kind}.png"))


def predict(
    config: ConfigDict,
    workdir: str,
    source: str,
    output: str,
    wanted: Wanted = DEFAULT,
    *,
    submission: bool = False,
) -> Done:
    """Segments an image or a folder of images of any size; prints how many, and which are broken.

    Each image is resized to `data.target.size` for the network (not with `eval.full_resolution`)
    and predicted with the protocol of `config.eval`; the maps are resized back to the image's own
    size.

    Args:
      config: of the experiment.
      workdir: of the run whose checkpoint is used, if any.
      source, output: `input_path` and `output` of `predict_folder`.
      wanted: one network; the best checkpoint of the run by default.
      submission: also writes <stem>_labelIds.png with Cityscapes' ids.
    """
    if not video.available() and any(item.video for item in images.find(source, output)):
        raise UserError(f"--input={source}: {video.REMEDY}")
    finished.prepare(config)
    label_set = settings.label_set(config)
    ids = published_ids(label_set) if submission else None
    loaded = finished.load(config, workdir, wanted)
    if wanted.save:
        finished.write_checkpoint(loaded, wanted.save, config)
    done = predict_folder(
        make_predictor(loaded.config, loaded.method), loaded.model, source, output,
        label_set=label_set, size=settings.network_size(config), published=ids,
        advise=lambda: memory.of_prediction(config),
    )  # fmt: skip
    page, count, wrong = Path(output, "index.html"), done.count, len(done.broken)
    files = "1 file" if count == 1 else f"{count} files"
    shown = f"; {page} shows {'it' if count == 1 else 'them'}" if count else ""
    print(f"{files} segmented with {loaded.name} into {output}{shown}")
    if wrong:
        files = "1 file" if wrong == 1 else f"{wrong} files"
        print("\n".join([f"{files} could not be segmented:", *done.broken]))
    return done
