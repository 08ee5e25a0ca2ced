"""The report of a made-up run that transforms images and predicts depth, and of one that does
neither."""

import json
import re

import numpy as np
import pytest
from kit.pages import Page, make_run

from jaxseg.data.labels import CAMVID
from jaxseg.engine.method import Method, Tile
from jaxseg.evaluation.evaluator import Example
from jaxseg.methods import gio_ada
from jaxseg.report import brought, charts, curves, depth, paint, paint_source
from jaxseg.report import page as report_page
from jaxseg.report import source as report_source
from jaxseg.report.paint_source import SourceExample
from jaxseg.storage import logs

SIZE = (16, 32)
TILES = {"transform/change": Tile("change of source images", "of 255")}
SOURCE, DEPTH = "Source images as the method changes them", "Depth on target images"


def errors(step):
    part = step / 1000
    known = {"abs_rel": 0.4 - part, "sq_rel": None, "rmse": 9 - part, "rmse_log": 0.5}
    within = {"delta1": 0.5 + part, "delta2": 0.8, "delta3": 0.9}
    return {**known, **within, "images": 4, "cap": 80.0}


def geometry_run(workdir, steps=(20, 40, 60), transforms=True, words=True):
    draw = np.random.default_rng(0)
    with logs.open_logs(workdir, announce=lambda text: None) as log:
        for step in range(5, 61, 5):
            values = {"loss/gen": 2 / step, "lr/gen": 0.02, "depth": 0.1}
            if transforms:
                values |= {"accuracy/input": 0.7, "accuracy/output": 0.6}
                values["transform/change"] = step / 10
            log.train(step, values)
            if step not in steps:
                continue
            iou = dict.fromkeys(CAMVID.classes, step / 100)
            scores = {"miou": 0.3, "pixel_accuracy": 0.8, "entropy": 0.1, "depth": errors(step)}
            log.evaluation(step, {"split": "val", **scores, "images": 4, "iou": iou})
            image = draw.integers(0, 256, (*SIZE, 3)).astype(np.uint8)
            label = draw.integers(0, 11, SIZE).astype(np.uint8)
            metres = draw.uniform(1, 90, SIZE).astype(np.float32)
            seen = [
                Example(f"<t{i}>", image, label, label, draw.random(SIZE), metres, truth)
                for i, truth in enumerate((metres, None))
            ]
            paint.save_pictures(workdir / "pictures", step, seen, CAMVID)
            if transforms:
                moved = image.astype(np.float32) + step / 10
                source = SourceExample("<s>", image, label, metres, moved, label, metres)
                paint_source.save_source_pictures(
                    workdir / "pictures", step, [source, source._replace(id="r")], CAMVID
                )
    if transforms and words:
        brought.write(workdir, Method(None, {}, None, titles=gio_ada.TITLES, tiles=TILES))
    return report_page.write_report(workdir)


def test_a_run_that_transforms_and_predicts_depth(tmp_path):
    text = geometry_run(tmp_path).read_text()
    page = Page(text)
    assert SOURCE in page.texts and DEPTH in page.texts
    # Target: 2 x 6 as ever, and image, truth (of the first) and two predictions of depth. Source:
    # 2 x (3 + 2 x 4), and the first over three evaluations.
    assert page.tags.count("img") == 2 * 8 + (4 + 3) + 2 * (3 + 2 * 4) + 3 * 4
    assert all(source.startswith("data:image/") for source in page.sources)
    told = next(x for x in page.texts if x.startswith("The method changes"))
    assert "2.0 of 255 grey levels at step 20 (100.0 % of" in told and "6.0 of 255" in told
    assert "step 40: changed by 4.0 grey levels, 100.0 % right" in page.texts
    assert "source image <s> and ground truth" in page.texts
    # Tiles: the error of depth, and how far images moved.
    assert {"0.340", "step 20: 0.380", "6.0", "mean, at most 6.0"} <= set(page.texts)


def test_the_table_of_depth(tmp_path):
    page = Page(geometry_run(tmp_path).read_text())
    at = page.texts.index("absolute relative error")
    rows = [text for text in page.texts[at:] if text]
    assert rows[:4] == ["absolute relative error", "0.380", "0.340", "-0.040"]
    assert rows[4:8] == ["squared relative error, m", "–", "–", "–"]
    at = rows.index("within a factor of 1.25, %")
    assert rows[at + 1 : at + 4] == ["52.0", "56.0", "+4.0"]
    text = (tmp_path / "report.html").read_text()
    # Less of an error and more of what is right are both for the better.
    assert "<td class=up>-0.040</td>" in text and "<td class=up>+4.0</td>" in text
    assert any("Means over 4 images with depth, true depth up to 80 m" in x for x in page.texts)
    assert any("80 m, logarithmic, black: none" in x for x in page.texts)


def test_the_curves_of_such_a_run(tmp_path):
    page = Page(geometry_run(tmp_path).read_text())
    assert {"Accuracy of the discriminators", "Depth, absolute relative error",
            "Change of source images, grey levels"} <= set(page.texts)  # fmt: skip
    # Scores, three of depth, loss, change, accuracy, depth loss, rate.
    assert page.tags.count("svg") == 1 + 3 + 5
    chart = curves.section(
        [{"kind": "train", "step": s, "accuracy/input": 0.7, "transform/change": 1.0}
         for s in (1, 2)], [], (0, 2), 0, {"transform": "Change"},
    )  # fmt: skip
    accuracy = chart.split("<figure>")[1]
    assert ">Change<" in chart
    assert accuracy.count("class=mark") == 2 and chart.count("class=mark") == 2


def test_a_run_from_before_methods_brought_titles(tmp_path):
    """Everything except the method's own titles is shown."""
    page = Page(geometry_run(tmp_path, words=False).read_text())
    assert SOURCE in page.texts and page.tags.count("svg") == 1 + 3 + 5
    assert {"transform", "Accuracy of the discriminator"} <= set(page.texts)
    assert "change of source images" not in page.texts


def test_levels_are_reached_and_marked():
    text = charts.chart("x", {"a": [(0, 0.7), (1, 0.8)]}, (0, 1), levels=(0.5, 1.0))
    marks = [float(y) for y in re.findall(r'class=mark x1="46" x2="410" y1="([\d.]+)"', text)]
    # The axis goes from 0.4 to 1, with a tick at 1 and none at 0.5, which therefore has a label.
    bottom, top = charts.HEIGHT - charts.BOTTOM, charts.TOP
    assert marks == pytest.approx([bottom - (bottom - top) / 6, top], abs=0.06)
    assert text.count(">0.5</text>") == 1 and text.count(">1</text>") == 2


def test_depth_without_a_transform_or_a_truth(tmp_path):
    page = Page(geometry_run(tmp_path, transforms=False).read_text())
    assert DEPTH in page.texts and SOURCE not in page.texts
    last = {"step": 60}
    assert "<table" not in depth.section(tmp_path, last, last)
    assert depth.section(tmp_path, last, last).count("<img") == 2 + 1 + 2


def test_one_evaluation(tmp_path):
    page = Page(geometry_run(tmp_path, steps=(60,)).read_text())
    assert "The first image over time" not in page.texts and "step 60: 0.340" not in page.texts
    assert page.tags.count("img") == 2 * 5 + (3 + 2) + 2 * (3 + 4)


def test_many_evaluations_are_thinned(tmp_path):
    page = Page(geometry_run(tmp_path, steps=range(5, 61, 5)).read_text())
    at = page.texts.index("The first image over time")
    times = [int(t.split()[1][:-1]) for t in page.texts[at:] if t.startswith("step ") and "ch" in t]
    assert len(times) == report_source.TIMES and times[0] == 5 and times[-1] == 60


def test_more_pictures_since_the_run_was_resumed(tmp_path):
    geometry_run(tmp_path)
    path = tmp_path / "pictures" / "00000020" / paint_source.INDEX
    path.write_text(json.dumps({"change": [1.0], "right": [None]}))
    page = Page(report_page.write_report(tmp_path).read_text())
    assert "step 20" in page.texts and "step 20: changed by 1.0 grey levels" in page.texts


def test_other_runs_have_none_of_it(tmp_path):
    text = make_run(tmp_path).read_text()
    page = Page(text)
    assert not {SOURCE, DEPTH, "Warnings", "Accuracy of the discriminators"} & set(page.texts)
    body = text.split("</style>")[1]
    assert not any(word in body for word in ("blocks", "warnings", "depth", "grey levels"))


@pytest.mark.parametrize("count", [1, report_page.WARNINGS + 3])
def test_warnings(tmp_path, count):
    with logs.open_logs(tmp_path, announce=lambda text: None) as log:
        for step in range(1, count + 1):
            log.train(step, {"loss/gen": 1.0})
            log.warning(step, "accuracy/input is <1>")
    page = Page(report_page.write_report(tmp_path).read_text())
    assert "Warnings" in page.texts and "step 1" in page.texts
    assert page.texts.count("accuracy/input is <1>") == min(count, report_page.WARNINGS)
    assert any("and 3 more" in text for text in page.texts) == (count > 1)
