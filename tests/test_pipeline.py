"""Training streams as functions of the step, evaluation of every image once, augmentation."""

import itertools
import os

import numpy as np
import pytest
from kit.streams import Memory, assert_same, draw, take

from jaxseg.data import codec, joined, labels, pipeline, transforms
from jaxseg.errors import UserError

AUGMENT = {"flip": 0.5, "scale": (0.5, 2.0), "crop": (10, 14), "jitter": 0.3}


@pytest.mark.parametrize("threads", [0, 1, 3])
@pytest.mark.parametrize("start", [0, 5])
def test_a_stream_is_a_function_of_the_step(threads, start):
    source = Memory([(12, 16)] * 7)
    whole = take(source, 9, augment=AUGMENT, threads=2)
    rest = take(source, 9 - start, augment=AUGMENT, threads=threads, start=start)
    assert_same(rest, whole[start:])


def firsts(batches):
    return [int(value) for batch in batches for value in batch["source_label"][:, 0, 0]]


def test_epochs_are_whole_and_differently_shuffled():
    seen = firsts(take(Memory([(12, 16)] * 9), 6))
    epochs = [seen[:9], seen[9:]]
    assert [sorted(epoch) for epoch in epochs] == [list(range(9))] * 2
    assert epochs[0] != epochs[1] != list(range(9))


def test_seed_and_side_change_the_order():
    source = Memory([(12, 16)] * 15)
    base = firsts(take(source, 5))
    assert firsts(take(source, 5, seed=8)) != base
    other = take(source, 5, side="target")
    assert [int(v) for batch in other for v in batch["target_label"][:, 0, 0]] != base


def test_processes_together_see_what_one_would():
    source = Memory([(12, 16)] * 7)
    whole = take(source, 6, batch=4, augment=AUGMENT)
    parts = [take(source, 6, batch=2, augment=AUGMENT, shard=(i, 2)) for i in range(2)]
    for step, batch in enumerate(whole):
        joined = np.stack([part[step]["source_image"] for part in parts], 1)
        np.testing.assert_array_equal(
            joined.reshape(batch["source_image"].shape), batch["source_image"]
        )


def test_a_source_smaller_than_the_batch():
    (batch,) = take(Memory([(12, 16)] * 2), 1, batch=5)
    assert list(batch["source_label"][:, 0, 0]).count(0) in (2, 3)  # two epochs and a half
    assert batch["source_image"].shape == (5, 12, 16, 3)


def test_what_a_batch_holds():
    source = Memory([(12, 16)] * 3)
    keys = ("image", "label", "depth")
    table = labels.remap(labels.CITYSCAPES, labels.CAMVID)
    (batch,) = take(source, 1, keys=keys, table=table, side="a")
    assert {key: (array.shape, array.dtype.name) for key, array in batch.items()} == {
        "a_image": ((3, 12, 16, 3), "uint8"),
        "a_label": ((3, 12, 16), "uint8"),
        "a_depth": ((3, 12, 16), "float32"),
    }
    expected = {table[source.label(i)].tobytes() for i in range(3)}
    assert {label.tobytes() for label in batch["a_label"]} == expected
    (batch,) = take(source, 1, size=(6, 8), keys=("image",))
    expected = {codec.resize_image(source.image(i), (6, 8)).tobytes() for i in range(3)}
    assert {image.tobytes() for image in batch["source_image"]} == expected
    assert list(batch) == ["source_image"]


def test_joined_streams_end_and_close_together():
    closed = []

    class Stream:
        def __init__(self, key):
            self.key = key

        def __iter__(self):
            return self

        def __next__(self):
            return {self.key: 1}

        def close(self):
            closed.append(self.key)

    both = joined.JoinedStreams(Stream("a"), Stream("b"))
    assert next(both) == {"a": 1, "b": 1}
    both.close()
    both.close()
    assert closed == ["a", "b"] and list(both) == []
    closed.clear()
    joined.JoinedStreams(Stream("a"), Stream("b")).close()  # before its first batch
    assert closed == ["a", "b"]
    closed.clear()
    assert list(joined.JoinedStreams(Stream("a"), iter([{"b": 2}]))) == [{"a": 1, "b": 2}]
    assert closed == ["a"]


def test_streams_close_before_their_first_batch():
    source = Memory([(12, 16)] * 2)
    streams = [
        pipeline.train_stream(source, size=(6, 8), batch=2, seed=0, side=side)
        for side in ("source", "target")
    ]
    both = joined.JoinedStreams(*streams)
    both.close()
    assert list(both) == []


@pytest.mark.parametrize("threads", [0, 2])
def test_a_damaged_record_is_named(threads):
    source = Memory([(12, 16)] * 4, damaged=[2])
    with pytest.raises(UserError, match="'r2' of memory train in nowhere: damaged image"):
        take(source, 2, threads=threads)
    with pytest.raises(UserError, match="'r2' of memory train in nowhere: damaged image"):
        list(pipeline.eval_batches(source, size=None, batch=2, threads=threads))


def test_wrong_settings():
    source = Memory([(12, 16)] * 2)
    with pytest.raises(UserError, match="no augmentation is called 'flop'"):
        take(source, 1, augment={"flop": 1})
    for name, value in (
        ("flip", 1.5), ("flip", "always"), ("flip", (0.5, 0.5)), ("scale", (0.5,)),
        ("scale", (2.0, 1.0)), ("scale", (0.0, 1.0)), ("scale", 0.5), ("scale", ("a", "b")),
        ("scale", (0.5, float("nan"))), ("crop", (10,)), ("crop", 10), ("crop", (10, -5)),
        ("crop", (10, 5.5)), ("jitter", -0.1), ("jitter", 2),
    ):  # fmt: skip
        with pytest.raises(UserError, match=f"augmentation {name}=.*it must be ") as caught:
            transforms.check_augment({name: value})
        assert "\n" not in str(caught.value)
    good = {"flip": 1, "scale": [0.5, 0.5], "crop": (np.int64(4), 5), "jitter": 0.2}
    assert transforms.check_augment(good) == good
    del source.records[0]["depth"], source.records[1]["depth"]
    with pytest.raises(UserError, match="has no depth"):
        take(source, 1, keys=("image", "depth"))
    with pytest.raises(UserError, match="memory train is empty"):
        take(Memory([]), 1)


# --- evaluation


@pytest.mark.parametrize("number", [1, 5, 6, 7])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_image_is_evaluated_exactly_once(number, count):
    source = Memory([(12, 16)] * number)
    parts = [
        list(pipeline.eval_batches(source, size=(6, 8), batch=2, shard=(i, count)))
        for i in range(count)
    ]
    assert len({len(part) for part in parts}) == 1  # or the processes would wait for each other
    seen = []
    for batch in itertools.chain(*parts):
        assert batch["image"].shape == (2, 6, 8, 3) and batch["label"].shape == (2, 12, 16)
        for i, valid in enumerate(batch["valid"]):
            if not valid:
                assert (batch["label"][i] == 255).all() and batch["id"][i] == ""
                continue
            index = int(batch["id"][i][1:])
            seen.append(index)
            np.testing.assert_array_equal(batch["label"][i], source.label(index))
            expected = codec.resize_image(source.image(index), (6, 8))
            np.testing.assert_array_equal(batch["image"][i], expected)
    assert sorted(seen) == list(range(number))


SIZES = [(12, 16)] * 3 + [(10, 16)] * 2 + [(12, 16)] + [(9, 7)] * 5


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("size", [None, (6, 8)])
def test_a_batch_never_mixes_sizes(count, size):
    source = Memory(SIZES)
    parts = [
        list(pipeline.eval_batches(source, size=size, batch=2, shard=(i, count)))
        for i in range(count)
    ]
    for together in zip(*parts, strict=True):  # what the processes compute at the same time
        assert len({batch["image"].shape for batch in together}) == 1
        assert len({batch["label"].shape for batch in together}) == 1
    for part in parts:
        for batch in part:
            assert len(batch["id"]) == (1 if count > 1 and batch["label"].shape[1] == 10 else 2)
            valid = batch["valid"].tolist()
            assert valid == sorted(valid, reverse=True)  # filled up at the end
            assert [name != "" for name in batch["id"]] == valid
            assert (batch["label"][~batch["valid"]] == 255).all()
            assert not batch["image"][~batch["valid"]].any()
            for name, image, label in zip(batch["id"], batch["image"], batch["label"], strict=True):
                if name:
                    stored = source.image(int(name[1:]))
                    wanted = stored if size is None else codec.resize_image(stored, size)
                    np.testing.assert_array_equal(image, wanted)
                    np.testing.assert_array_equal(label, source.label(int(name[1:])))
    ids = [[int(name[1:]) for batch in part for name in batch["id"] if name] for part in parts]
    order = [0, 1, 2, 5, 3, 4, 6, 7, 8, 9, 10]  # by size
    assert all(own == [i for i in order if i in own] for own in ids)
    assert sorted(i for own in ids for i in own) == list(range(len(SIZES)))
    if count == 1:  # groups of 4, 2 and 5 images
        assert len(parts[0]) == 2 + 1 + 3
    alone = pipeline.eval_batches(source, size=size, batch=20, shard=(0, count))
    assert [len(batch["id"]) for batch in alone] == [-(-n // count) for n in (4, 2, 5)]


def test_fixed_sizes_mix_freely_and_need_no_look_at_the_records():
    source = Memory(SIZES)
    batches = list(pipeline.eval_batches(source, size=(6, 8), label_size=(12, 16), batch=11))
    assert len(batches) == 1 and batches[0]["label"].shape == (11, 12, 16)
    source = Memory([(12, 16)] * 4, damaged=(3,))
    source.size = (12, 16)  # stored at one size, so only what is delivered is read
    stream = pipeline.eval_batches(source, size=None, batch=2, threads=0)
    assert next(stream)["id"] == ["r0", "r1"]
    with pytest.raises(UserError, match="damaged"):
        next(stream)


def test_sizes_are_looked_up_once_for_records_in_a_folder(tmp_path):
    class Counted(Memory):
        reads = 0

        def __getitem__(self, index):
            self.reads += 1
            return super().__getitem__(index)

    def opened(folder, broken=()):
        source = Counted(SIZES)
        source.folder = folder
        for i in broken:
            source.records[i]["image"] = b"nothing"
        stream = pipeline.eval_batches(source, size=None, batch=2, threads=0)
        return source.reads, [batch["image"].shape[1:3] for batch in stream]

    folder = tmp_path / "records"
    folder.mkdir()
    with pytest.raises(UserError, match="damaged"):
        opened(folder, broken=[4])
    reads, sizes = before = opened(folder)
    assert reads == len(SIZES) and len(sizes) == 2 + 1 + 3
    assert opened(folder) == (0, sizes)
    os.utime(folder, ns=(0, 0))  # prepared anew
    assert opened(folder) == before
    assert opened("nowhere")[0] == opened("nowhere")[0] == len(SIZES)


def test_a_split_without_labels_is_all_ignored():
    source = Memory([(12, 16), (9, 7)])
    source.labelled = False
    for record in source.records:
        del record["label"]
    shapes = [b["label"].shape for b in pipeline.eval_batches(source, size=(6, 8), batch=1)]
    assert shapes == [(1, 12, 16), (1, 9, 7)]
    (batch,) = pipeline.eval_batches(source, size=(6, 8), label_size=(4, 5), batch=2)
    assert batch["label"].shape == (2, 4, 5) and (batch["label"] == 255).all()
    with pytest.raises(UserError, match="has no label"):
        take(source, 1)


# --- augmentation


def sample(size=(12, 16)):
    return {
        "image": draw(1, *size, 3),
        "label": draw(2, *size, high=19),
        "depth": draw(3, *size).astype(np.float32),
    }


def test_nothing_is_augmented_unless_asked_for():
    before = sample()
    after = transforms.augment_sample(before, np.random.default_rng(0))
    assert all(after[key] is before[key] for key in before)
    assert transforms.check_augment({"flip": 0.0, "scale": None, "crop": (), "jitter": 0}) == {}


def test_flip_mirrors_everything_and_as_often_as_asked():
    before, rng = sample(), np.random.default_rng(0)
    flips = 0
    for _ in range(200):
        after = transforms.augment_sample(before, rng, flip=0.25)
        if not np.array_equal(after["label"], before["label"]):
            flips += 1
            for key in before:
                np.testing.assert_array_equal(after[key], before[key][:, ::-1])
    assert 30 < flips < 70


def test_a_crop_is_one_window_of_all():
    before = sample()
    places = np.arange(12 * 16, dtype=np.float32).reshape(12, 16)
    before["depth"] = places
    corners = set()
    for seed in range(60):
        after = transforms.augment_sample(before, np.random.default_rng(seed), crop=(5, 13))
        y, x = divmod(int(after["depth"][0, 0]), 16)
        corners.add((y, x))
        for key in before:
            np.testing.assert_array_equal(after[key], before[key][y : y + 5, x : x + 13])
    assert {y for y, _ in corners} == set(range(8)) and {x for _, x in corners} == set(range(4))


def test_where_a_shrunken_image_leaves_room_nothing_is_known():
    before = sample()
    before["image"] = before["image"] // 2 + 64  # bicubic must not reach black by itself
    after = transforms.augment_sample(before, np.random.default_rng(0), scale=(0.5, 0.5))
    assert after["label"].shape == (12, 16) and after["image"].shape == (12, 16, 3)
    empty = after["label"] == 255
    assert empty.sum() == 12 * 16 - 6 * 8
    assert (after["image"][empty] == 0).all() and (after["depth"][empty] == 0).all()
    small = codec.resize_nearest(before["label"], (6, 8))
    np.testing.assert_array_equal(after["label"][~empty].reshape(6, 8), small)


def test_jitter_by_hand():
    before = {"image": np.full((4, 4, 3), (100, 50, 200), np.uint8), "label": sample()["label"]}

    class Fixed:
        def uniform(self, low, high, number):
            assert (low, high, number) == (0.5, 1.5, 3)
            return np.array([1.5, 0.5, 0.0])

    after = transforms.augment_sample(before, Fixed(), jitter=0.5)
    # Brightness gives (150, 75, 300), whose grey is 0.299 r + 0.587 g + 0.114 b = 123.1: the mean
    # that contrast pulls towards, and what no saturation leaves.
    np.testing.assert_array_equal(after["image"], np.full((4, 4, 3), 123))
    assert after["label"] is before["label"]
