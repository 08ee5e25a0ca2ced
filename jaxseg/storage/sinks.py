"""Where a run's numbers and pictures go beside metrics.jsonl: TensorBoard, Weights & Biases.

A sink is a NamedTuple of functions. `metrics.jsonl` is the source of truth; a sink only shows. A
further one is a function here and a line in `SINKS`.
"""

import html
import importlib.util
import json
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict
from tensorboardX import summary

from jaxseg.errors import UserError
from jaxseg.storage import run_folder
from jaxseg.storage.events import Events

ALSO = ("hparams", "text", "histograms")
# The settings that are shown as hyperparameters; all others are in the text of the config.
HPARAMS = ("seed", "train.batch", "net.", "disc.", "optim.", "method.", "augment.", "mic.")
BINS = 64  # of a histogram
WANDB_ID = "wandb_id.txt"


class Sink(NamedTuple):
    """The functions of a place that numbers are shown in.

    Attributes:
      scalars: ({name: number}, step).
      picture: (name, uint8 [H, W, 3], step).
      text: (name, text, step).
      histogram: (name, array of finite values, step).
      hparams: ({setting: number or text}, {score: number}, step).
      close: ().
    """

    scalars: Callable[[Mapping[str, float], int], None]
    picture: Callable[[str, np.ndarray, int], None]
    text: Callable[[str, str, int], None]
    histogram: Callable[[str, np.ndarray, int], None]
    hparams: Callable[[Mapping[str, Any], Mapping[str, float], int], None]
    close: Callable[[], None]


def check(names: Sequence[str], also: Sequence[str]) -> None:
    """Raises UserError for a name that is not in `SINKS` or `ALSO`, or a missing package."""
    for name in also:
        if name not in ALSO:
            raise UserError(f"config.log.also: {name!r} is none of {', '.join(ALSO)}")
    for name in names:
        if name not in SINKS:
            raise UserError(f"config.log.sinks: no sink {name!r}; choose of {', '.join(SINKS)}")
        package = {"wandb": "wandb"}.get(name)
        if package and importlib.util.find_spec(package) is None:
            raise UserError(f"config.log.sinks: {name} needs pip install 'jaxseg[{package}]'")


def open_sinks(
    names: Sequence[str], workdir: Path, step: int, settings: Mapping[str, Any]
) -> list[Sink]:
    """Opens the sinks of a run.

    Args:
      names: of `SINKS`.
      workdir: of the run.
      step: the run goes on from here; what a sink holds of later steps is dropped where it can be.
      settings: of the run's config, nested, as far as they are known.
    """
    return [SINKS[name](workdir, step, settings) for name in names]


def tensorboard(workdir: Path, step: int, settings: Mapping[str, Any]) -> Sink:
    """Event files in <workdir>/tensorboard; hparams in a folder within, as TensorBoard wants it."""
    del settings
    folder = workdir / "tensorboard"
    events = Events(folder, purge_step=step + 1)

    def scalars(values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            # TensorBoard allows no blanks in names, and would warn at every step.
            events.scalar(name.replace(" ", "_"), value, step)
        events.flush()

    def picture(name: str, image: np.ndarray, step: int) -> None:
        events.image(name, image, step)
        events.flush()

    def text(name: str, words: str, step: int) -> None:
        events.add(summary.text(name, f"<pre>{html.escape(words)}</pre>"), step)
        events.flush()

    def histogram(name: str, values: np.ndarray, step: int) -> None:
        events.add(summary.histogram(name, values, BINS), step)

    def compared(given: Mapping[str, Any], scores: Mapping[str, float], step: int) -> None:
        table = Events(folder / "hparams", purge_step=step + 1)
        for part in summary.hparams(dict(given), dict(scores)):
            table.add(part, 0)
        for name, value in scores.items():
            table.scalar(name, value, step)
        table.close()

    return Sink(scalars, picture, text, histogram, compared, events.close)


def wandb(workdir: Path, step: int, settings: Mapping[str, Any]) -> Sink:
    """Weights & Biases, in <workdir>/wandb.

    Nothing is sent unless the environment says WANDB_MODE=online; `wandb sync` uploads later. A
    resumed run keeps its id.
    """
    import wandb as service

    path = workdir / WANDB_ID
    known = path.read_text().strip() if path.exists() else secrets.token_hex(4)
    run_folder.write_text(path, known)
    run = service.init(
        project="jaxseg", name=str(settings.get("name", workdir.name)), id=known, resume="allow",
        dir=str(workdir), mode=os.environ.get("WANDB_MODE", "offline"),
        config=json.loads(json.dumps(settings, default=str)),
        settings=service.Settings(console="off", silent=True, disable_git=True, save_code=False),
    )  # fmt: skip
    return Sink(
        lambda values, step: run.log(dict(values), step=step),
        lambda name, image, step: run.log({name: service.Image(image)}, step=step),
        lambda name, text, step: run.log(
            {name: service.Html(f"<pre>{html.escape(text)}</pre>")}, step=step
        ),
        lambda name, values, step: run.log({name: service.Histogram(values)}, step=step),
        lambda given, scores, step: run.summary.update(
            dict(scores)
        ),  # the settings are there already
        run.finish,
    )


SINKS: dict[str, Callable[..., Sink]] = {"tensorboard": tensorboard, "wandb": wandb}


def hparams(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that TensorBoard compares runs by: {'optim.gen.lr': 0.05, ...}."""
    flat = flatten_dict(dict(settings), sep=".")
    chosen = {name: value for name, value in flat.items() if name.startswith(HPARAMS)}
    plain = (bool, int, float, str)
    return {
        name: value if isinstance(value, plain) else str(value)
        for name, value in chosen.items()
        if value is not None
    }
