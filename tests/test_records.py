"""Records of `streets`: content, order, interruptions, damage, wrong names; and the codec."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxseg.data import codec, raw_files, records
from jaxseg.data.builders import streets as builders_streets
from jaxseg.data.conversion import common
from jaxseg.data.conversion import render as conversion_render
from jaxseg.data.streets import scene as streets_scene
from jaxseg.errors import UserError

SIZE = (12, 20)


def draw(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def open_all(name, tmp_path, split="train", **options):
    source = records.open_split(name, split, records_dir=tmp_path / "records", **options)
    return {source[i]["id"]: source[i] for i in range(len(source))}


def test_streets(tmp_path, capsys):
    options = {"size": (32, 64), "counts": {"train": 3, "val": 2}, "seed": 5}
    found = open_all("streets", tmp_path, domain="photographic", **options)
    start = builders_streets.first_index("photographic", "train")
    for i, record in enumerate(found.values()):
        scene = streets_scene.render(5, start + i, "photographic", (32, 64))
        np.testing.assert_array_equal(codec.decode_image(record["image"]), scene["image"])
        np.testing.assert_array_equal(codec.decode_ids(record["label"]), scene["label"])
        depth = codec.decode_depth(record["depth"])
        near = scene["depth"] < 250
        np.testing.assert_allclose(depth[near], scene["depth"][near], atol=1 / 256)
    ids = [
        name
        for domain in builders_streets.DOMAINS
        for split in ("train", "val")
        for name in open_all("streets", tmp_path, split, domain=domain, **options)
    ]
    assert len({name.rsplit("_")[-1] for name in ids}) == len(ids) == 20  # no scene twice
    said = capsys.readouterr()
    assert said.err == "" and said.out.count("prepared streets in") == 4
    assert all(line.startswith(("rendering", "prepared")) for line in said.out.splitlines())


def test_streets_of_several_looks(tmp_path):
    options = {"size": (16, 32), "counts": {"train": 5, "val": 2}}
    names = open_all("streets", tmp_path, domain="rendered+photographic", **options)
    looks = [name.split("_")[0] for name in names]
    assert (looks.count("rendered"), looks.count("photographic")) == (2, 3)
    alone = open_all("streets", tmp_path, domain="rendered", **options)
    shared = [name for name in names if name.startswith("rendered")]
    assert all(names[name]["image"] == alone[name]["image"] for name in shared)
    for wrong in ("rendered+cartoon", "rendered+rendered", ""):
        with pytest.raises(UserError, match="choose one of rendered, .*, or several different"):
            builders_streets.config(domain=wrong)
    with pytest.raises(UserError, match="cannot render 1 scenes of 'val'; give 2 to"):
        builders_streets.config(domain="rendered+photographic", counts=dict(train=2, val=1))


def test_worker_processes_render_the_same_in_the_same_order():
    indices = range(100, 134)
    found = list(conversion_render.records(0, indices, "rendered", (16, 32), workers=2))
    assert found == [conversion_render.record(0, index, "rendered", (16, 32)) for index in indices]


def test_many_files_keep_the_order(tmp_path, monkeypatch):
    monkeypatch.setattr(common, "SHARD_BYTES", 4000)
    source = records.open_split(
        "streets", "train", records_dir=tmp_path, size=(16, 32), counts={"train": 20}
    )
    assert len(list(source.folder.glob("*.array_record-*"))) > 3
    assert [int(source[i]["id"].split("_")[-1]) for i in range(20)] == list(range(20))


def test_an_interrupted_preparation_is_done_again(tmp_path, monkeypatch):
    options = {"size": (16, 32), "counts": {"train": 4}}
    render, calls = streets_scene.render, []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return render(*args)

    monkeypatch.setattr(streets_scene, "render", interrupted)
    with pytest.raises(KeyboardInterrupt):
        open_all("streets", tmp_path, **options)
    folder = next((tmp_path / "records" / "streets").glob("rendered*"))
    leftover = folder / "incomplete.ABCDEF_1.0.0"  # what a killed run cannot tidy away
    leftover.mkdir()
    assert len(open_all("streets", tmp_path, **options)) == 4
    assert [path.name for path in folder.iterdir()] == ["1.0.0"]


def test_damaged_records_are_named(tmp_path):
    options = {"size": (16, 32), "counts": {"train": 4}}
    open_all("streets", tmp_path, **options)
    (file,) = (tmp_path / "records").rglob("streets-train.array_record*")
    data = bytearray(file.read_bytes())
    for position in range(len(data) // 4, len(data), 100):
        data[position] ^= 255
    file.write_bytes(data)
    with pytest.raises(UserError, match="streets.*(unreadable|damaged).*to prepare it anew"):
        open_all("streets", tmp_path, **options)


def test_unknown_names_and_options(tmp_path):
    known = "camvid, cityscapes, crosscity, .*gta5, .*streets, .*virtual_kitti, wilddash2$"
    with pytest.raises(UserError, match=known):
        open_all("gta", tmp_path)
    with pytest.raises(UserError, match="streets has no option 'domains'; it takes counts, domain"):
        open_all("streets", tmp_path, domains="rendered")
    with pytest.raises(UserError, match="no domain 'real'"):
        open_all("streets", tmp_path, domain="real")
    with pytest.raises(UserError, match="'test'"):
        open_all("streets", tmp_path, counts={"test": 3})
    with pytest.raises(UserError, match="streets has no split 'val'; it has train"):
        open_all("streets", tmp_path, "val", counts={"train": 3})
    with pytest.raises(UserError, match="streets has no split 'val'; it has train"):
        raw_files.check("streets", "val", records_dir=tmp_path, counts={"train": 3})
    raw_files.check("streets", "val", records_dir=tmp_path / "unused")
    assert not (tmp_path / "unused").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--config.data.records=DIR"):
        records.open_split("streets", "train", records_dir=tmp_path / "file")


def test_depth_survives_the_png():
    depth = np.array([[0, 0.001, 1, 100.123], [255.99, 256, 1e9, 3.5]], np.float32)
    found = codec.decode_depth(codec.encode_depth(depth))
    assert found[0, 0] == 0 and found[0, 1] > 0
    np.testing.assert_allclose(found, np.clip(depth, 0, 65535 / 256), atol=1 / 256)


@pytest.mark.parametrize("size", [(5, 9), (24, 40), (13, 6), (12, 20)])
def test_nearest_equals_pillow(size):
    array = draw(0, *SIZE)
    expected = Image.fromarray(array).resize(size[::-1], Image.Resampling.NEAREST)
    np.testing.assert_array_equal(codec.resize_nearest(array, size), np.asarray(expected))


def test_a_colour_label_is_refused():
    buffer = io.BytesIO()
    Image.fromarray(draw(0, *SIZE, 3)).save(buffer, "PNG")
    with pytest.raises(UserError, match="x.png.*mode RGB"), codec.naming("x.png"):
        codec.decode_ids(buffer.getvalue())


def test_the_digest_follows_the_renderers_code(tmp_path):
    """Not its comments; and of no code at all it would be the digest of nothing."""
    from jaxseg.data import streets as renderer

    assert len(list(Path(renderer.__path__[0]).glob("*.py"))) > 10
    (tmp_path / "a").mkdir()
    digests = []
    for text in ('"""One."""\nx = 1\n', '"""Two."""\nx = 1  # why\n', "x = 2\n"):
        (tmp_path / "a" / "scene.py").write_text(text)
        builders_streets.renderer_digest.cache_clear()
        digests.append(builders_streets.renderer_digest(tmp_path / "a"))
    assert digests[0] == digests[1] != digests[2]
    builders_streets.renderer_digest.cache_clear()
