"""Records know the files that they were made from, and are made anew when those are others."""

import os
import shutil

import numpy as np
import pytest
from kit.raw_files import SIZE, draw, save, zip_up

from jaxseg.data import codec, records


def camvid(root, count, seed=0):
    for i in range(count):
        save(root / "camvid/val" / f"{i}.png", draw(seed + i, *SIZE, 3))
        save(root / "camvid/valannot" / f"{i}.png", draw(seed + 50 + i, *SIZE, high=12))
    return root


@pytest.fixture
def read(tmp_path, monkeypatch, capsys):
    """(root) -> (records, what was printed); nothing is remembered between calls."""
    monkeypatch.setattr(records, "LOOK_AGAIN", 0.0)

    def read(root):
        capsys.readouterr()
        source = records.open_split("camvid", "val", records_dir=tmp_path / "kept", raw_dir=root)
        return source, capsys.readouterr().out

    return read


def first_label(source):
    return codec.decode_ids(source[0]["label"])


def test_another_root_is_noticed(tmp_path, read):
    a, b = camvid(tmp_path / "a", 1), camvid(tmp_path / "b", 9, seed=100)
    source, said = read(a)
    assert len(source) == 1 and "prepared camvid" in said
    assert "prepared" not in read(a)[1]
    source, said = read(b)
    assert len(source) == 9 and f"1 images then, 9 now; in {a}/camvid then, in {b}/camvid" in said
    np.testing.assert_array_equal(codec.decode_image(source[8]["image"]), draw(108, *SIZE, 3))
    copy = shutil.copytree(b, tmp_path / "copy", copy_function=shutil.copy)  # with other times
    assert "prepared" not in read(copy)[1]
    source, said = read(tmp_path / "nowhere")
    assert len(source) == 9 and f"no camvid in {tmp_path}/nowhere/camvid: using" in said


def test_a_corrected_label_and_a_later_image_are_noticed(tmp_path, read):
    root = camvid(tmp_path / "a", 2)
    before = first_label(read(root)[0])
    path = root / "camvid/valannot/0.png"
    save(path, draw(7, *SIZE, high=12))
    os.utime(path, (1, 1))
    source, said = read(root)
    assert "made from other files" in said and (first_label(source) != before).any()
    camvid(root, 3)
    assert len(read(root)[0]) == 3


def test_records_of_earlier_versions_learn_what_they_were_made_from(tmp_path, read):
    root = camvid(tmp_path / "a", 2)
    known = read(root)[0].folder / "made_from.json"
    known.unlink()
    assert "prepared" not in read(root)[1] and known.exists()
    known.unlink()
    camvid(root, 3)
    source, said = read(root)
    assert len(source) == 3 and "(2 images then, 3 now)" in said


def test_files_in_a_zip(tmp_path, read):
    root = camvid(tmp_path / "a", 2)
    archive = root / "camvid" / "all.zip"
    zip_up(root / "camvid", archive, ("val",))
    before = first_label(read(root)[0])
    assert "prepared" not in read(root)[1]
    camvid(root, 2, seed=9)
    zip_up(root / "camvid", archive, ("val",))
    assert (first_label(read(root)[0]) != before).any()


def test_a_process_looks_once(tmp_path, read, monkeypatch):
    root = camvid(tmp_path / "a", 1)
    monkeypatch.setattr(records, "LOOK_AGAIN", 600.0)
    read(root)
    read(root)
    camvid(root, 2)
    assert len(read(root)[0]) == 1
    monkeypatch.setattr(records, "LOOK_AGAIN", 0.0)
    assert len(read(root)[0]) == 2
