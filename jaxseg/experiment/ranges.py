"""The range of every setting that is a number: one table, for checking a config and for listing it.

The ranges are what a setting can mean; what two settings mean together is checked by whoever uses
them (`check`, `networks.check`, the methods' own `make`). Those of the augmentation are kept where
they are applied, in `transforms`.
"""

import fnmatch
import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from jaxseg.data import transforms
from jaxseg.errors import UserError

COUNT = 2**31 - 1  # the most that int32 counts, as the state's step does


class Range(NamedTuple):
    """What a setting may be; of a tuple, what each of its values may be.

    Attributes:
      settings: path, perhaps with '*' for any part of it.
      least, most: bounds, which belong to the range themselves.
      above, below: bounds that do not.
    """

    settings: str
    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    below: float = math.inf

    def holds(self, value: float) -> bool:
        """Whether a finite number is within the bounds."""
        return self.least <= value <= self.most and self.above < value < self.below

    def __str__(self) -> str:
        words = (
            ("at least", self.least), ("above", self.above),
            ("at most", self.most if self.most != COUNT else math.inf), ("below", self.below),
        )  # fmt: skip
        parts = [f"{word} {bound:.10g}" for word, bound in words if math.isfinite(bound)]
        return " and ".join(parts) or "finite"


# The first that fits a setting's path counts.
RANGES = (
    Range("seed", least=0, most=2**32 - 1),  # beyond, JAX takes seeds for others
    *(
        Range(path, least=1, most=COUNT)
        for path in (
            *("train.batch", "train.accumulate", "train.steps", "train.log_every", "train.keep"),
            *("eval.batch", "eval.window", "eval.stride", "data.*.size", "optim.*.schedule_steps"),
            *("net.rates", "net.output_stride", "net.low_level", "net.channels", "net.hrda"),
            "disc.width",
            *("translator.width", "translator.kernel", "translator.disc_*"),
        )
    ),
    Range("eval.depth_cap", above=1e-3),  # metres; nearer than that nothing is scored
    Range("eval.scales", above=0, most=16),
    Range("data.source_share", above=0, most=1),
    *(
        Range(path, least=0, most=1)
        for path in (
            *("method.settings.*weighted", "method.settings.threshold", "mic.threshold"),
            "mic.weighted",
            *("*.jitter_probability", "*.blur_probability", "mic.jitter", "method.settings.jitter"),
        )
    ),
    *(Range(path, least=0, below=1) for path in ("mic.decay", "method.settings.decay")),
    *(Range(path, least=0, below=0.5) for path in ("mic.margins", "method.settings.margins")),
    Range("mic.weight", least=0),
    Range("mic.block", least=1),
    Range("mic.ratio", above=0, below=1),
    Range("data.rare_classes.*", least=0),
    Range("optim.*.warm", least=0, most=1),
    Range("optim.*.hold", least=0, below=1),
    Range("optim.*.momentum", least=0, below=1),
    Range("optim.*.high_momentum", least=0, below=1),
    Range("optim.*.betas", least=0, below=1),
    Range("net.dropout", least=0, below=1),
    Range("net.aux_dropout", least=0, below=1),
    Range("net.drop_path", least=0, below=1),
    Range("method.settings.*_weights.*", least=0),
    Range("method.settings.*_weight", least=0),
    Range("data.*.options.val_percent", least=0, below=100),
    Range("data.*.options.*seed", least=0, most=2**32 - 1),
    # What else there is of these: periods and numbers of things, of which 0 means none or all;
    # rates, powers, factors, norms, decay, deviations.
    *(Range(f"{group}.*", least=0) for group in ("optim", "net", "disc", "translator")),
    *(Range(path, least=0, most=COUNT) for path in ("train.*", "eval.*", "data.threads")),
    Range("*"),
)
EXPRESSIONS = ("init.excused",)  # settings that hold regular expressions


def check(config: ConfigDict) -> None:
    """Raises UserError that names the first setting that cannot be meant."""
    # The steps before the lengths of schedules that follow them.
    for path, value in sorted(settings(config), key=lambda row: not row[0].startswith("train.")):
        for part in value if isinstance(value, tuple | list) else (value,):
            if path in EXPRESSIONS:
                _check_expression(path, part)
            if not isinstance(part, int | float) or isinstance(part, bool):
                continue
            span = of(path)
            # An integer is finite, also where it is too large for a float.
            finite = isinstance(part, int) or math.isfinite(part)
            if not finite or not span.holds(part):
                said = str(span) if finite or str(span) == "finite" else f"finite, {span}"
                if finite and span.most == COUNT and part > COUNT:
                    said = f"at most {COUNT}"
                each = "each " if isinstance(value, tuple | list) else ""
                raise UserError(f"config.{path}={shown(value)} {each}must be {said}")


def of(path: str) -> Range:
    """The range of the setting `path`, as 'optim.gen.lr'."""
    return next(span for span in RANGES if fnmatch.fnmatchcase(path, span.settings))


def rows(config: ConfigDict) -> list[tuple[str, str, str]]:
    """The settings of a config for a table: path, value, and the range of those with numbers."""
    return [(path, shown(value), _range_of(path, value)) for path, value in settings(config)]


def settings(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields path and value of every setting, in the config's order."""
    for name, value in config.items():
        if isinstance(value, ConfigDict | dict):
            yield from settings(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def shown(value: Any) -> str:
    """A setting's value in a message, be it a number of a million digits."""
    if isinstance(value, tuple | list):
        return f"({', '.join(map(shown, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, int) and abs(value) >= 10**40:
        return f"{'-' if value < 0 else ''}<a number of {value.bit_length()} bits>"
    return repr(value)


def _range_of(path: str, value: Any) -> str:
    if path in EXPRESSIONS:
        return "regular expressions"
    if path.startswith("augment."):
        return transforms.meaning(path.rpartition(".")[2])
    if isinstance(value, bool):
        return "True or False"
    parts = value if isinstance(value, tuple | list) else (value,)
    numbers = parts and all(isinstance(part, int | float) for part in parts)
    return str(of(path)) if numbers else ""


def _check_expression(path: str, text: Any) -> None:
    try:
        re.compile(text)
    except (re.error, TypeError, RecursionError, OverflowError) as error:
        raise UserError(f"config.{path}: {text!r} is no regular expression ({error})") from error
