"""The report of a made-up run, parsed as a browser would; ticks and thinning by hand."""

import json

import numpy as np
import pytest
from kit.pages import Page, make_run

from jaxseg.evaluation import selection
from jaxseg.report import brought, charts
from jaxseg.report import page as report_page
from jaxseg.report import selection as report_selection
from jaxseg.storage import logs, results


def test_a_whole_run(tmp_path):
    config = {"name": "advent_<toy>", "seed": 3, "train": {"warmup_steps": 30, "size": [16, 32]}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    results.write_json(tmp_path / "results.json", {"step": 40, "miou": 0.52})
    page = Page(make_run(tmp_path).read_text())
    texts = page.texts
    assert "advent_<toy>" in texts and "train.warmup_steps" in texts and "[16, 32]" in texts
    # Before: the last evaluation of the warm-up; last and best are told apart.
    assert {"31.0", "47.0", "52.0"} <= set(texts)
    assert "end of the warm-up, a third of the training" not in texts
    assert "within the warm-up, a third of the training" in texts
    assert "step 40, chosen with target labels" in texts
    assert "+16.0" in texts and "+40.0" in texts
    # Two images, each with photograph, truth, and prediction, errors and entropy before and after.
    assert page.tags.count("img") == 2 * 8
    assert all(source.startswith("data:image/") for source in page.sources)
    assert page.layers.count("prediction, step 20") == page.layers.count("entropy, step 60") == 2
    # Evaluation, two losses, adversarial, learning rates, speed.
    assert page.tags.count("svg") == 6 and page.tags.count("script") == 1
    assert "Loss of the discriminator" in texts and "Learning rates" in texts
    assert any("results.json holds the evaluation of step 40" in text for text in texts)
    # A method without a warm-up is not told to have one, whatever the config has for others.
    (tmp_path / brought.FILE).write_text('{"warms_up": false}')
    texts = Page(report_page.write_report(tmp_path).read_text()).texts
    assert "this run before adaptation" not in texts and "mIoU before" not in texts
    assert not any("end of the warm-up" in text or "within the" in text for text in texts)


def test_one_evaluation_and_nothing_else(tmp_path):
    page = Page(make_run(tmp_path, steps=(60,), pictures=0).read_text())
    assert "mIoU before" not in page.texts and "img" not in page.tags
    assert "47.0" in page.texts and tmp_path.name in page.texts


def test_no_evaluation_yet(tmp_path):
    page = Page(make_run(tmp_path, steps=()).read_text())
    assert page.tags.count("svg") == 5 and "table" not in page.tags


def test_choosing_a_snapshot_without_target_labels(tmp_path):
    make_run(tmp_path)
    # Without selection.json (a run that is not finished) the section is left out.
    title = "Choosing a snapshot without target labels"
    assert title not in Page((tmp_path / "report.html").read_text()).texts
    with logs.open_logs(tmp_path, resume_step=60) as log:
        for i, e in enumerate(logs.evaluations(tmp_path)):
            log.evaluation(e["step"], {**e, "source_miou": 0.7 - i / 10, "agreement": None})
    lines = [line for line in logs.read(tmp_path) if "agreement" in line or line["kind"] == "train"]
    (tmp_path / logs.FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
    comparison = selection.compare(logs.evaluations(tmp_path), since=20)
    results.write_json(tmp_path / "selection.json", comparison)
    page = Page(report_page.write_report(tmp_path).read_text())
    assert title in page.texts
    at = page.texts.index("source validation mIoU")
    row = [text for text in page.texts[at:] if text][:6]
    # Source mIoU only falls; target mIoU is 31, 52 and 47 %.
    assert row == ["source validation mIoU", "20", "70.0 %", "31.0", "21.0", "-0.50"]
    assert "agreement with the one before" not in page.texts
    assert any("3 evaluations from the end of the warm-up on, step 20" in x for x in page.texts)
    assert "--step=source_miou" in page.texts and "--step=agreement" not in page.texts
    at = page.texts.index("target labels")
    assert [text for text in page.texts[at:] if text][1:3] == ["40", "52.0"]
    # Target mIoU, source mIoU and entropy, each with a ring where it would choose.
    assert page.tags.count("svg") == 6 + 3
    text = (tmp_path / "report.html").read_text()
    assert text.count("<circle class=ring") == 3
    assert "Source validation mIoU, %" in page.texts and "Mean entropy, %" in page.texts


def test_one_snapshot_is_no_choice():
    one = selection.compare([{"step": 5, "miou": 0.5, "entropy": 0.2}])
    assert report_selection.section(one, [], (0, 5), 0) == ""
    assert report_selection.section({}, [], (0, 5), 0) == ""


def test_before_is_the_end_of_the_warm_up_or_the_first():
    evaluations = [{"step": 10}, {"step": 20}, {"step": 30}]
    assert report_page.before_adaptation(evaluations, 25)["step"] == 20
    assert report_page.before_adaptation(evaluations, 5)["step"] == 10
    assert report_page.before_adaptation([], 5) is None


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 100, [0, 25, 50, 75, 100]),
        (0.13, 0.58, [0, 0.2, 0.4, 0.6]),
        (-3, 7, [-5, -2.5, 0, 2.5, 5, 7.5]),
        (5, 5, [4.5, 4.75, 5, 5.25, 5.5]),
    ],
)
def test_ticks(low, high, expected):
    np.testing.assert_allclose(charts.nice_ticks(low, high), expected)


def test_thinning_keeps_the_mean_and_the_end():
    line = [(i, float(i % 2)) for i in range(1001)]
    thinned = charts.thin(line, 101)
    assert len(thinned) <= 101 and thinned[-1] == line[-1]
    np.testing.assert_allclose([y for _, y in thinned[:-1]], 0.5)
    assert charts.thin(line[:50], 101) == line[:50]


def test_values_that_are_not_numbers_are_left_out():
    text = charts.chart("x", {"a": [(0, float("nan")), (1, 2.0)], "b": []}, (0, 2))
    assert "nan" not in text and text.count("<path") == 1
    assert charts.chart("x", {"a": []}, (0, 1)) == ""
