"""What a training stream draws: rare classes, looks of the other domain, noise."""

import numpy as np
import pytest
from kit.streams import Memory, assert_same, take

from jaxseg.data import labels, sampling, style, tally, transforms
from jaxseg.errors import UserError

TABLE = labels.remap(labels.CITYSCAPES, labels.CITYSCAPES)


def spotted():
    """Four records; only the last shows class 5, in its lower right corner."""
    from jaxseg.data import codec

    source = Memory([(12, 16)] * 4)
    for i, record in enumerate(source.records):
        label = np.zeros((12, 16), np.uint8)
        label[:2] = 1
        if i == 3:
            label[8:, 12:] = 5
        record["label"] = codec.encode_png(label)
    return source


def test_rare_classes_are_drawn_and_shown():
    source = spotted()
    counts = tally.tally(source, TABLE, 19).counts
    rare = sampling.rare_classes(counts, 0.05, minimum=10, crop_minimum=8)
    options = dict(rare=rare, augment={"crop": (6, 8), "crop_tries": 60}, table=TABLE)
    batches = take(source, 12, **options)
    assert_same(take(source, 7, start=5, threads=0, **options), batches[5:])
    shown = np.concatenate([batch["source_label"] for batch in batches])
    share = np.mean([(label == 5).sum() > 8 for label in shown])
    assert abs(share - rare.probabilities[list(rare.classes).index(5)]) < 0.25 and share > 0.3


def test_counts_are_remembered(tmp_path, monkeypatch):
    source = spotted()
    source.folder = tmp_path
    first = tally.counted(source, TABLE, 19)
    monkeypatch.setattr(tally, "tally", None)
    again = tally.counted(source, TABLE, 19)
    assert (first.counts == again.counts).all() and (first.ignored == again.ignored).all()
    (path,) = tmp_path.iterdir()
    path.write_bytes(b"cut")
    with pytest.raises(TypeError):  # counts anew
        tally.counted(source, TABLE, 19)


@pytest.mark.parametrize("name", ["lab", "histogram", "fda"])
def test_looks_are_of_the_other_domain(name):
    source, other = Memory([(12, 16)] * 2), Memory([(12, 16)])
    for record, level in ((source.records[0], 200), (other.records[0], 60)):
        from jaxseg.data import codec

        flat = np.random.default_rng(0).normal(level, 9, (12, 16, 3)).clip(0, 255)
        record["image"] = codec.encode_png(flat.astype(np.uint8))
    value = 0.2 if name == "fda" else 1.0
    (batch,) = take(source, 1, batch=8, augment={name: value}, looks=other)
    assert abs(batch["source_image"].mean() - 60) < 25
    with pytest.raises(UserError, match="for the source images"):
        take(source, 1, augment={name: value})


def test_noise_is_bounded_and_grey_on_average():
    sample = {"image": np.full((40, 50, 3), 128, np.uint8)}
    rng = np.random.default_rng(0)
    spreads = [transforms.augment_sample(sample, rng, noise=12.0)["image"].std() for _ in range(30)]
    assert max(spreads) < 12.5 and 4 < np.mean(spreads) < 8
    with pytest.raises(UserError, match="grey levels"):
        transforms.check_augment({"noise": -1.0})


def test_a_look_is_drawn_before_the_geometry():
    image, reference = (np.random.default_rng(i).integers(0, 256, (8, 10, 3)) for i in (0, 1))
    image, reference = image.astype(np.uint8), reference.astype(np.uint8)
    found = transforms.augment_sample(
        {"image": image}, np.random.default_rng(0), lab=1.0, flip=1.0, reference=reference
    )
    expected = style.match_lab(image, reference)[:, ::-1]
    assert (found["image"] == expected).all()
