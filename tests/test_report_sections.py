"""The sections of a report from made-up numbers: what stands in them, by hand."""

import io
import json
import re

import numpy as np
import pytest
from kit.pages import Page, make_run
from PIL import Image

from jaxseg.data.labels import CAMVID
from jaxseg.evaluation.evaluator import Example
from jaxseg.report import (
    beside,
    charts,
    classes,
    confusion,
    errors,
    headline,
    paint,
    paint_examples,
    pictures,
    provenance,
)
from jaxseg.storage import logs

CONFIG = {
    "data": {
        "source": {"name": "streets", "options": {"domain": "rendered"}},
        "target": {"name": "streets", "val_split": "val", "options": {"domain": "photographic"}},
        "classes": "cityscapes",
    },
    "net": {"architecture": "fpn", "backbone": "small", "statistics": "target"},
    "train": {"steps": 60, "batch": 4, "warmup_steps": 20},
    "method": {"name": "advent"},
    "seed": 0,
}


def other(role, **changes):
    config = json.loads(json.dumps(CONFIG))
    config["method"]["name"] = "source_only"
    config["net"]["statistics"] = "source"
    config["train"]["warmup_steps"] = 0
    if role in ("few", "oracle"):
        config["data"]["source"] = config["data"]["target"]
        config["data"]["source_share"] = 0.05 if role == "few" else 0.0
    for path, value in changes.items():
        group, key = path.split("__")
        config[group][key] = value
    return config


def write(folder, config, scores):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    with logs.open_logs(folder) as log:
        for step, miou in scores.items():
            log.evaluation(step, {"miou": miou, "images": 4, "iou": {}, "split": "val"})


@pytest.fixture
def runs(tmp_path):
    """A run of 60 steps beside others that can, and cannot, be compared with it."""
    make_run(tmp_path / "advent")
    (tmp_path / "advent/config.json").write_text(json.dumps(CONFIG))
    write(tmp_path / "so_0", other(""), {20: 0.1, 60: 0.25})
    write(tmp_path / "sweep/member_00", other(""), {60: 0.27})
    write(tmp_path / "few", other("few"), {60: 0.5})
    write(tmp_path / "oracle", other("oracle"), {60: 0.6})
    write(tmp_path / "short", other("", train__steps=30), {30: 0.2})
    write(tmp_path / "interrupted", other(""), {20: 0.9})
    write(tmp_path / "larger_net", other("", net__backbone="resnet101"), {60: 0.9})
    write(tmp_path / "other_classes", other("", data__classes="camvid"), {60: 0.9})
    write(tmp_path / "another_advent", CONFIG, {60: 0.9})
    (tmp_path / "no_run").mkdir()
    return tmp_path


def test_what_is_found_beside_a_run(runs):
    found = beside.find(runs / "advent", CONFIG)
    assert [(f.role, f.steps, sorted(f.folders)) for f in found] == [
        (beside.SOURCE, 60, ["so_0", "sweep/member_00"]),
        (beside.SOURCE, 30, ["short"]),
        (beside.FEW, 60, ["few"]),
        (beside.ORACLE, 60, ["oracle"]),
    ]
    assert found[0].mean == pytest.approx(0.26)
    assert found[0].deviation == pytest.approx(0.01 * 2**0.5)  # of 0.25 and 0.27, n - 1
    assert beside.equal_source(found, 60) is found[0]
    assert beside.equal_source(found, 40) is None


def test_the_headline_compares_with_the_same_number_of_steps(runs):
    from jaxseg.report import page

    texts = Page(page.write_report(runs / "advent").read_text()).texts
    # 47 % at step 60, 26.0 % by the source alone.
    assert "mIoU of source only" in texts and "the same 60 steps, 2 seeds" in texts
    assert "step 60: +21.0 points" in texts and "mIoU before" not in texts
    at = texts.index("To compare with")
    table = " ".join(text for text in texts[at:] if text)
    assert "source only 60 26.0 ± 1.4 -21.0 so_0, sweep/member_00" in table
    assert "source only 30 20.0 -27.0 short; not the same number of steps" in table
    assert "a few labels of the target 60 50.0 +3.0 few" in table
    assert "this run before adaptation 20 31.0 -16.0 end of the warm-up, a third of" in table


@pytest.mark.parametrize(
    ("step", "last", "warmup", "told"),
    [
        (350, 700, 350, "end of the warm-up, half the training"),
        (70, 210, 70, "end of the warm-up, a third of the training"),
        (100, 700, 100, "end of the warm-up, 14 % of the training"),
        (50, 700, 100, "within the warm-up, 7 % of the training"),
        (140, 700, 0, "first evaluation"),
    ],
)
def test_what_the_earlier_evaluation_is(step, last, warmup, told):
    assert headline.stage({"step": step}, {"step": last}, warmup) == told


def test_a_supervised_run_is_not_told_as_an_adaptation(tmp_path):
    from jaxseg.report import page

    make_run(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(other("oracle")))
    (tmp_path / "selection.json").write_text(json.dumps({"evaluations": 3}))
    texts = Page(page.write_report(tmp_path).read_text()).texts
    assert "streets (photographic), with its labels" in " ".join(texts)
    told = ("Choosing a snapshot without target labels", "mIoU before", "change", "source only")
    assert not set(told) & set(texts)
    assert "Predictions on validation images" in texts


def test_without_target_labels(tmp_path):
    from jaxseg.report import page

    make_run(tmp_path, labelled=False)
    text = page.write_report(tmp_path).read_text()
    texts = Page(text).texts
    assert (
        "ground truth" not in texts and "errors" not in texts and "IoU of each class" not in texts
    )
    assert "mIoU at the last step" not in texts and "mean entropy" in texts
    assert "– %" not in " ".join(texts) and "prediction" in texts and "overlay" in texts
    assert any("no target labels, so nothing is scored" in told for told in texts)


def test_tiles_without_target_labels():
    before = {"step": 4, "miou": None, "entropy": 0.5, "source_miou": 0.25, "agreement": None}
    last = {"step": 8, "miou": None, "entropy": 0.4, "source_miou": 0.375, "agreement": 0.75,
            "predicted": {"road": 0.6, "sky": 0.3985, "car": 0.001, "bus": 0.0005}}  # fmt: skip
    text = headline.tiles(before, last, last, 4, [])
    texts = [t.strip() for t in Page(f"<div>{text}</div>").texts if t.strip()]
    for value, note in (("40.0", "step 4: 50.0 %"), ("37.5", "step 4: 25.0 %")):
        assert value in texts and note in texts
    assert "75.0" in texts and texts[texts.index("3") + 1] == "of 4"
    assert "agreement" not in texts and "– %" not in text


def test_a_prediction_over_its_photograph(tmp_path):
    Image.fromarray(np.full((8, 8, 3), 200, np.uint8)).save(tmp_path / "a.jpg", quality=100)
    ids = Image.fromarray(np.ones((16, 16), np.uint8))
    ids.putpalette([0, 0, 0, 100, 0, 200])
    ids.save(tmp_path / "b.png")
    found = Image.open(io.BytesIO(errors.overlaid(tmp_path / "a.jpg", tmp_path / "b.png", 0.25)))
    assert found.size == (16, 16)
    np.testing.assert_allclose(np.asarray(found)[4, 4], (175, 150, 200), atol=4)
    assert errors.overlaid(tmp_path / "a.jpg", tmp_path / "no.png") is None


COUNTS = {"classes": ["road", "sky", "<car>"], "pixels": [[80, 0, 20], [0, 0, 0], [50, 0, 50]]}


def test_confusion_by_hand():
    text = confusion.section({"confusion": COUNTS}, {"road": (1, 2, 3)})
    page = Page(f"<div>{text}</div>")
    assert "not in the ground truth" in page.texts
    cells = [t for t in page.texts if t in ("80", "20", "50")]
    assert cells == ["80", "20", "50", "50"]
    told = " ".join(t for t in page.texts if t)
    assert (
        "<car> is predicted as road: 50.0 %" in told
        and "road is predicted as <car>: 20.0 %" in told
    )
    assert confusion.predicted({"confusion": COUNTS}) == {"road": 0.65, "sky": 0.0, "<car>": 0.35}
    assert confusion.section({}, {}) == "" and confusion.predicted({}) == {}


@pytest.mark.parametrize("right", [True, False])
def test_every_cell_of_the_matrix_has_the_contrast_of_aa(right):
    for share in np.linspace(0, 1, 201):
        cell = confusion._cell("a", "b", share, 1, right)
        red, green, blue, ink = re.search(r"rgb\((\d+), (\d+), (\d+)\);color:#(\w+)", cell).groups()
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
                  for c in (int(part) / 255 for part in (red, green, blue))]  # fmt: skip
        light = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        contrast = 1.05 / (light + 0.05) if ink == "fff" else (light + 0.05) / 0.05
        assert contrast >= 4.5, (share, cell)


def test_shares_of_pixels_stand_in_the_table_of_classes():
    last = {"step": 9, "miou": 0.5, "iou": {"road": 0.6, "sky": None, "<car>": 0.4},
            "pixels": {"road": 0.5, "sky": 0.0, "<car>": 0.005}, "confusion": COUNTS}  # fmt: skip
    texts = Page(f"<div>{classes.section(last, last, last, {})}</div>").texts
    row = [t for t in texts[texts.index("<car>") :] if t]
    assert row[:4] == ["<car>", "40.0", "0.50", "35.0"]
    assert "pixels" in texts and "predicted" in texts and "change" not in texts


def test_errors_by_hand(tmp_path):
    truth = np.array([[0, 1, 255], [2, 2, 2]], np.uint8)
    call = np.array([[0, 2, 1], [2, 1, 2]], np.uint8)
    for name, ids in (("t.png", truth), ("p.png", call), ("small.png", call[:1])):
        paint.save_indexed(tmp_path / name, ids, paint.palette_of(CAMVID), ids.shape[::-1])
    data, share = errors.error_map(tmp_path / "t.png", tmp_path / "p.png")
    assert share == pytest.approx(2 / 5)
    right, wrong, unlabelled = paint.ERRORS
    expected = [[right, wrong, unlabelled], [right, wrong, right]]
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")), expected)
    assert errors.error_map(tmp_path / "t.png", tmp_path / "missing.png") == (None, None)
    assert errors.error_map(tmp_path / "t.png", tmp_path / "small.png") == (None, None)


def test_worst_and_best_images(tmp_path):
    draw = np.random.default_rng(0)
    ranked = []
    for score in (0.1, 0.2, 0.7, 0.9):
        image = draw.integers(0, 256, (8, 16, 3)).astype(np.uint8)
        label = draw.integers(0, 11, (8, 16)).astype(np.uint8)
        ranked.append((score, Example(f"of {score}", image, label, label, draw.random((8, 16)))))
    paint_examples.save_extremes(tmp_path / "pictures", 40, ranked, CAMVID)
    last = {"step": 40, "images": 9}
    texts = Page(f"<div>{pictures.extremes(tmp_path, last)}</div>").texts
    told = [t for t in texts if t.startswith("of 0") or t in ("Worst", "Best")]
    assert told == ["Worst", "of 0.1", "of 0.2", "Best", "of 0.9", "of 0.7"]
    assert "mIoU of this image 90.0 %" in texts
    assert pictures.extremes(tmp_path, {"step": 60, "images": 9}) == ""  # of another evaluation


def test_where_a_run_comes_from(tmp_path):
    made = {
        "command": "jaxseg train --config=advent",
        "versions": {"jax": "0.1<2", "numpy": "3"},
        "commit": "",
    }
    (tmp_path / "initial_weights.txt").write_text("initial weights: lite0, sha256 ab\n\nmatched\n")
    texts = Page(f"<div>{provenance.section(tmp_path, {'made': made})}</div>").texts
    assert "jaxseg train --config=advent" in texts
    assert texts[texts.index("versions") + 1] == "jax 0.1<2, numpy 3" and "commit" not in texts
    assert texts[texts.index("initial weights") + 1] == "lite0, sha256 ab"
    assert "versions" not in provenance.settings({"made": made, "seed": 3})
    (tmp_path / "initial_weights.txt").unlink()
    assert provenance.section(tmp_path, {}) == ""


def test_losses_are_logarithmic_where_they_span_a_factor():
    falling = {"a": [(1, 8.0), (2, 0.5)]}
    text = charts.chart("x", falling, (0, 2), log=3)
    ticks = [t for t in Page(f"<div>{text}</div>").texts if t]
    assert {"0.5", "1", "2", "5"} <= set(ticks)
    # log: 2 lies halfway between 8 and 0.5, at the middle of the drawing.
    middle = charts.chart("x", {"a": [(1, 8.0), (1.5, 2.0), (2, 0.5)]}, (0, 2), log=3)
    height = (charts.TOP + charts.HEIGHT - charts.BOTTOM) / 2
    assert f" {height:.1f}L" in middle
    assert 'data-values="1,8 2,0.5"' in text and 'data-name="a"' in text
    flat = charts.chart("x", {"a": [(1, 2.0), (2, 1.0)]}, (0, 2), log=3)
    assert flat == charts.chart("x", {"a": [(1, 2.0), (2, 1.0)]}, (0, 2))
