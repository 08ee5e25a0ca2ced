"""Prediction from files: any size and mode, no colliding names, errors that name the file."""

import re
import urllib.parse
from pathlib import Path
from unittest import mock

import av
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kit.pages import Page
from PIL import Image

from jaxseg.data.labels import CAMVID, CITYSCAPES, SYNTHIA13, SYNTHIA16
from jaxseg.engine import memory
from jaxseg.errors import UserError
from jaxseg.evaluation.evaluator import Example
from jaxseg.report import paint
from jaxseg.run import images, predict, video

SEEN = []


def brightness(params, stats, memory, images):
    """Dark pixels are class 0, bright ones class 5, at half the size; almost certain."""
    SEEN.append(images.shape)
    bright = images[:, ::2, ::2].astype(jnp.float32).mean(-1) > 127
    classes = jnp.where(bright, 5, 0)
    return (classes[..., None] == jnp.arange(len(CAMVID.classes))) * params["gen"]


MODEL = {"params": {"gen": np.float32(50)}, "stats": {}, "memory": {}}


def halves(height, width):
    """Left half dark, right half bright."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, width // 2 :] = 250
    return image


def run(source, output, **options):
    lines = []
    done = predict.predict_folder(
        brightness, MODEL, source, output, label_set=CAMVID, announce=lines.append, **options
    )
    assert len(lines) == done.count + len(done.broken)
    output = Path(output)
    return sorted(str(p.relative_to(output)) for p in output.rglob("*.png"))


@pytest.mark.parametrize("size", [None, (16, 32)])
def test_pictures_have_the_size_of_the_image_and_hold_the_prediction(tmp_path, size):
    image = halves(40, 60)
    Image.fromarray(image).save(tmp_path / "street.png")
    SEEN.clear()
    names = run(tmp_path / "street.png", tmp_path / "out", size=size)
    kinds = ("color", "entropy", "id", "overlay")
    assert names == [f"street_{kind}.png" for kind in kinds]
    assert SEEN == [(1, *(size or (40, 60)), 3)]
    ids, colour, over, entropy = (
        np.asarray(Image.open(tmp_path / "out" / f"street_{kind}.png"))
        for kind in ("id", "color", "overlay", "entropy")
    )
    assert ids.shape == (40, 60) and ids.dtype == np.uint8
    assert (ids[:, :27] == 0).all() and (ids[:, 33:] == 5).all()
    np.testing.assert_array_equal(colour, np.array(CAMVID.palette, np.uint8)[ids])
    expected = 0.45 * image + 0.55 * colour
    np.testing.assert_allclose(over[:, :25], expected[:, :25], atol=0.51)
    np.testing.assert_array_equal(entropy[0, 0], paint.heat(np.zeros((1, 1)))[0, 0])


def test_a_folder_with_every_mode_and_equal_names(tmp_path):
    source = tmp_path / "in"
    (source / "more").mkdir(parents=True)
    picture = Image.fromarray(halves(12, 20))
    picture.save(source / "a.png")
    picture.save(source / "a.jpg")
    picture.convert("L").save(source / "more" / "grey.PNG")
    picture.convert("P").save(source / "palette.bmp")
    picture.convert("RGBA").save(source / "alpha.webp", lossless=True)
    deep = np.asarray(picture.convert("L")).astype(np.uint16) * 257
    Image.fromarray(deep).save(source / "deep.png")
    (source / "notes.txt").write_text("no image")
    names = run(source, source / "out")
    stems = ("a_jpg", "a_png", "alpha", "deep", "more/grey", "palette")
    assert [n for n in names if n.endswith("_id.png")] == [f"{stem}_id.png" for stem in stems]
    expected = np.asarray(Image.open(source / "out" / "a_png_id.png"))
    assert set(np.unique(expected)) == {0, 5}
    for stem in stems[2:]:
        np.testing.assert_array_equal(Image.open(source / "out" / f"{stem}_id.png"), expected)
    # A second run does not take its own pictures for input.
    assert run(source, source / "out") == names


def test_the_network_is_compiled_once_at_a_fixed_size(tmp_path):
    (tmp_path / "in").mkdir()
    sizes = [(12, 20), (20, 12), (16, 32), (33, 17)]
    for i, size in enumerate(sizes):
        Image.fromarray(halves(*size)).save(tmp_path / "in" / f"{i}.png")
    SEEN.clear()
    run(tmp_path / "in", tmp_path / "out", size=(16, 32))
    assert SEEN == [(1, 16, 32, 3)]
    for i, size in enumerate(sizes):
        assert np.asarray(Image.open(tmp_path / "out" / f"{i}_id.png")).shape == size


def test_input_and_output_in_each_other(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    Image.fromarray(halves(12, 20)).save(tmp_path / "in" / "a.png")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # an absolute output within a relative input
        assert len(run("in", tmp_path / "in" / "out")) == 4
    assert len(run("link", tmp_path / "in" / "out")) == 4
    for output in (tmp_path / "in", "in/out/..", "link"):
        with pytest.raises(UserError, match="--output=.* is the folder of --input"):
            run("in", output)
    assert len(list((tmp_path / "in").iterdir())) == 2
    assert "a_id.png" in run("in/a.png", tmp_path / "in")  # one file's pictures may lie beside it
    assert "a_id_id.png" in run("in/out", ".")  # the input within the output


@pytest.mark.parametrize("label_set", [CITYSCAPES, SYNTHIA16, SYNTHIA13], ids=lambda s: s.name)
def test_published_ids_go_by_class_name(label_set):
    table = predict.published_ids(label_set)
    # Ids of Cityscapes' own label table.
    known = {"road": 7, "sidewalk": 8, "sky": 23, "person": 24, "bus": 28, "bicycle": 33}
    for name, raw in known.items():
        assert table[label_set.classes.index(name)] == raw
    used = table[: len(label_set.classes)]
    assert len(set(used)) == len(used) and (table[len(used) :] == 255).all()
    # Read back as ground truth is read, they are the same classes.
    assert [CITYSCAPES.classes[CITYSCAPES.ids[raw]] for raw in used] == list(label_set.classes)


def test_submission_ids_are_written_at_the_size_of_the_image(tmp_path):
    Image.fromarray(halves(40, 60)).save(tmp_path / "street.png")
    table = np.full(256, 255, np.uint8)
    table[[0, 5]] = 7, 19
    names = run(tmp_path / "street.png", tmp_path / "out", size=(16, 32), published=table)
    assert "street_labelIds.png" in names and len(names) == 5
    ids, raw = (
        np.asarray(Image.open(tmp_path / "out" / f"street_{kind}.png"))
        for kind in ("id", "labelIds")
    )
    assert raw.dtype == np.uint8 and raw.shape == (40, 60)
    np.testing.assert_array_equal(raw, np.where(ids == 5, 19, 7))


def test_other_classes_cannot_be_submitted():
    with pytest.raises(UserError, match="no class 'Sky' of config.data.classes=camvid"):
        predict.published_ids(CAMVID)


def test_broken_images_are_told_and_the_others_done(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a", "z"):
        Image.fromarray(halves(12, 20)).save(tmp_path / "in" / f"{name}.png")
    data = (tmp_path / "in" / "a.png").read_bytes()
    (tmp_path / "in" / "b.png").write_bytes(data[: len(data) // 2])
    (tmp_path / "in" / "c.png").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    (tmp_path / "in" / "d.jpg").write_bytes(b"no image at all")
    (tmp_path / "in" / "e.jpg").symlink_to(tmp_path / "gone.jpg")
    done = predict.predict_folder(
        brightness, MODEL, tmp_path / "in", tmp_path / "out", label_set=CAMVID, announce=SEEN.append
    )
    assert done.count == 2 and len(done.broken) == 4
    for line, text in zip(
        done.broken,
        (
            "b.png: damaged image",
            "c.png: .*a Git LFS pointer",
            "d.jpg: .*no kind of image",
            "e.jpg: a link that leads nowhere",
        ),
        strict=True,
    ):
        assert re.search(text, line) and "BytesIO" not in line
    assert {p.name for p in (tmp_path / "out").glob("*_id.png")} == {"a_id.png", "z_id.png"}


def test_images_that_memory_is_short_for(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    Image.fromarray(halves(300, 400)).save(tmp_path / "in" / "a.png")
    Image.fromarray(halves(12, 20)).save(tmp_path / "in" / "b.png")

    def predicted(**options):
        return predict.predict_folder(
            brightness, MODEL, tmp_path / "in", tmp_path / "out", label_set=CAMVID, **options
        )

    monkeypatch.setattr(memory, "host_memory", lambda: 200_000)
    done = predicted(advise=lambda: "try less")
    assert done.count == 1 and (tmp_path / "out" / "b_id.png").exists()
    said = r"in/a\.png: predicting an image of 300x400 needs .* but 200 kB .* are free: try less"
    assert len(done.broken) == 1 and re.search(said, done.broken[0])
    # The size of all images is too much: nothing would follow.
    with pytest.raises(UserError, match=r"^predicting an image of 300x400 needs .*smaller images$"):
        predicted(size=(300, 400))
    # And when the allocator itself says so.
    error = jax.errors.JaxRuntimeError(
        "RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nmore"
    )
    monkeypatch.setattr(memory, "looked_at", lambda *_, **__: mock.Mock(side_effect=error))
    done = predicted()
    said = f"{tmp_path / 'in' / 'a.png'}: memory ran out (Out of memory allocating 9 bytes): give"
    assert done.count == 0 and done.broken[0].startswith(said)


def test_folders_patterns_and_links(tmp_path, monkeypatch):
    picture = Image.fromarray(halves(12, 20))
    for name in ("in/a.png", "in/deep/b.tif", "in/.hidden/c.png", "in/.d.png", "other/e.tiff"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        picture.save(tmp_path / name)
    (tmp_path / "in" / "link").symlink_to(tmp_path / "other")
    (tmp_path / "other" / "up").symlink_to(tmp_path / "in")  # the two lead to each other

    def names(given, output="out"):
        return [str(item.name) for item in images.find(str(given), tmp_path / output)]

    assert names(tmp_path / "in") == ["a", "deep/b", "link/e"]
    assert names(tmp_path / "in" / ".hidden") == ["c"]  # as it was asked for
    assert names(tmp_path / "in" / "*.png") == ["a"]
    assert names(tmp_path / "in" / "**" / "*.tif*") == ["deep/b", "link/e"]
    assert names(tmp_path / "*" / "*.*") == ["in/a", "other/e"]
    assert names(tmp_path / "in" / "d*") == ["b"]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert names("~/in/a.png") == ["a"]
    with pytest.raises(UserError, match=r"--input=.*\*.gif: no file fits this pattern"):
        names(tmp_path / "in" / "*.gif")


def test_a_page_shows_every_picture(tmp_path):
    (tmp_path / "in" / "a b").mkdir(parents=True)
    Image.fromarray(halves(12, 20)).save(tmp_path / "in" / "a b" / "<x>#.png")
    Image.fromarray(np.full((8, 8, 3), 250, np.uint8)).save(tmp_path / "in" / "bright.png")
    (tmp_path / "in" / "none.png").write_bytes(b"")
    run(tmp_path / "in", tmp_path / "out")
    text = (tmp_path / "out" / "index.html").read_text()
    page = Page(text)
    pictures = [p for p in page.sources if p.endswith(".png")]
    there = [tmp_path / "out" / urllib.parse.unquote(p) for p in pictures]
    assert len(set(there)) == 6 and all(path.exists() for path in there)
    assert "a b/<x>#" in page.texts and "2 pictures" in text
    # Half of one image is dark, none of the other: class 0 has a quarter, class 5 three quarters.
    sky, tree = CAMVID.classes[0], CAMVID.classes[5]
    assert f"{sky} <span class=faint>25.0 %" in text and f"{tree} <span class=faint>75.0 %" in text
    assert f"{sky} 50 %" in text and f"{tree} 100 %" in text
    assert "none.png: damaged image (an empty file: fetch it again)" in text


def write_video(path, frames, rate):
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=rate, options={"crf": "1"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                file.mux(packet)
        for packet in stream.encode():
            file.mux(packet)


def test_videos_are_painted_frame_by_frame(tmp_path, monkeypatch):
    dark, bright = (np.full((48, 64, 3), value, np.uint8) for value in (0, 250))
    (tmp_path / "in").mkdir()
    write_video(tmp_path / "in" / "drive.mp4", [dark, bright, bright], rate=5)
    (tmp_path / "in" / "torn.mp4").write_bytes((tmp_path / "in" / "drive.mp4").read_bytes()[:99])
    lines = []
    done = predict.predict_folder(
        brightness, MODEL, tmp_path / "in", tmp_path / "out", label_set=CAMVID,
        announce=lines.append,
    )  # fmt: skip
    assert done.count == 1 and "torn.mp4: damaged video (Invalid data" in done.broken[0]
    assert [p.name for p in (tmp_path / "out").glob("*.mp4")] == ["drive_overlay.mp4"]
    with av.open(str(tmp_path / "out" / "drive_overlay.mp4")) as file:
        frames = list(file.decode(video=0))
    assert [round(float(f.pts * f.time_base), 3) for f in frames] == [0, 0.2, 0.4]
    for frame, image, class_id in zip(frames, (dark, bright, bright), (0, 5, 5), strict=True):
        expected = paint.overlay(image, np.full((48, 64), class_id), CAMVID)
        shown = frame.to_ndarray(format="rgb24").astype(int)
        assert np.abs(shown - expected).mean() < 8  # colours are compressed
    assert "3 frames" in (tmp_path / "out" / "index.html").read_text()
    # Odd sizes are made even; without PyAV there is a remedy.
    assert video.painted(tmp_path / "in" / "drive.mp4", tmp_path / "o.mp4", lambda f: f[:47]) == 3
    monkeypatch.setattr(video, "available", lambda: False)
    with pytest.raises(UserError, match=r"pip install 'jaxseg\[video\]'"):
        video.painted(tmp_path / "in" / "drive.mp4", tmp_path / "o.mp4", lambda f: f)


def test_a_video_that_is_cut_off_is_told_and_painted_so_far(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (40, 48, 64, 3), np.uint8)
    write_video(tmp_path / "whole.mkv", noise, rate=5)
    data = (tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 2])
    assert video.painted(tmp_path / "whole.mkv", tmp_path / "whole.mp4", lambda f: f) == 40
    with pytest.raises(UserError, match=r"cut.mkv: cut off: .* after \d\.\d of 8\.0 s.*mp4"):
        video.painted(tmp_path / "cut.mkv", tmp_path / "cut.mp4", lambda f: f)
    with av.open(str(tmp_path / "cut.mp4")) as file:
        assert 15 < len(list(file.decode(video=0))) < 25


def test_errors_name_the_file(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such file or folder"):
        run(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "in").mkdir()
    with pytest.raises(UserError, match="no image in it"):
        run(tmp_path / "in", tmp_path / "out")
    Image.fromarray(halves(12, 20)).save(tmp_path / "in" / "a.png")
    run(tmp_path / "in", tmp_path / "out")
    with pytest.raises(UserError, match="cannot write into --output=.*a_id.png"):
        run(tmp_path / "in" / "a.png", tmp_path / "out" / "a_id.png")
    (tmp_path / "blocked" / "a_id.png").mkdir(parents=True)
    with pytest.raises(UserError, match="cannot write into --output=.*blocked: "):
        run(tmp_path / "in" / "a.png", tmp_path / "blocked")


def test_overlay_and_grid_by_hand():
    image = np.full((4, 6, 3), 100, np.uint8)
    label = np.full((4, 6), 3, np.uint8)
    label[:, 3:] = 255
    shown = paint.overlay(image, label, CAMVID, strength=0.5)
    np.testing.assert_array_equal(shown[0, 0], (100 + np.array(CAMVID.palette[3])) // 2)
    np.testing.assert_array_equal(shown[0, 5], [100, 100, 100])
    assert (shown[0, 3] > 180).all() or (shown[0, 3] == round(0.45 * 100 + 0.55 * 255)).all()
    pictures = paint.grid([[shown, shown], [shown]], ("one", "two"), width=30, gap=2)
    assert pictures.shape[1] == 2 * 32 + 2 and pictures.dtype == np.uint8
    lightness = paint.heat_palette() @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(lightness) >= 0).all() and lightness[-1] - lightness[0] > 200


def test_overlay_is_the_formula_in_floats():
    draw = np.random.default_rng(0)
    image = draw.integers(0, 256, (20, 30, 3)).astype(np.uint8)
    label = np.repeat(draw.choice([*range(11), 255, -1, 77], (20, 6)), 5, axis=1)
    known = (label >= 0) & (label < 11)
    colours = np.where(known[..., None], np.array(CAMVID.palette)[np.where(known, label, 0)], 0)
    mixed = 0.7 * image + 0.3 * colours
    mixed[label == 255] = image[label == 255]
    edge = np.zeros(label.shape, bool)
    edge[:, 1:] |= np.diff(label, axis=1) != 0
    edge[1:] |= np.diff(label, axis=0) != 0
    mixed[edge] = 0.45 * mixed[edge] + 0.55 * 255
    shown = paint.overlay(image, label, CAMVID, strength=0.3)
    np.testing.assert_array_equal(shown, mixed.round())


def test_saved_pictures_are_the_ids(tmp_path):
    draw = np.random.default_rng(0)
    image = draw.integers(0, 256, (24, 32, 3)).astype(np.uint8)
    label, prediction = (draw.integers(0, 11, (24, 32)).astype(np.uint8) for _ in range(2))
    entropy = draw.random((24, 32)).astype(np.float32)
    example = Example("one", image, label, prediction, entropy)
    shown = paint.save_pictures(tmp_path, 40, [example], CAMVID)
    assert shown.dtype == np.uint8 and shown.shape[1] == 4 * 326 + 6
    np.testing.assert_array_equal(Image.open(tmp_path / "0_truth.png"), label)
    folder = tmp_path / "00000040"
    np.testing.assert_array_equal(Image.open(folder / "0_prediction.png"), prediction)
    levels = np.asarray(Image.open(folder / "0_entropy.png"))
    np.testing.assert_allclose(levels / 255, entropy, atol=0.002)
    colours = np.asarray(Image.open(folder / "0_prediction.png").convert("RGB"))
    np.testing.assert_array_equal(colours, np.array(CAMVID.palette, np.uint8)[prediction])
    assert (folder / "panel.jpg").exists() and (tmp_path / "0_image.jpg").exists()
