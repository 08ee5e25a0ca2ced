"""Files in the layout of Cityscapes."""

from kit.raw_files import draw, save

SIZE = (48, 96)


def write_cityscapes(root):
    for split, count in (("train", 2), ("val", 2)):
        for i in range(count):
            name = f"{split}/bonn/bonn_{i:06d}_000019"
            save(root / f"cityscapes/leftImg8bit/{name}_leftImg8bit.png", draw(i, *SIZE, 3))
            save(root / f"cityscapes/gtFine/{name}_gtFine_labelIds.png", draw(i, *SIZE, high=34))
