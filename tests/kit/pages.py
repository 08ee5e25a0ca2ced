"""Run folders with made-up logs, and a reader of their reports."""

from html.parser import HTMLParser

import numpy as np

from jaxseg.data.labels import CAMVID
from jaxseg.evaluation.evaluator import Example
from jaxseg.report import page as report_page
from jaxseg.report import paint
from jaxseg.storage import logs


class Page(HTMLParser):
    """Checks that tags close in order, and collects texts, tags and attributes."""

    VOID = ("meta", "img", "br", "line", "circle", "input")

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.texts, self.sources, self.layers = [], [], [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [v for k, v in attributes if k in ("src", "href")]
        self.layers += [v for k, v in attributes if k == "data-layer"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data.strip())


def make_run(workdir, steps=(20, 40, 60), pictures=2, labelled=True):
    draw = np.random.default_rng(0)
    with logs.open_logs(workdir) as log:
        for step in range(5, 61, 5):
            values = {"loss/gen": 2 / step, "loss/disc": 0.6, "adversarial/main": 0.7}
            log.train(step, {**values, "lr/gen": 0.02, "lr/disc": 1e-4, "images_per_second": 9.0})
            if step not in steps:
                continue
            iou = dict.fromkeys(CAMVID.classes, step / 100) | {"Fence": None}
            miou = {20: 0.31, 40: 0.52, 60: 0.47}[step]
            scores = {"miou": miou, "pixel_accuracy": 0.8, "entropy": 0.1}
            if not labelled:
                iou = dict.fromkeys(iou)
                scores |= {"miou": None, "pixel_accuracy": None}
            log.evaluation(step, {"split": "val", **scores, "images": 4, "iou": iou})
            examples = []
            for i in range(pictures):
                image = draw.integers(0, 256, (16, 32, 3)).astype(np.uint8)
                label = draw.integers(0, 11, (16, 32)).astype(np.uint8)
                entropy = draw.random((16, 32))
                examples.append(Example(f"<image {i}>", image, label, label, entropy))
            paint.save_pictures(workdir / "pictures", step, examples, CAMVID)
    return report_page.write_report(workdir)
