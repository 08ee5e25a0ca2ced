"""Depth and instances of Cityscapes and MiniCity, and depth on its way into batches."""

import json

import numpy as np
import pytest
from kit.raw_files import draw, label_of, make_cityscapes, open_all, save, zip_up
from kit.raw_minicity import make_minicity

from jaxseg.data import codec, pipeline, records
from jaxseg.data.streets import scene as streets_scene
from jaxseg.errors import UserError

SIZE = (12, 20)
CAMERA = {"extrinsic": {"baseline": 0.2, "pitch": 0.03}, "intrinsic": {"fx": 2000.0, "u0": 1000}}


def make_stereo(root):
    stored = {}
    for split, number in (("train", 3), ("val", 2), ("test", 1)):
        for i in range(number):
            name = f"{split}/bonn/bonn_{i:06d}_000019"
            stored[name] = draw(40 + i, *SIZE, high=32000, dtype=np.uint16)
            stored[name][0, :3] = 0, 1, 2
            save(root / f"disparity/{name}_disparity.png", stored[name])
            path = root / f"camera/{name}_camera.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(CAMERA))
    return stored


def open_source(name, tmp_path, split, **options):
    return records.open_split(
        name, split, records_dir=tmp_path / "records", raw_dir=tmp_path / "raw", **options
    )


# --- Cityscapes: disparity


@pytest.mark.parametrize("packed", [False, True])
def test_cityscapes_depth(tmp_path, packed):
    root = tmp_path / "raw" / "cityscapes"
    make_cityscapes(root)
    stored = make_stereo(root)
    if packed:
        zip_up(root, root / "disparity_trainvaltest.zip", "disparity")
    for split, keys in (
        ("train", {"label", "depth"}),
        ("val", {"label", "depth", "instances"}),
        ("test", {"depth"}),
    ):
        source = open_source("cityscapes", tmp_path, split, depth="disparity")
        assert set(source.has) == keys | {"image"}
        for i in range(len(source)):
            disparity = stored[f"{split}/bonn/{source[i]['id']}"]
            depth = codec.decode_depth(source[i]["depth"])
            # 0 is no measurement, 1 a disparity of 0; 2 one of 1/256 pixel, farther than is stored.
            np.testing.assert_array_equal(depth[0, :3], [0, 0, 65535 / 256])
            pixels = (np.maximum(disparity, 2).astype(np.float64) - 1) / 256
            metres = 0.2 * 2000 / pixels
            near = (disparity > 1) & (metres < 255)
            np.testing.assert_allclose(depth[near], metres[near], atol=1 / 256)
    assert "depth" not in open_source("cityscapes", tmp_path, "val").has


def test_cityscapes_depth_that_is_missing_matters_only_when_asked_for(tmp_path):
    def message(**options):
        with pytest.raises(UserError) as caught:
            open_all("cityscapes", tmp_path, "val", depth="disparity", **options)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    root = tmp_path / "raw" / "cityscapes"
    make_cityscapes(root)
    assert len(open_all("cityscapes", tmp_path, "val")) == 2
    said = "holds no disparity/val (disparity_trainvaltest.zip), which the option depth=disparity"
    assert said in message()
    make_stereo(root)
    camera = root / "camera/val/bonn/bonn_000001_000019_camera.json"
    for text in ("{", "[]", '{"extrinsic": {"baseline": 1}}'):
        camera.write_text(text)
        assert "camera.json: no extrinsic.baseline and intrinsic.fx" in message()
    camera.write_text(json.dumps({**CAMERA, "intrinsic": {"fx": 0}}))
    assert "camera.json: baseline * fx is 0.0, wanted metres" in message()
    camera.unlink()
    assert "1 of 2 images have no camera, first leftImg8bit/val/bonn/bonn_000001" in message()
    with pytest.raises(UserError, match="cityscapes has no depth 'laser'; choose 'disparity', or"):
        open_all("cityscapes", tmp_path, "val", depth="laser")


# --- instances


def instance_files(root, seed=0):
    """Replaces the instance ids in the layouts by real ones, up to 33 999."""
    found = {}
    for path in sorted(root.rglob("val/**/*_gtFine_instanceIds.png")):
        seed += 1
        found[path.name.removesuffix("_gtFine_instanceIds.png")] = array = draw(
            seed, *SIZE, high=34000, dtype=np.uint16
        )
        save(path, array)
    return found


@pytest.mark.parametrize("name", ["cityscapes", "minicity"])
def test_instances_of_val(tmp_path, name, capsys):
    root = tmp_path / "raw" / name
    {"cityscapes": make_cityscapes, "minicity": make_minicity}[name](root)
    expected = instance_files(root)
    source = open_source(name, tmp_path, "val")
    assert set(source.has) == {"image", "label", "instances"} and len(expected) == len(source) == 2
    for i in range(len(source)):
        found = codec.decode_instances(source[i]["instances"])
        assert found.dtype == np.int32
        np.testing.assert_array_equal(found, expected[source[i]["id"]])
    small = open_source(name, tmp_path, "val", size=(6, 10))  # as large as its labels
    found = codec.decode_instances(small[0]["instances"])
    assert found.shape == label_of(small[0]).shape == (6, 10)
    np.testing.assert_array_equal(found, codec.resize_nearest(expected[small[0]["id"]], (6, 10)))
    assert "instances" not in open_source(name, tmp_path, "train").has
    assert "no *_instanceIds" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["cityscapes", "minicity"])
def test_no_instances_are_no_error_but_a_part_of_them_is(tmp_path, name, capsys):
    root = tmp_path / "raw" / name
    {"cityscapes": make_cityscapes, "minicity": make_minicity}[name](root)
    first, second = sorted(root.rglob("val/**/*_gtFine_instanceIds.png"))
    first.unlink()
    with pytest.raises(UserError, match="1 of 2 images have no instances, first leftImg8bit/val"):
        open_source(name, tmp_path, "val")
    second.unlink()
    source = open_source(name, tmp_path, "val")
    assert set(source.has) == {"image", "label"}
    assert source[1].keys() == {"id", "image", "label"}
    assert f"note: {name} val has no *_instanceIds.png" in capsys.readouterr().out
    assert source.folder.parent.name == "original-val-instances"  # not what earlier ones are called


def test_instances_of_another_size_or_kind_are_named(tmp_path):
    root = tmp_path / "raw" / "cityscapes"
    make_cityscapes(root)
    path = min(root.rglob("val/**/*_gtFine_instanceIds.png"))
    save(path, np.zeros((3, 4), np.uint16))
    with pytest.raises(UserError, match=rf"{path.name}: instances \(3, 4\), image \(12, 20\)"):
        open_source("cityscapes", tmp_path, "val")
    save(path, draw(0, *SIZE, 3))
    with pytest.raises(UserError, match=f"{path.name}: damaged image .* mode RGB"):
        open_source("cityscapes", tmp_path, "val")


def test_instances_survive_the_png():
    array = np.array([[0, 7, 26000], [26017, 33999, 65535]], np.int32)
    np.testing.assert_array_equal(codec.decode_instances(codec.encode_instances(array)), array)
    for wrong in (-1, 65536):
        with pytest.raises(ValueError, match="wanted 0 to 65535"):
            codec.encode_instances(np.array([[wrong, 3]]))


# --- depth in batches


def nearest(array, size):
    rows = np.floor((np.arange(size[0]) + 0.5) * array.shape[0] / size[0]).astype(int)
    columns = np.floor((np.arange(size[1]) + 0.5) * array.shape[1] / size[1]).astype(int)
    return array[rows][:, columns]


@pytest.mark.parametrize("size", [(16, 32), (24, 40), (48, 96)])
def test_streets_delivers_depth_at_any_size(tmp_path, size):
    source = records.open_split(
        "streets", "train", records_dir=tmp_path, size=(32, 64), counts={"train": 2}
    )
    stream = pipeline.train_stream(
        source, size=size, batch=2, seed=0, keys=("image", "label", "depth"), threads=0
    )
    batch = next(stream)
    assert batch["source_depth"].dtype == np.float32
    assert batch["source_depth"].shape == batch["source_label"].shape == (2, *size)
    scenes = [streets_scene.render(0, i, "rendered", (32, 64)) for i in range(2)]
    for depth, label in zip(batch["source_depth"], batch["source_label"], strict=True):
        (scene,) = (s for s in scenes if np.array_equal(nearest(s["label"], size), label))
        expected = nearest(scene["depth"], size)
        # No distance is in between two, as interpolation would have it; the sky is no value.
        np.testing.assert_allclose(depth, np.minimum(expected, 65535 / 256), atol=1 / 256)
        np.testing.assert_array_equal(depth == 0, label == 10)
        assert (depth == 0).any()


@pytest.mark.parametrize("size", [(6, 10), (24, 40), (9, 33)])
@pytest.mark.parametrize("stored", [None, (8, 10)])
def test_synthia_delivers_depth_at_any_size(tmp_path, size, stored):
    root, centimetres = tmp_path / "raw" / "synthia", draw(0, *SIZE, high=9000, dtype=np.uint16)
    centimetres[::3] = 0
    centimetres[1::3, ::2] = 65535
    save(root / "RGB" / "0000000.png", draw(1, *SIZE, 3))
    save(root / "GT" / "LABELS" / "0000000.png", draw(2, *SIZE, high=23))
    save(root / "Depth" / "0000000.png", centimetres)
    source = open_source("synthia", tmp_path, "train", size=stored)
    stream = pipeline.train_stream(
        source, size=size, batch=1, seed=0, keys=("image", "label", "depth"), threads=0
    )
    depth = next(stream)["source_depth"][0]
    metres = np.where(centimetres == 65535, 0, centimetres / 100)
    expected = nearest(metres if stored is None else nearest(metres, stored), size)
    np.testing.assert_allclose(depth, expected, atol=1 / 256)
    np.testing.assert_array_equal(depth == 0, expected == 0)  # what is missing stays missing
