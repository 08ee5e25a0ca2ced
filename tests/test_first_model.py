"""What the README's first command makes: begun from ImageNet weights, and it sees roads."""

import json

import pytest
from kit.small import small_config

import jaxseg
from benchmarks import road
from configs import advent
from jaxseg.data.streets import scene
from jaxseg.run import train, yardsticks

SIZE = (64, 128)
ROAD, SKY = 0, 10


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The preset, smaller and shorter; nothing else is changed."""
    folder = tmp_path_factory.mktemp("first")
    config = advent.get_config()
    config.data.records = str(folder / "records")
    config.data.source.size = config.data.target.size = SIZE
    for side in (config.data.source, config.data.target):
        side.options.counts.update(dict(train=40, val=4))
    config.train.update(dict(steps=50, warmup_steps=40, eval_every=0, pictures=1, devices=1))
    config.eval.batch = 4
    train.run(config, str(folder / "run"))
    return config, folder / "run"


def test_it_tells_what_it_began_with(run):
    first = (run[1] / "initial_weights.txt").read_text().splitlines()[0]
    assert first.startswith("initial weights: efficientnet_lite0, efficientnet-lite0-57934424.pth")
    assert "sha256 579344248a93e230" in first and first.endswith("licence Apache-2.0")
    assert "efficientnet-lite0-57934424.pth" in (run[1] / "report.html").read_text()


def test_roads_of_looks_that_it_never_saw_are_roads(run):
    """Stand-ins for photographs: another renderer's light, cars, skies and seed. At least 60 %, as
    `benchmarks/road.py` asks of the whole model on CamVid's photographs.
    """
    model = jaxseg.load(str(run[1]))
    scenes = [scene.render(9, index, "photographic_varied", SIZE) for index in range(12)]
    pairs = [(each["image"], each["label"]) for each in scenes]
    found = road.shares(pairs, lambda image: model(image).labels, 19, ROAD)
    assert found[ROAD] > 0.6
    others = road.shares(pairs, lambda image: model(image).labels, 19, SKY)
    assert others[ROAD] < 0.5  # nor is everything road


def test_predictors_that_see_nothing_stand_beside_it(run, tmp_path):
    """The folders of a sweep's members get the same scores as the run's."""
    config, folder = run
    found = json.loads((folder / yardsticks.FILE).read_text())
    assert 0 < found["position"] < found["colour_and_position"] < 1
    folders = [tmp_path / name for name in ("member_0", "member_1")]
    for each in folders:
        each.mkdir()
    assert yardsticks.write(config, [str(each) for each in folders]) == found
    assert all(json.loads((each / yardsticks.FILE).read_text()) == found for each in folders)
    page = (folder / "report.html").read_text()
    assert "sees no image" in page and "sees one pixel" in page


def test_random_values_are_told(tmp_path):
    config = small_config("source_only", tmp_path / "records")
    train.run(config, str(tmp_path / "run"))
    assert (
        "none, the network begins with random values"
        in (tmp_path / "run" / "report.html").read_text()
    )
