"""The folders that annotation tools write: recognised, or refused by the tool's name.

Recognised: Roboflow's segmentation masks, CVAT's segmentation mask and PASCAL VOC, LabelMe after
labelme2voc, Supervisely after Export as Masks, and folders of photographs and masks under any of
the usual names, with splits above or below them. Outlines (polygons) are refused: turning them into
masks is the tool's work, which knows what lies above what.
"""

import re
from pathlib import Path
from typing import NamedTuple

from jaxseg.errors import UserError

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
SPLIT = "{split}"
# The names that a split's folder may have; those with a year are COCO's.
SPLITS = {
    "train": ("train", "training", "train2017", "train2014"),
    "val": ("val", "validation", "valid", "dev", "val2017", "val2014"),
    "test": ("test", "testing", "test2017", "test2014"),
}
_IMAGE_FOLDERS = (
    *("images", "image", "imgs", "img", "img_dir", "JPEGImages", "photos", "rgb", "leftImg8bit"),
)
_LABEL_FOLDERS = (
    *("labels", "label", "masks", "mask", "annotations", "ann_dir", "gt", "SegmentationClass"),
)


class Layout(NamedTuple):
    """Where a tool puts things, as paths below its folder.

    Attributes:
      tool: its name.
      images, labels: folders, which may contain '{split}'; '' for no labels.
      label_suffix: ending of label names that images lack.
      classes: the class file; '' for none.
      lists: folder of the lists of a split's images, SPLIT.txt; '' for none.
    """

    tool: str
    images: str
    labels: str
    label_suffix: str = ""
    classes: str = ""
    lists: str = ""


def names_of(split: str) -> tuple[str, ...]:
    """Returns the names that the folder of a split may have."""
    return SPLITS.get(split, (split,))


def find(folder: Path) -> Layout | None:
    """Recognises the layout of a folder; None if it is none that is known.

    Raises:
      UserError: a tool's export that holds outlines instead of masks; it says what to export.
    """
    entries = {path.name: path for path in sorted(folder.iterdir())}
    for known in (_supervisely, _voc, _roboflow):
        if found := known(folder, entries):
            return found
    refuse(folder)
    return _usual_names(folder, entries)


def refuse(folder: Path) -> None:
    """Raises UserError if a folder, or one of its subfolders, holds outlines instead of masks."""
    inside = [path for path in sorted(folder.glob("*")) if path.is_dir()]
    deeper = [path for place in inside[:20] for path in sorted(place.glob("*")) if path.is_dir()]
    for place in (folder, *inside, *deeper[:20]):
        for path in sorted(path for path in place.iterdir() if path.is_file())[:50]:
            if told := _outlines(path):
                raise UserError(f"{path}: {told}")


def _outlines(path: Path) -> str | None:
    """What a file of outlines is, and what to export instead; None for any other file."""
    if path.name in ("data.yaml", "data.yml"):
        return "an export for YOLO, not masks; from Roboflow export 'Semantic Segmentation Masks'"
    if path.suffix not in (".json", ".xml", ".txt"):
        return None
    with path.open("rb") as file:
        start = file.read(2**16).decode("utf-8", "replace")
    if path.suffix == ".txt":
        line = start.partition("\n")[0].strip()
        if not re.fullmatch(r"\d+( -?\d+(\.\d+)?([eE]-?\d+)?){4,}", line):
            return None
        return (
            "outlines or boxes of YOLO, not masks; export the data as masks (Roboflow: 'Semantic "
            "Segmentation Masks')"
        )
    if path.suffix == ".xml":
        if "<annotations>" in start and "<version>" in start:
            return "CVAT's XML of outlines; export the task as 'Segmentation mask 1.1', with images"
        return "boxes of PASCAL VOC, not masks; give masks" if "<bndbox>" in start else None
    if '"shapes"' in start and ('"imagePath"' in start or '"flags"' in start):
        return "LabelMe's outlines; turn them into masks with its labelme2voc"
    if '"objects"' in start and '"classTitle"' in start or '"bitmap"' in start:
        return "Supervisely's annotation; export the project with its app 'Export as Masks'"
    if re.search(r'"(categories|annotations)"', start) or path.name.endswith(".coco.json"):
        return (
            "COCO's outlines; export masks instead (CVAT: 'Segmentation mask 1.1', Roboflow: "
            "'Semantic Segmentation Masks', or pycocotools' annToMask)"
        )
    return None


def _supervisely(folder: Path, entries) -> Layout | None:
    sets = [path for path in entries.values() if (path / "img").is_dir()]
    if not sets or not ("meta.json" in entries or any((p / "ann").is_dir() for p in sets)):
        return None
    masks = [p for p in sets if (p / "masks_machine").is_dir()]
    if not masks:
        raise UserError(
            f"{folder}: a project of Supervisely with outlines; export it with its app 'Export as "
            f"Masks', machine masks included"
        )
    names = [path.name for path in masks]
    if any(name in SPLITS["train"] for name in names):
        top = SPLIT
    elif len(names) == 1:
        top = names[0]
    else:
        raise UserError(
            f"{folder}: a project of Supervisely with the data sets {', '.join(names)}; name two "
            f"of them train and val, or give one of them as images={names[0]}/img and "
            f"labels={names[0]}/masks_machine"
        )
    classes = "obj_class_to_machine_color.json"
    return Layout(
        "Supervisely",
        f"{top}/img",
        f"{top}/masks_machine",
        classes=classes if classes in entries else "",
    )


def _voc(folder: Path, entries) -> Layout | None:
    labels = next((n for n in ("SegmentationClassPNG", "SegmentationClass") if n in entries), None)
    if labels is None:
        return None
    if "JPEGImages" not in entries:
        raise UserError(
            f"{folder}: masks of CVAT or PASCAL VOC without JPEGImages; export them with images"
        )
    names = ("labelmap.txt", "class_names.txt", "labels.txt")
    classes = next((name for name in names if name in entries), "")
    lists = "ImageSets/Segmentation"
    return Layout(
        {"labelmap.txt": "CVAT", "class_names.txt": "LabelMe"}.get(classes, "PASCAL VOC"),
        "JPEGImages",
        labels,
        classes=classes,
        lists=lists if (folder / lists).is_dir() else "",
    )


def _roboflow(folder: Path, entries) -> Layout | None:
    places = [name for name in ("", *SPLITS["train"]) if (folder / name / "_classes.csv").is_file()]
    if not places:
        return None
    top = SPLIT if places[0] else "."
    path = Path(places[0], "_classes.csv")
    return Layout("Roboflow", top, top, label_suffix="_mask", classes=path.as_posix())


def _usual_names(folder: Path, entries) -> Layout | None:
    """Photographs and masks beside each other, split above or below, or photographs alone."""
    train = next((entries[n] for n in SPLITS["train"] if n in entries), None)
    for top, inside in (("", folder), (f"{SPLIT}/", train)):
        if inside is None:
            continue
        images = next((n for n in _IMAGE_FOLDERS if (inside / n).is_dir()), None)
        labels = next((n for n in _LABEL_FOLDERS if (inside / n).is_dir()), None)
        if images:
            return Layout("folders", f"{top}{images}", f"{top}{labels}" if labels else "")
        if any(p.suffix.lower() in IMAGES for p in inside.iterdir() if p.is_file()):
            return Layout("photographs alone", top.rstrip("/") or ".", "")
    return None
