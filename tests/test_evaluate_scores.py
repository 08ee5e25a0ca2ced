"""Everything that an evaluation reports, from files to results.json, against cityscapesScripts and
(depth) float64 NumPy on the same images; equal for any number of devices and processes."""

import concurrent.futures
import io
import json
import math
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kit.runs import write_run
from kit.scenes import EVERYTHING, SCORED, TRAIN, by_cityscapes, scene
from kit.small import small_config
from PIL import Image
from rich.console import Console

from jaxseg.data import codec, labels, pipeline, records
from jaxseg.engine import gather as engine_gather
from jaxseg.errors import UserError
from jaxseg.evaluation import results
from jaxseg.evaluation.evaluator import make_evaluator
from jaxseg.evaluation.metrics import boundary, cityscapes, confusion
from jaxseg.experiment import batches, check, method, restore
from jaxseg.experiment.finished import Wanted
from jaxseg.run import evaluate as run_evaluate

CLASSES = labels.CITYSCAPES.classes
TO_ID = np.asarray(TRAIN.ids, np.uint8)
NO_MODEL = ({}, {}, {})
OFFICIAL = {  # our key: by class, its mean, theirs
    "iou": ("miou", "classScores", "averageScoreClasses"),
    "iiou": ("miiou", "classInstScores", "averageScoreInstClasses"),
    "category_iou": ("category_miou", "categoryScores", "averageScoreCategories"),
    "category_iiou": ("category_miiou", "categoryInstScores", "averageScoreInstCategories"),
}


@pytest.fixture(autouse=True)
def numpy_before_2_4(monkeypatch):
    if not hasattr(np, "in1d"):
        monkeypatch.setattr(np, "in1d", lambda a, b: np.isin(np.ravel(a), b), raising=False)


def train_ids(ids):
    table = np.full(256, 255, np.uint8)
    table[TO_ID] = np.arange(19)
    return table[ids]


def write(root, scenes):
    """Writes the scenes in Cityscapes' layout; an image's red channel holds its prediction."""
    for i, (label, instances, prediction) in enumerate(scenes):
        for kind, array in (
            ("leftImg8bit/val/ulm/{}_leftImg8bit.png", spread(prediction)),
            ("gtFine/val/ulm/{}_gtFine_labelIds.png", label),
            ("gtFine/val/ulm/{}_gtFine_instanceIds.png", instances),
        ):
            path = root / "cityscapes" / kind.format(f"ulm_{i:06d}_000019")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)


def spread(prediction):
    return np.stack([10 * train_ids(prediction), 0 * prediction, 255 - prediction], -1)


def read_off(params, stats, memory, images):
    """Logits for the classes in an image's red channel."""
    return 9.0 * jax.nn.one_hot(images[..., 0] // 10, 19)


def equals_the_official(found, expected):
    for key, (mean, theirs, their_mean) in OFFICIAL.items():
        assert found[mean] == expected[their_mean], mean
        for name, value in found[key].items():
            other = expected[theirs][name]
            assert value == (None if np.isnan(other) else other), name
    matrix = np.asarray(expected["confMatrix"])
    assert found["pixel_accuracy_all"] == np.trace(matrix) / np.sum(matrix)


@pytest.fixture(scope="module")
def scenes():
    return [scene((5, i), EVERYTHING, SCORED) for i in range(5)]


@pytest.fixture(scope="module")
def source(scenes, tmp_path_factory):
    root = tmp_path_factory.mktemp("scenes")
    write(root / "raw", scenes)
    return records.open_split("cityscapes", "val", records_dir=root, raw_dir=root / "raw")


def stream(source, batch, shard=(0, 1), keys=("instances",)):
    return pipeline.eval_batches(source, size=None, batch=batch, shard=shard, keys=keys, threads=0)


def together(count, work, monkeypatch):
    """[work(0), work(1), ...], run as processes that gather from each other."""
    barrier, sent, own = threading.Barrier(count, timeout=60), [None] * count, threading.local()

    def gather(array):
        sent[own.index] = np.array(array)
        barrier.wait()
        everything = np.stack(sent)  # fails unless all are of one shape
        barrier.wait()
        return everything

    def run(index):
        own.index = index
        return work(index)

    with monkeypatch.context() as patched:
        patched.setattr(jax, "process_count", lambda: count)
        patched.setattr(engine_gather.multihost_utils, "process_allgather", gather)
        with concurrent.futures.ThreadPoolExecutor(count) as pool:
            return [each.result() for each in [pool.submit(run, i) for i in range(count)]]


# With seed 5 even the order in which objects are added up shows in the last digit.
def test_equal_to_cityscapes_scripts_whatever_the_devices(scenes, source, tmp_path):
    expected = by_cityscapes(tmp_path, scenes)
    for devices, batch in ((1, 5), (1, 2), (2, 3)):
        evaluator = make_evaluator(read_off, 19, jax.local_devices()[:devices], boundary=True)
        found, _ = evaluator(*NO_MODEL, stream(source, batch), CLASSES)
        equals_the_official(found, expected)
    edges = boundary.BoundaryCounts(*np.zeros((3, 19), np.int64))
    total = np.zeros((19, 19), np.int64)
    for label, _, prediction in scenes:
        label, prediction = train_ids(label), train_ids(prediction)
        total += np.asarray(confusion.confusion(prediction, label, 19))
        counts = boundary.boundary_counts(prediction, label, 19)
        edges = boundary.add(edges, counts)
    wanted = boundary.scores(edges, CLASSES)
    assert {key: found[key] for key in wanted} == wanted
    assert found["mean_class_accuracy"] == confusion.mean(confusion.class_accuracy(total))
    assert list(found["class_accuracy"]) == list(CLASSES)
    assert found["frequency_weighted_iou"] == confusion.frequency_weighted_iou(total)
    # What was there before is what it was.
    assert found["miou"] == confusion.mean_iou(total)
    assert found["pixel_accuracy"] == confusion.pixel_accuracy(total)
    assert found["pixels"]["road"] == total[0].sum() / total.sum()
    # Numbers first, then what goes by class.
    assert [isinstance(v, dict) for v in found.values()] == sorted(
        isinstance(v, dict) for v in found.values()
    )
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("images", [5, 1])
def test_two_processes_add_up_as_one(images, scenes, source, monkeypatch):
    """The second process has one image fewer, or none at all."""
    few = [source[i] for i in range(images)]

    class Few:
        def __len__(self):
            return images

        def __getitem__(self, index):
            return few[index]

        def __getattr__(self, name):
            return getattr(source, name)

    def depth(params, stats, memory, images):
        return images[..., 2] / 5.0

    def work(index, count):
        evaluator = make_evaluator(
            read_off, 19, [jax.local_devices()[index]], boundary=True, depth=depth
        )
        data = list(stream(Few(), 1, (index, count)))
        for batch in data:
            names = [int(name.split("_")[1]) if name else 0 for name in batch["id"]]
            batch["depth"] = np.stack([true_depth(n, (48, 64)) for n in names])
        return evaluator(*NO_MODEL, data, CLASSES)[0]

    alone = work(0, 1)
    assert alone["images"] == alone["depth"]["images"] == images and "iiou" in alone
    for each in together(2, lambda index: work(index, 2), monkeypatch):
        assert each == alone


def test_rows_come_in_the_order_of_the_images(monkeypatch):
    draw = np.random.default_rng(0)
    rows = [draw.integers(0, 9, (draw.integers(0, 4), 2)) for _ in range(11)]
    expected = np.concatenate(rows)

    def gathered(index):
        places = [np.full(len(own), i) for i, own in enumerate(rows[index::3])]
        return engine_gather.in_order(list(zip(places, rows[index::3], strict=True)))

    for found in together(3, gathered, monkeypatch):
        np.testing.assert_array_equal(found, expected)
    none = (np.zeros(0, int), np.zeros((0, 2), int))
    assert engine_gather.in_order([none]).shape == (0, 2)
    for found in together(2, lambda index: engine_gather.in_order([none]), monkeypatch):
        assert found.shape == (0, 2)


def test_what_is_not_known_is_not_reported(source):
    evaluator = make_evaluator(read_off, 19)
    found, _ = evaluator(*NO_MODEL, stream(source, 5, keys=()), CLASSES)
    assert "category_miou" in found
    assert not {"iiou", "miiou", "boundary_miou", "depth"} & found.keys()
    names = ["Sky", *CLASSES[1:]]  # not Cityscapes' any more: neither categories nor instances
    found, _ = evaluator(*NO_MODEL, stream(source, 5), names)
    assert "category_miou" not in found and "miiou" not in found and found["iou"]["Sky"] > 0
    # Without any label nothing is known.
    (batch,) = stream(source, 5)
    batch["label"][:] = 255
    del batch["instances"]
    found, _ = evaluator(*NO_MODEL, [batch], CLASSES)
    known = {"entropy", "neighbourhood_density", "images"}
    assert all(v is None for k, v in found.items() if not isinstance(v, dict) and k not in known)
    # Instance maps of another size are told of.
    (batch,) = stream(source, 5)
    batch["instances"] = batch["instances"][:, 1:]
    with pytest.raises(UserError, match=r"map of ulm_000000_000019 is \(47, 64\)"):
        evaluator(*NO_MODEL, [batch], CLASSES)


def test_a_subset_of_classes(source):
    chosen = [CLASSES.index(name) for name in ("road", "car", "person")]
    evaluator = make_evaluator(read_off, 19, scored=chosen, boundary=True)
    found, _ = evaluator(*NO_MODEL, stream(source, 5), CLASSES)
    for key in ("iou", "class_accuracy", "boundary_iou"):
        assert list(found[key]) == ["road", "car", "person"], key
    assert list(found["iiou"]) == ["car", "person"] and len(found["category_iou"]) == 7


# --- depth


def true_depth(seed, size):
    draw = np.random.default_rng(seed)
    truth = draw.uniform(1, 100, size).astype(np.float32)  # some beyond 80 m
    truth[draw.random(size) < 0.3] = 0
    return truth


def far_or_near(params, stats, memory, images):
    """Metres at a quarter of the size, from the colours."""
    return images[:, ::4, ::4].astype(jnp.float32).mean(-1) / 2 - 5  # some behind the camera


def four_classes(params, stats, memory, images):
    return images[:, ::4, ::4].astype(jnp.float32)[..., [0, 1, 2, 0]]


def depth_batches(images, truth, size):
    for start in range(0, len(images), size):
        part = slice(start, start + size)
        missing = size - len(images[part])
        fill = ((0, missing), (0, 0), (0, 0))
        yield {
            "image": np.pad(images[part], (*fill, (0, 0))),
            "label": np.zeros((size, *truth.shape[1:]), np.uint8),
            "depth": np.pad(truth[part], fill, constant_values=7),
            "valid": np.arange(size) < len(images[part]),
            "id": [f"image{start + i}" for i in range(size)],
        }


def resized(metres, size):
    """[h, w] -> size, corners aligned, line by line in float64."""
    h, w = metres.shape
    rows, columns = np.linspace(0, h - 1, size[0]), np.linspace(0, w - 1, size[1])
    across = np.stack([np.interp(columns, np.arange(w), row) for row in metres])
    return np.stack([np.interp(rows, np.arange(h), column) for column in across.T], 1)


@pytest.mark.parametrize(
    ("devices", "size", "cap"), [(1, 5, 80.0), (1, 2, 80.0), (2, 3, 80.0), (2, 2, 30.0)]
)
def test_depth_equals_numpy(devices, size, cap):
    images = np.random.default_rng(1).integers(0, 256, (5, 17, 33, 3)).astype(np.uint8)
    truth = np.stack([true_depth(i, (9, 21)) for i in range(5)])
    truth[3] = 0  # nothing is known of this one
    each = []
    for image, true in zip(images, truth, strict=True):
        metres = resized(image[::4, ::4].astype(np.float64).mean(-1) / 2 - 5, (9, 21))
        counted = (true > 0) & (true <= cap)
        p, t = np.clip(metres[counted], 1e-3, cap), true[counted].astype(np.float64)
        if counted.any():
            ratio = np.maximum(p / t, t / p)
            each.append(
                (
                    np.mean(abs(p - t) / t),
                    np.mean((p - t) ** 2 / t),
                    math.sqrt(np.mean((p - t) ** 2)),
                    math.sqrt(np.mean((np.log(p) - np.log(t)) ** 2)),
                    *(np.mean(ratio < 1.25**k) for k in (1, 2, 3)),
                )
            )
    evaluator = make_evaluator(
        four_classes, 4, jax.local_devices()[:devices], depth=far_or_near, depth_cap=cap, pictures=4
    )
    result, examples = evaluator(*NO_MODEL, depth_batches(images, truth, size), "abcd")
    found = result["depth"]
    keys = ("abs_rel", "sq_rel", "rmse", "rmse_log", "delta1", "delta2", "delta3")
    np.testing.assert_allclose([found[k] for k in keys], np.mean(each, 0), rtol=1e-5)
    assert (found["images"], found["cap"]) == (4, cap) and result["images"] == 5
    for i, example in enumerate(examples):
        metres = resized(images[i, ::4, ::4].astype(np.float64).mean(-1) / 2 - 5, (9, 21))
        np.testing.assert_allclose(example.depth, metres, rtol=1e-4, atol=1e-3)
        np.testing.assert_array_equal(example.depth_truth, truth[i])


def test_depth_where_one_side_is_missing():
    images = np.zeros((3, 8, 8, 3), np.uint8)
    data = list(depth_batches(images, np.full((3, 8, 8), 9, np.float32), 2))
    without = [{k: v for k, v in batch.items() if k != "depth"} for batch in data]
    empty = [{**batch, "depth": 0 * batch["depth"]} for batch in data]

    def run(data, **options):
        evaluator = make_evaluator(four_classes, 4, pictures=3, **options)
        return evaluator(*NO_MODEL, data, "abcd")

    for data_, options in ((data, {}), (without, {"depth": far_or_near})):
        result, examples = run(data_, **options)
        assert "depth" not in result and len(examples) == 3
        for example in examples:
            assert (example.depth is None) == (not options) and example.depth_truth is None
    result, examples = run(empty, depth=far_or_near)
    assert "depth" not in result and not examples[0].depth_truth.any()


# --- from a config


@pytest.fixture
def config(source, scenes, tmp_path):
    config = small_config("advent", source.folder.parents[2])
    config.data.root = str(source.folder.parents[2] / "raw")
    config.data.target.update(dict(name="cityscapes", size=(24, 32)))  # half as large as labels
    config.data.target.options = {}
    return config


def test_a_run_evaluated_equals_cityscapes_scripts(config, scenes, tmp_path, capsys):
    run = write_run(config, tmp_path / "run", {2: 0.3, 4: 0.1})
    result = run_evaluate.evaluate(config, str(run), Wanted("last"))
    printed = capsys.readouterr().out
    # The predictions, by an evaluator without instances, as the images that are handed in.
    loaded = restore.first(restore.from_workdir(config, run, "last"))
    evaluator = make_evaluator(method.make_predictor(config, loaded.method), 19, pictures=5)
    model = (loaded.model[key] for key in ("params", "stats", "memory"))
    _, examples = evaluator(*model, batches.eval_batches(config), CLASSES)
    predicted = [
        (label, instances, TO_ID[example.prediction])
        for (label, instances, _), example in zip(scenes, examples, strict=True)
    ]
    expected = by_cityscapes(tmp_path, predicted)
    assert len(np.unique([e.prediction for e in examples])) > 1
    equals_the_official(json.loads((run / "results.json").read_text()), expected)
    assert (run / "results.txt").read_text() == (
        f"IoU Class: {expected['averageScoreClasses']}\n"
        f"iIoU Class: {expected['averageScoreInstClasses']}\n"
        f"IoU Category: {expected['averageScoreCategories']}\n"
        f"iIoU Category: {expected['averageScoreInstCategories']}\n"
        f"Accuracy: {result['pixel_accuracy_all']}"
    )
    # Boundaries are looked at here, in training not; the table tells the means.
    assert "boundary_iou" in result
    for key, title in results.SUMMARY.items():
        line = next(line for line in printed.splitlines() if f" {title} " in line)
        assert f" {100 * result[key]:.1f} " in line
    # Of a list of snapshots each has the means, and of classes only the IoU and the pixels.
    config.eval.boundary = ""
    run_evaluate.evaluate(config, str(run), Wanted("all"))
    for each in json.loads((run / "snapshots.json").read_text())["snapshots"]:
        by_class = {key for key, value in each.items() if isinstance(value, dict)}
        assert by_class == {"iou", "pixels", "protocol"}
        assert {"miiou", "category_miou", "mean_class_accuracy"} <= each.keys()
        assert "boundary_miou" not in each


def test_batches_hold_what_is_scored(config):
    config.eval.batch = 5
    (batch,) = batches.eval_batches(config, depth=True)  # these records have none
    assert batch["instances"].shape == batch["label"].shape == (5, 48, 64)
    assert batch["image"].shape == (5, 24, 32, 3) and "depth" not in batch
    config.data.classes = "camvid"
    (batch,) = batches.eval_batches(config)
    assert "instances" not in batch


def test_wrong_settings(config):
    config.eval.boundary = "sometimes"
    with pytest.raises(UserError, match="config.eval.boundary='sometimes': give one of 'evaluate'"):
        check.check(config)
    config.eval.boundary, config.eval.depth_cap = "always", 0.0
    with pytest.raises(UserError, match="config.eval.depth_cap=0.0 must be above 0.001"):
        check.check(config)


def test_table_of_depth_and_of_an_older_result():
    result = {"split": "val", "miou": 0.5, "images": 3, "iou": {"a": 0.5}, "pixels": {"a": 1.0}}
    depth = {"abs_rel": 0.2134, "rmse": None, "rmse_log": 0.3, "delta1": 0.61, "cap": 80.0}
    text = io.StringIO()
    results.print_table(
        {**result, "depth": {**depth, "images": 3}}, "a", Console(file=text, width=80)
    )
    told = " ".join(text.getvalue().split())
    assert "depth up to 80 m: abs rel 0.213, RMSE – m, RMSE log 0.300," in told
    assert "within 1.25: 61.0 %" in told and "iIoU" not in told
    assert results.depth_line(result) is None


def test_known_classes():
    assert cityscapes.known(CLASSES) == TRAIN
    assert cityscapes.known(labels.SYNTHIA13.classes) is not None
    assert cityscapes.known(labels.CAMVID.classes) is None
    assert cityscapes.known(("road", "caravan")) is None  # which the benchmark leaves out


def test_records_hand_out_instances_and_depth():
    class Memory:
        name, split, folder, label_set = "memory", "val", "nowhere", labels.CITYSCAPES
        size, labelled, has = None, True, ("image", "label", "depth", "instances")
        keeps_proportions = False
        where = records.Source.where
        objects = np.array([[26001, 7], [0, 24000], [33999, 1]], np.uint16).repeat(2, 0)
        metres = np.array([[0, 1], [2.5, 80], [255, 0]], np.float32).repeat(2, 0)

        def __len__(self):
            return 3

        def __getitem__(self, index):
            return {
                "id": f"r{index}",
                "image": codec.encode_png(np.zeros((6, 2, 3), np.uint8)),
                "label": codec.encode_png(np.zeros((6, 2), np.uint8)),
                "depth": codec.encode_depth(self.metres + index),
                "instances": codec.encode_png(self.objects + np.uint16(index)),
            }

    keys = ("depth", "instances")
    first, second = pipeline.eval_batches(Memory(), size=(3, 4), batch=2, keys=keys, threads=0)
    assert first["instances"].dtype == np.int32 and first["depth"].dtype == np.float32
    for i in (0, 1):
        np.testing.assert_array_equal(first["instances"][i], Memory.objects.astype(int) + i)
        np.testing.assert_allclose(first["depth"][i], Memory.metres + i, atol=1 / 256)
    assert not second["instances"][1].any() and not second["depth"][1].any()
    (batch, _) = pipeline.eval_batches(
        Memory(), size=(3, 4), label_size=(3, 1), batch=2, keys=keys, threads=0
    )
    assert batch["instances"].shape == batch["depth"].shape == batch["label"].shape == (2, 3, 1)
    assert set(batch["instances"][0].ravel()) <= set(Memory.objects.ravel().tolist())
    plain = next(iter(pipeline.eval_batches(Memory(), size=None, batch=1, threads=0)))
    assert plain.keys() == {"image", "label", "valid", "id"}
