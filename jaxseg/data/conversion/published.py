"""Shared builder of published data sets: converts the image files of one split at a time."""

from collections.abc import Callable, Iterator

import tensorflow_datasets as tfds

from jaxseg.data.conversion import common
from jaxseg.data.conversion.convert import Readers, convert


def builder(
    title: str, *, find: Callable, readers: Readers, odd_labels: bool = False
) -> type[tfds.core.GeneratorBasedBuilder]:
    """Returns the TFDS builder class of a data set.

    Args:
      title: name of the data set, part of the records' path.
      find: config -> (tree, files of the config's split).
      readers, odd_labels: see `convert.convert`.
    """

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        """Converts the published files of one split."""

        name = title
        VERSION = tfds.core.Version("1.0.0")
        _download_and_prepare = common.write_splits

        def _info(self) -> tfds.core.DatasetInfo:
            return common.info(self)

        def _split_generators(self, dl_manager) -> dict[str, Iterator]:
            (tree, pairs), split = find(self.builder_config), self.builder_config.options["split"]
            common.tell_count(self, pairs)
            if "instances" in self.builder_config.keys and pairs[0].instances is None:
                print(
                    f"note: {title} {split} has no *_instanceIds.png, hence no instance-weighted "
                    f"scores; after adding them, delete the prepared records",
                    flush=True,
                )
            return {split: self._generate_examples(tree, split, pairs)}

        def _generate_examples(self, tree, split, pairs) -> Iterator[dict]:
            return convert(
                tree,
                pairs,
                title=f"converting {title} {split}",
                config=self.builder_config,
                readers=readers,
                odd_labels=odd_labels,
            )

    return Builder
