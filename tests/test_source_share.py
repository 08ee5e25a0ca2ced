"""A share of the source's training images: which ones, and that nothing else is counted."""

import numpy as np
import pytest
from kit.streams import Memory

from configs import few_labels
from jaxseg.data import tally
from jaxseg.errors import UserError
from jaxseg.experiment import batches, ranges


def streets(share):
    config = few_labels.get_config("streets+scratch")
    config.data.source_share = share
    config.train.batch = 2
    config.data.source.size = config.data.target.size = (12, 16)
    config.augment.source.flip = 0.0
    return config


def test_only_the_share_is_learnt(monkeypatch):
    memory = Memory([(12, 16)] * 10)
    monkeypatch.setattr(batches, "open_records", lambda *_, **__: memory)
    stream = batches.train_batches(streets(0.2), ("source_image", "source_label"), 0)
    seen = {int(label[0, 0]) for _ in range(6) for label in next(stream)["source_label"]}
    stream.close()
    assert seen == {0, 5}  # evenly spaced


def test_class_weights_count_the_share(monkeypatch):
    memory = Memory([(12, 16)] * 10)
    monkeypatch.setattr(batches, "open_records", lambda *_, **__: memory)
    counted = []
    monkeypatch.setattr(
        tally,
        "tally",
        lambda source, *_: counted.append(len(source)) or tally.Tally(np.ones((2, 19)), 0),
    )
    config = streets(0.01)  # at least one image
    config.method.settings.unlock()
    config.method.settings.class_weights = ("median",)
    batches.with_class_weights(config)
    assert counted == [1]


def test_the_predictors_that_see_nothing_learn_the_share(monkeypatch):
    memory = Memory([(12, 16)] * 10)
    monkeypatch.setattr(batches, "open_records", lambda *_, **__: memory)
    found = {
        side: [int(label[0, 0]) for _, label in batches.labelled_images(streets(0.2), side, 4)]
        for side in ("source", "target")
    }
    assert found == {"source": [0, 5], "target": [0, 2, 5, 7]}


@pytest.mark.parametrize("share", [0.0, 1.5, float("nan")])
def test_a_share_is_above_0_and_at_most_1(share):
    with pytest.raises(UserError, match="source_share"):
        ranges.check(streets(share))
