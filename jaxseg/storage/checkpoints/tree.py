"""State trees as flat leaves with names, shapes and checksums, for the checkpoints.

Leaves are named by their path (`opt/gen/0/trace/segmenter/...`) for containers of any kind, so that
stored files do not depend on Python types.
"""

import zlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict

from jaxseg.errors import UserError

Tree = Any
Facts = list  # [dtype, shape, CRC-32] of a leaf, as JSON values


def pack(tree: Tree) -> tuple[dict[str, Any], dict[str, Facts], list[str]]:
    """Converts a tree for storage.

    Args:
      tree: containers of any kind with array leaves.

    Returns:
      (Nested dictionaries with copies of the leaves, facts by path, paths of empty dictionaries).
      Arrays without elements are left out of the first: Orbax refuses them, and their facts suffice
      to restore them.
    """
    leaves, empty = by_path(tree)
    kept, facts = {}, {}
    for path, leaf in leaves.items():
        leaf = np.asarray(leaf)
        facts[path] = [str(leaf.dtype), list(leaf.shape), checksum(leaf)]
        if leaf.size:
            # A copy: on CPU the array may be a view of a buffer that the next update overwrites.
            kept[path] = np.array(leaf)
    return unflatten_dict(kept, sep="/"), facts, empty


def verified(trees: list[Tree], facts: dict[str, Facts]) -> dict[str, np.ndarray]:
    """The leaves of stored trees by path; ValueError if one does not match its facts."""
    leaves: dict[str, np.ndarray] = {}
    for tree in trees:
        leaves |= by_path(tree)[0]
    for path, (dtype, shape, crc32) in facts.items():
        if 0 in shape:
            leaves[path] = np.zeros(shape, dtype)
        if path not in leaves:
            raise ValueError(f"{path} is missing")
        leaf = leaves[path] = np.asarray(leaves[path])
        if (str(leaf.dtype), list(leaf.shape), checksum(leaf)) != (dtype, shape, crc32):
            raise ValueError(f"{path} is not what was written")
    return leaves


def not_finite(leaves: Mapping[str, Any]) -> str | None:
    """The path of the first leaf on the host that holds NaN or infinity; None if there is none."""
    for path, leaf in leaves.items():
        leaf = np.asarray(leaf)
        if jnp.issubdtype(leaf.dtype, jnp.inexact) and not np.isfinite(leaf).all():
            return path
    return None


def by_path(tree: Tree) -> tuple[dict[str, Any], list[str]]:
    """{'params/gen/...': leaf} and the paths of empty dictionaries."""
    pairs, _ = jax.tree_util.tree_flatten_with_path(
        tree, is_leaf=lambda node: isinstance(node, dict) and not node
    )
    leaves = {_name(path): leaf for path, leaf in pairs}
    if len(leaves) != len(pairs):
        raise ValueError("two leaves of the tree have the same path")
    empty = [path for path, leaf in leaves.items() if isinstance(leaf, dict)]
    return {path: leaf for path, leaf in leaves.items() if not isinstance(leaf, dict)}, empty


def _name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def seal(text: str) -> dict[str, Any]:
    """A text with its CRC-32, for JSON."""
    return {"crc32": zlib.crc32(text.encode()), "body": text}


def unseal(stored: dict[str, Any]) -> str:
    """The text given to `seal`; ValueError if its checksum does not match."""
    if zlib.crc32(stored["body"].encode()) != stored["crc32"]:
        raise ValueError("its settings are not what was written")
    return stored["body"]


def checksum(leaf: np.ndarray) -> int:
    """CRC-32 of the leaf's bytes."""
    return zlib.crc32(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8)) if leaf.size else 0


def fill(
    fields: dict[str, Tree], saved: dict[str, np.ndarray], record: dict[str, Any]
) -> dict[str, Tree]:
    """Puts saved leaves into a template.

    Args:
      fields: trees with the containers, shapes and dtypes to restore.
      saved: leaves by path.
      record: holds the saved run's config, for messages about a difference.

    Returns:
      `fields` with the saved leaves.

    Raises:
      UserError: a leaf is missing, left over, or of another shape or dtype; the first is named.
    """
    name = record["config"].get("name", "") if isinstance(record["config"], dict) else ""
    remedy = (
        "the network or the optimisers differ from those of the saved run"
        + (f" ({name})" if name else "")
        + ": use the settings it was trained with, or another --workdir"
    )
    wanted: dict[str, Any] = {}
    # Field by field: the parameters are compared before the optimisers.
    for field, tree in fields.items():
        wanted |= by_path({field: tree})[0]
    for path, leaf in wanted.items():
        shape, dtype = tuple(np.shape(leaf)), str(getattr(leaf, "dtype", np.asarray(leaf).dtype))
        if path not in saved:
            raise UserError(f"the checkpoint has no {path} (wanted {dtype}{list(shape)}): {remedy}")
        there = saved[path]
        if (there.shape, str(there.dtype)) != (shape, dtype):
            raise UserError(
                f"the checkpoint's {path} is {there.dtype}{list(there.shape)}, "
                f"wanted {dtype}{list(shape)}: {remedy}"
            )
    for path, leaf in saved.items():
        if path not in wanted:
            raise UserError(
                f"the checkpoint has {path} ({leaf.dtype}{list(leaf.shape)}), "
                f"which is not wanted here: {remedy}"
            )
    return jax.tree_util.tree_map_with_path(lambda path, _: saved[_name(path)], fields)
