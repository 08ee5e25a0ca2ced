"""Raw images and labels of published data sets, as tiny files."""

import zipfile

import numpy as np
from PIL import Image

from jaxseg.data import codec, records

SIZE = (12, 20)


def draw(seed, *shape, high=256, dtype=np.uint8):
    return np.random.default_rng(seed).integers(0, high, shape).astype(dtype)


def save(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(path, **options)


def zip_up(folder, archive, members):
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.rglob("*.png")):
            name = path.relative_to(folder).as_posix()
            if name.startswith(members):
                file.write(path, name)
                path.unlink()


def label_of(record):
    return codec.decode_ids(record["label"])


def open_all(name, tmp_path, split="train", **options):
    source = records.open_split(
        name, split, records_dir=tmp_path / "records", raw_dir=tmp_path / "raw", **options
    )
    return {source[i]["id"]: source[i] for i in range(len(source))}


def make_cityscapes(root):
    raw = {}
    for split, number in (("train", 3), ("val", 2), ("test", 1)):
        for i in range(number):
            name = f"bonn_{i:06d}_000019"
            folder = root / "leftImg8bit" / split / "bonn"
            save(folder / f"{name}_leftImg8bit.png", draw(i, *SIZE, 3))
            if split == "test":
                continue
            raw[split, name] = draw(20 + i, *SIZE, high=34)
            folder = root / "gtFine" / split / "bonn"
            save(folder / f"{name}_gtFine_labelIds.png", raw[split, name])
            save(folder / f"{name}_gtFine_instanceIds.png", draw(3, *SIZE))
            save(folder / f"{name}_gtFine_color.png", draw(3, *SIZE, 3))
    return raw
