"""The input benchmark without PyTorch: the files it generates, our side, counting, comparing."""

import time

import numpy as np
import pytest
from PIL import Image

from benchmarks import grain_input, input_files, input_turns
from benchmarks import input as benchmark
from jaxseg.data import codec, labels, records

TRAINING = (24, 40)


def prepare(tmp_path, name, count=3):
    layout = input_files.LAYOUTS[name]._replace(size=(36, 80), training=TRAINING)
    files = input_files.write(name, tmp_path / "published", count, layout)
    return layout, files


def job(tmp_path, name, stored):
    folders = dict(raw=str(tmp_path / "published"), records=str(tmp_path / "records"))
    return dict(
        data=name, published=50, size=TRAINING, stored=stored, batch=2, threads=0, **folders
    )


@pytest.mark.parametrize("name", input_files.LAYOUTS)
def test_the_builders_read_what_is_generated(tmp_path, name):
    layout, files = prepare(tmp_path, name)
    source = records.open_split(
        name, "train", records_dir=tmp_path / "records", raw_dir=tmp_path / "published"
    )
    assert len(source) == len(files) == 3
    ids = labels.id_table(labels.CITYSCAPES.ids)
    for i, (image_file, label_file) in enumerate(files):
        record = source[i]
        with Image.open(image_file) as image, Image.open(label_file) as label:
            assert image.mode == "RGB" and label.mode == ("P" if layout.palette else "L")
            assert image.size == label.size == (80, 36)
            np.testing.assert_array_equal(codec.decode_image(record["image"]), image)
            expected = labels.lookup(ids, np.asarray(label))
        np.testing.assert_array_equal(codec.decode_ids(record["label"]), expected)
        assert (expected[-1] == labels.IGNORE).all() and len(np.unique(expected)) > 3
        with open(image_file, "rb") as file:
            assert record["image"] == file.read()


def test_files_are_kept(tmp_path):
    _, files = prepare(tmp_path, "gta5", count=2)
    with open(files[0][0], "wb") as file:
        file.write(b"kept")
    assert prepare(tmp_path, "gta5", count=2)[1] == files
    with open(files[0][0], "rb") as file:
        assert file.read() == b"kept"


def test_our_side_delivers_every_image_once_in_both_forms(tmp_path):
    prepare(tmp_path, "cityscapes")
    found = {}
    for stored in (False, True):
        stream = grain_input.Stream(job(tmp_path, "cityscapes", stored))
        stream.save(str(tmp_path / "delivered.npz"))
        found[stored] = dict(np.load(tmp_path / "delivered.npz"))
        assert found[stored]["image"].shape == (3, *TRAINING, 3)
        assert len({label.tobytes() for label in found[stored]["label"]}) == 3
        batches = stream(1)
        many = [next(batches) for _ in range(4)]  # more than there are records
        batches.close()
        assert all(batch["source_label"].shape == (2, *TRAINING) for batch in many)
    assert benchmark.differences(found[False], found[True]) == (0, 0.0)


def test_differences_are_between_images_of_one_label():
    label = np.arange(2 * 4 * 5).reshape(2, 4, 5).astype(np.uint8)
    image = np.full((2, 4, 5, 3), 100, np.uint8)
    ours, theirs = dict(image=image, label=label), dict(image=image.copy(), label=label[::-1])
    theirs["image"][1, 0, 0] = 97
    assert benchmark.differences(ours, theirs) == (3, pytest.approx(3 / 40))
    assert benchmark.differences(ours, theirs | {"label": label + 1}) is None
    assert benchmark.differences(ours, theirs | {"image": image[:, :3]}) is None
    twice = theirs | {"label": label[[0, 0]]}
    assert benchmark.differences(ours, twice) is None


class Batches:
    """A stream that remembers how far it was read; closing it counts too."""

    def __init__(self, pause):
        self.pause, self.read, self.closed = pause, 0, 0

    def __iter__(self):
        return self

    def __next__(self):
        self.read += 1
        if self.read > 3:
            time.sleep(self.pause)
        return self.read

    def close(self):
        self.closed += 1


def test_what_was_read_ahead_is_not_timed():
    batches = Batches(0.01)
    found = input_turns.timed(batches, skip=3, count=4)
    assert (batches.read, batches.closed) == (7, 1) and 0.01 <= found["seconds"] < 1
    rest = iter(range(20))  # without a close(), as PyTorch's: run to its end
    input_turns.timed(rest, skip=3, count=4)
    assert list(rest) == []


def test_ratios_count_by_the_better_of_pytorch():
    seconds = {0: (4.0, 5.0, 9.0), 2: (3.0, 3.5, 3.0), "originals": (2.0,), "stored": (0.5,)}
    turns = {
        side: [dict(seconds=s, core_seconds=None) for s in all_] for side, all_ in seconds.items()
    }
    assert benchmark.ratios(turns, "seconds") == "originals 1.50x, stored 6.00x"
    assert benchmark.ratios(turns, "core_seconds") == "not known"


@pytest.mark.parametrize(
    "flag, message",
    [
        ("--torch_python=no/such/python", "no/such/python has no PyTorch: pip install"),
        ("--layouts=gta6", "no layout is called 'gta6'; choose from gta5, cityscapes"),
        ("--turns=0", "--turns=0: at least 1"),
    ],
)
def test_bad_input_ends_in_one_line(capsys, flag, message):
    assert benchmark.main([flag]) == 2
    said = capsys.readouterr()
    assert message in said.err and said.err.count("\n") == 1 and said.out == ""
