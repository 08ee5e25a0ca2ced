"""The benchmark of roads on photographs: counted by hand, on generated stand-ins."""

import numpy as np
from PIL import Image

import jaxseg
from benchmarks import road


class Model:
    """Calls dark pixels the road, bright ones the sky."""

    classes = ("road", "sky", "car")

    def __call__(self, image):
        self.labels = np.where(image.mean(-1) < 100, 0, 1)
        return self


def test_shares_by_hand(tmp_path, monkeypatch, capsys):
    for name in ("val", "valannot"):
        (tmp_path / name).mkdir()
    grey = np.full((2, 4), 90, np.uint8)
    grey[0, :3] = 200  # three of the eight pixels of road are bright, one of them is no road
    label = np.array([[3, 3, 0, 3], [3, 3, 3, 3]], np.uint8)
    Image.fromarray(np.stack([grey] * 3, -1)).save(tmp_path / "val" / "a.png")
    Image.fromarray(label).save(tmp_path / "valannot" / "a.png")
    pairs = list(road.pairs_of(tmp_path, "val"))
    found = road.shares(pairs, lambda x: Model()(x).labels, 3, 3)
    np.testing.assert_allclose(found, [5 / 7, 2 / 7, 0])
    monkeypatch.setattr(jaxseg, "load", lambda run: Model())
    assert road.main([f"--data={tmp_path}"]) == 0
    assert "road             71.4 % of the road's pixels" in capsys.readouterr().out
    assert road.main([f"--data={tmp_path}", "--name=sky"]) == 1
    assert road.main([f"--data={tmp_path}", "--label=9"]) == 2
