"""The builder that published data sets share: files in pairs, converted one split at a time."""

from collections.abc import Callable, Collection, Iterator, Mapping

import numpy as np
import tensorflow_datasets as tfds

from jaxseg.data.builders import _common


def builder(
    title: str,
    *,
    find: Callable,
    counts: Mapping[str, int],
    read_label: Callable[[bytes], np.ndarray],
    read_depth: Callable[[bytes], np.ndarray] | None = None,
    odd_labels: bool = False,
    withheld: Collection[str] = (),
) -> type[tfds.core.GeneratorBasedBuilder]:
    """Makes the TFDS builder of a data set.

    Args:
      title: its name, part of the records' path.
      find: config -> (tree, files of the config's split).
      counts: images published by split, told when there are others.
      read_label, read_depth, odd_labels: see `_common.convert`.
      withheld: splits whose labels are not published; their records have none.
    """

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        """Converts the published files of one split."""

        name = title
        VERSION = tfds.core.Version("1.0.0")
        _download_and_prepare = _common.write_splits

        def _info(self) -> tfds.core.DatasetInfo:
            labelled = self.builder_config.options["split"] not in withheld
            return _common.info(self, label=labelled, depth=read_depth is not None)

        def _split_generators(self, dl_manager) -> dict[str, Iterator]:
            (tree, pairs), split = find(self.builder_config), self.builder_config.options["split"]
            _common.tell_count(self, pairs, counts[split], split)
            return {split: self._generate_examples(tree, split, pairs)}

        def _generate_examples(self, tree, split, pairs) -> Iterator[dict]:
            return _common.convert(
                tree,
                pairs,
                title=f"converting {title} {split}",
                size=self.builder_config.size,
                read_label=read_label,
                read_depth=read_depth,
                odd_labels=odd_labels,
            )

    return Builder
