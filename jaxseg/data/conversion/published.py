"""What published data sets share: a builder that converts the image files of one split at a time,
and readers of labels.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import tensorflow_datasets as tfds

from jaxseg.data import codec, labels
from jaxseg.data.conversion import common
from jaxseg.data.conversion.convert import Readers, convert
from jaxseg.errors import UserError

TRAIN_IDS = {i: i for i in range(len(labels.CITYSCAPES.classes))}  # files that hold them already


def label_reader(
    ids: Mapping[int, int], known: Iterable[int] = ()
) -> Callable[[bytes], np.ndarray]:
    """Returns the reader of a label file: bytes -> uint8 train ids [H, W].

    Args:
      ids: {id in the file: train id}; all other ids become 255.
      known: ids that a file may hold, for a file that holds others to be refused; 255 and those of
        `ids` may always occur.

    The reader raises UserError for other ids, and for colours.
    """
    table, known = labels.id_table(dict(ids)), {*ids, *known}

    def read(data: bytes) -> np.ndarray:
        array = codec.decode_index(data)
        if array is None:
            raise UserError("holds colours; expected ids")
        labels.refuse_unknown(array, known)
        return labels.lookup(table, array)

    return read


def builder(
    title: str, *, find: Callable, readers: Readers, odd_labels: bool = False, licence: str = ""
) -> type[tfds.core.GeneratorBasedBuilder]:
    """Returns the TFDS builder class of a data set.

    Args:
      title: name of the data set, part of the records' path.
      find: config -> (tree, files of the config's split).
      readers, odd_labels: see `convert.convert`.
      licence: of the data, in one line that is shown when it is prepared.
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
            if licence:
                print(f"{title}: {licence}", flush=True)
            if "instances" in self.builder_config.keys and pairs[0].instances is None:
                print(
                    f"note: {title} {split} has no *_instanceIds.png, hence no instance-weighted "
                    f"scores; with them it is prepared anew",
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
