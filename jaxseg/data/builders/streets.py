"""`streets`: scenes of the built-in renderer with exact labels (Cityscapes train ids) and depth."""

import ast
import functools
import hashlib
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path

import tensorflow_datasets as tfds

from jaxseg.data import labels, streets
from jaxseg.data.conversion import common, render
from jaxseg.errors import UserError

LABELS = labels.CITYSCAPES
DOMAINS = ("rendered", "photographic", "rendered_varied", "photographic_varied")
_MOST = 10_000_000  # largest number of scenes per domain and split


def first_index(domain: str, split: str) -> int:
    """Returns the index of a split's first scene; splits and domains share no scene."""
    return (2 * DOMAINS.index(domain) + ("train", "val").index(split)) * _MOST


@functools.cache
def renderer_digest(folder: Path) -> str:
    """Eight hexadecimal digits that change with the renderer's code, but not with its comments and
    docstrings.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if _documented(node) and ast.get_docstring(node) is not None:
                node.body = node.body[1:]
        digest.update(f"{path.name}\n{ast.dump(tree)}\n".encode())
    return digest.hexdigest()[:8]


def _documented(node: ast.AST) -> bool:
    return isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)


def config(
    *,
    raw: Path | None = None,
    size: tuple[int, int] | None = None,
    split: str | None = None,
    domain: str = "rendered",
    seed: int = 0,
    counts: Mapping[str, int] | None = None,
) -> common.Config:
    """Returns the config of what to render.

    Args:
      raw: not used, there are no raw files.
      size: (height, width) of the images; None = (128, 256).
      split: the wanted split; only checked, all splits in `counts` are rendered together.
      domain: one of `DOMAINS`: 'rendered' (the labelled source), 'photographic' (the target),
        'rendered_varied' and 'photographic_varied' (labelled sources for photographs); or several,
        joined by '+', which share the scenes of each split evenly.
      seed: seed of the scenes.
      counts: scenes per split, {'train': n, 'val': n} or one of the two; None = 400 and 100.

    Returns:
      the builder's config; its name holds all of these and a digest of the renderer, so that
      records of an older renderer are not reused.

    Raises:
      UserError: an unknown domain or split, or a count out of range.
    """
    counts = dict(counts or {"train": 400, "val": 100})
    looks = domain.split("+")
    for look in looks:
        if look not in DOMAINS or looks.count(look) > 1:
            raise UserError(
                f"streets has no domain {domain!r}; choose one of {', '.join(DOMAINS)}, or several "
                "different ones joined by '+'"
            )
    for name, count in counts.items():
        if name not in ("train", "val") or not len(looks) <= count <= _MOST:
            raise UserError(
                f"streets cannot render {count} scenes of {name!r}; "
                f"give {len(looks)} to {_MOST} for train, val or both"
            )
    if split is not None and split not in counts:
        raise UserError(f"streets has no split {split!r}; it has {', '.join(counts)}")
    size = tuple(size or (128, 256))
    digest = renderer_digest(Path(streets.__path__[0]))
    number = "-".join(f"{split}{count}" for split, count in sorted(counts.items()))
    name = f"{'_and_'.join(looks)}-seed{seed}-{common.size_name(size)}-{number}-{digest}"
    options = {"domain": domain, "seed": seed, "counts": counts}
    return common.Config(name=name, size=size, options=options, keys=("label", "depth"))


def find(config: common.Config) -> None:
    """Finds nothing: the scenes are rendered, not read from files."""


class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Renders the scenes on all cores and writes them as records."""

    name = "streets"
    VERSION = tfds.core.Version("1.0.0")
    _download_and_prepare = common.write_splits

    def _info(self) -> tfds.core.DatasetInfo:
        return common.info(self)

    def _split_generators(self, dl_manager) -> dict[str, Iterator]:
        counts = self.builder_config.options["counts"]
        return {split: self._generate_examples(split, count) for split, count in counts.items()}

    def _generate_examples(self, split: str, count: int) -> Iterator[dict]:
        options = self.builder_config.options
        size, seed, looks = self.builder_config.size, options["seed"], options["domain"].split("+")
        parts = []
        for number, look in enumerate(looks):
            share = (number + 1) * count // len(looks) - number * count // len(looks)
            start = first_index(look, split)
            indices = range(start, start + share)
            parts.append(render.records(seed, indices, look, size, common.cores()))
        title = f"rendering streets, {options['domain']} {split}"
        return common.track(itertools.chain(*parts), count, title)
