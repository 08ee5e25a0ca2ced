"""The benchmark of evaluation: our side on a tiny network, and the message about unequal work."""

import sys

import numpy as np
import pytest

from benchmarks import evaluation, jax_evaluation

TINY = dict(backbone="small", size=(33, 65), label_size=(48, 96), scales=(1.0,), flip=False)


@pytest.fixture(scope="module")
def sides():
    return {
        mode: jax_evaluation.prepared(dict(TINY, mode=mode)) for mode in ("evaluate", "predict")
    }


def test_evaluation_and_prediction_do_the_same(sides):
    found = {mode: side[0](show=True) for mode, side in sides.items()}
    evaluated, predicted = found["evaluate"], found["predict"]
    assert len(np.unique(predicted["prediction"])) > 2
    assert (evaluated["prediction"] == predicted["prediction"]).mean() > 0.999
    np.testing.assert_allclose(evaluated["entropy"], predicted["entropy"], atol=1e-4)
    label = sides["evaluate"][1]["label"]
    assert evaluated["counts"].sum() == (label != 255).sum() > 0
    assert evaluated["counts"].shape == (19, 19) and "counts" not in predicted
    assert sides["evaluate"][0]() is None  # timed turns hand nothing over


def test_the_other_side_is_told_all_that_it_needs(sides):
    _, arrays, facts = sides["predict"]
    stem = arrays["gen/segmenter/backbone/conv1/kernel"]
    assert stem.shape == (7, 7, 3, 32) and stem.dtype == np.float32
    assert arrays["segmenter/backbone/bn1/var"].min() > 0
    assert facts["rates"] == [6, 12, 18, 24] and facts["sizes"]["stem"] == 32
    assert arrays["image"].shape == (33, 65, 3) and arrays["image"].dtype == np.uint8


def test_scores_that_are_not_of_the_class_map_are_refused():
    counts = np.array([[6, 2], [0, 2]])
    right = {"iou": {"road": 6 / 8, "sky": 2 / 4}}
    jax_evaluation.checked(right, counts, ("road", "sky"))
    with pytest.raises(ValueError, match="IoU of sky"):
        jax_evaluation.checked({"iou": right["iou"] | {"sky": 0.51}}, counts, ("road", "sky"))


def test_without_pytorch_it_says_what_to_do(capsys):
    python = sys.executable.replace("python", "no_such_python")
    assert evaluation.main([f"--torch_python={python}"]) == 2
    told = capsys.readouterr().err
    assert "has no PyTorch: pip install -e '.[bench]'" in told and told.count("\n") == 1


@pytest.mark.parametrize("apart", [dict(pixels=0.01, counts=0.0), dict(pixels=float("nan"))])
def test_unequal_work_is_told(apart, capsys):
    args = evaluation.arguments(["--size=tiny"])
    job = evaluation.job_of(args, "folder")
    assert not evaluation.report_work(args, job, {"classes_seen": 3}, {"apart": apart})
    assert "NOT THE SAME WORK" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "said"),
    [("--scales=0,1", "factors above 0"), ("--scales=a", "a"), ("--images=0", "give 1 or more")],
)
def test_settings_that_make_no_sense_are_refused(flag, said, capsys):
    with pytest.raises(SystemExit, match="2"):
        evaluation.arguments([flag])
    assert said in capsys.readouterr().err


def test_the_modes_differ_in_protocol_only():
    jobs = {
        mode: evaluation.job_of(evaluation.arguments([f"--mode={mode}"]), "folder")
        for mode in ("single", "scales", "predict")
    }
    differ = {key for key in jobs["single"] if len({str(job[key]) for job in jobs.values()}) > 1}
    assert differ == {"mode", "scales", "flip", "entropy"}
    assert jobs["scales"]["scales"] == (0.5, 1.0) and jobs["scales"]["flip"]
    assert not jobs["single"]["entropy"] and jobs["predict"]["entropy"]


def test_the_ratio_is_the_last_line(capsys):
    turns = [dict(seconds=s, core_seconds=2 * s) for s in (1.0, 3.0, 2.0)]
    slower = [dict(seconds=3 * t["seconds"], core_seconds=t["core_seconds"]) for t in turns]
    sides = [dict(name=name, first_step=1.0) for name in ("ours", "theirs")]
    evaluation.report_times(sides, (turns, slower), [2**20, 2**21])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("ours: median 2000 ms an image (fastest 1000, 3 turns)")
    assert lines[-2:] == ["by the time of all cores 1.00x", "3.00x"]
