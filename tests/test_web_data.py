"""Data sets on the page: what folders hold before they are prepared, and experiments with them."""

import json

import numpy as np
import pytest
from kit.web import OWN, served
from PIL import Image

from jaxseg.errors import UserError
from jaxseg.web import composed, datasets, jobs, survey
from jaxseg.web.places import Places

FORM = {
    **{"name": "mine", "images": "own/images", "labels": "own/labels"},
    **{"classes": "own/classes.txt", "height": 16, "width": 24, "val_percent": 25},
}
COLOURS = np.array([[0, 0, 0], [0, 128, 0], [9, 9, 9]], np.uint8)


def write(folder, labelled=True, wrong=False):
    """Four images; the labels' upper half is class 0, the lower class 1; one may hold a colour that
    the class file does not list."""
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    (folder / "classes.txt").write_text("0 0 0 sky\n0 128 0 meadow\n")
    for i in range(4):
        Image.fromarray(np.full((16, 24, 3), 40 * i, np.uint8)).save(folder / f"images/{i}.png")
        label = np.repeat(np.arange(2), 8)[:, None].repeat(24, 1)
        if wrong and i == 2:
            label[0, :5] = 2
        if labelled:
            Image.fromarray(COLOURS[label]).save(folder / f"labels/{i}.png")


@pytest.fixture
def where(tmp_path):
    (tmp_path / "runs").mkdir()
    write(tmp_path / "data" / "own")
    return Places(tmp_path / "runs", tmp_path / "data", str(tmp_path / "records"))


def test_a_survey_counts_by_hand(where):
    found = survey.survey(datasets.checked(where, FORM))
    assert found["splits"] == {"train": 3, "val": 1} and found["sizes"] == {"16x24": 4}
    assert found["classes"] == ["sky", "meadow"] and found["palette"][1] == [0, 128, 0]
    assert found["pixels"] == [4 * 8 * 24] * 2 and found["share"] == [0.5, 0.5]
    assert found["images_with"] == [4, 4] and found["ignored"] == 0 and not found["faults"]


def test_an_unknown_colour_is_named_with_its_file_and_count(tmp_path):
    write(tmp_path / "data" / "own", wrong=True)
    where = Places(tmp_path / "runs", tmp_path / "data")
    found = survey.survey(datasets.checked(where, FORM))
    (fault,) = found["faults"]
    assert fault["file"].endswith("labels/2.png") and found["faulty"] == 1
    assert "9 9 9" in fault["said"] and "5 pixels" in fault["said"]
    assert found["pixels"] == [3 * 8 * 24] * 2  # of the others


def test_images_without_labels(tmp_path):
    write(tmp_path / "data" / "own", labelled=False)
    where = Places(tmp_path / "runs", tmp_path / "data")
    found = survey.survey(datasets.checked(where, {**FORM, "labels": "", "classes": ""}))
    assert found["labelled"] is False and found["splits"]["train"] == 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"images": ""}, "choose the folder"),
        ({"images": "../../etc"}, "not within"),
        ({"images": "/etc"}, "not within"),
        ({"images": "none"}, "no none"),
        ({"labels": "own/labels", "classes": ""}, "class file"),
        ({"classes": "../x.txt"}, "not within"),
        ({"height": 0}, "height"),
        ({"val_percent": "x"}, "val_percent"),
        ({"label_values": "x"}, "label_values"),
        ({"name": "../x"}, "no name"),
    ],
)
def test_forms_that_are_refused(where, change, said):
    with pytest.raises(UserError, match=said):
        datasets.checked(where, {**FORM, **change})


def test_what_can_be_chosen(where):
    (where.data / "net.pth").write_bytes(b"")
    found = datasets.folders(where)
    assert {"path": "own/images", "images": 4} in found["images"]
    assert found["classes"] == ["own/classes.txt"] and found["weights"] == ["net.pth"]
    assert "streets" in [d["name"] for d in datasets.published(where)]


def test_an_experiment_with_own_data(where, tmp_path):
    options = datasets.checked(where, FORM)
    spec = {"base": "advent:streets", "source": options, "target": None}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    config = composed.get_config(str(tmp_path / "spec.json"))
    assert config.data.source.name == "folder" and config.data.target.name == "streets"
    assert config.data.source.size == (16, 24) and config.data.classes == options["classes"]
    assert config.data.source.options.images == str(where.data / "own/images")
    beside = {"base": "advent:streets", "source": None, "target": options, "counts": [2, 1]}
    (tmp_path / "spec.json").write_text(json.dumps(beside))
    source = composed.get_config(str(tmp_path / "spec.json")).data.source
    assert (source.name, source.options.counts.train, source.options.counts.val) == (
        "streets",
        2,
        1,
    )
    with pytest.raises(UserError, match="no readable"):
        composed.get_config(str(tmp_path / "none.json"))


def test_nothing_is_prepared_that_was_not_looked_at(where, monkeypatch):
    monkeypatch.setattr(jobs.Queue, "_begin", lambda self, job: None)
    with served(where.runs.parent) as (client, _, queue):

        def post(path, **content):
            return client.post(path, headers=OWN, json={**FORM, **content})

        assert "inspect the folders first" in post("/api/datasets").json()["error"]
        job = post("/api/data/survey").json()
        options, report = job["argv"][-2:]
        assert "changed" in post("/api/datasets", survey=job["id"]).json()["error"]
        survey.main(options, report)
        assert client.get(f"/api/data/survey/{job['id']}").json()["report"]["faulty"] == 0
        changed = post("/api/datasets", survey=job["id"], val_percent=50)
        assert "changed" in changed.json()["error"]
        made = post("/api/datasets", survey=job["id"])
        assert made.status_code == 201 and "inspect" in made.json()["argv"]
        assert "already" in post("/api/datasets", survey=job["id"]).json()["error"]
        listed = client.get("/api/datasets").json()["datasets"]
        assert listed[0]["name"] == "mine" and listed[0]["job"]["job_state"] == "queued"
        unlabelled = client.post(
            "/api/runs", headers=OWN, json={"name": "r", "config": "advent", "source": "none"}
        )
        assert unlabelled.status_code == 404
        started = client.post(
            "/api/runs", headers=OWN, json={"name": "r", "config": "advent", "target": "mine"}
        ).json()
        assert any(a.endswith("experiments/r.json") for a in started["argv"])


def test_images_of_a_set_as_the_network_gets_them(where):
    """Opens real records: prepared once, in `records`."""
    import io

    from jaxseg.web import browse

    options = datasets.checked(where, FORM)
    path = where.own / "datasets" / "experiments" / "mine.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"base": "advent:streets", "source": options, "target": options}))
    asked = {"config": str(path), "root": str(where.data), "records": where.records}
    found, _ = browse.splits(asked, b"")
    assert [(p["side"], p["split"], p["images"]) for p in found["parts"]] == [
        ("source", "train", 3), ("source", "val", 1), ("target", "train", 3), ("target", "val", 1),
    ]  # fmt: skip
    one = asked | {"side": "source", "split": "train", "index": 1}
    _, png = browse.image({**one, "kind": "label"}, b"")
    np.testing.assert_array_equal(
        np.asarray(Image.open(io.BytesIO(png)))[:, 0], np.repeat(np.arange(2), 8)
    )
    _, jpeg = browse.image({**one, "kind": "image"}, b"")
    assert Image.open(io.BytesIO(jpeg)).size == (24, 16)
    for wrong in ({"index": 9}, {"split": "test"}):
        with pytest.raises(UserError):
            browse.image({**one, "kind": "image", **wrong}, b"")
