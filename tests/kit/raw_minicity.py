"""Files in the layout of MiniCity."""

from kit.raw_files import draw, save

SIZE = (12, 20)


def make_minicity(root):
    raw = {}
    for split in ("train", "val"):
        for i in range(2):
            name = f"ulm_{i:06d}_{len(split):06d}"
            save(root / "leftImg8bit" / split / f"{name}_leftImg8bit.png", draw(i, *SIZE, 3))
            raw[split, name] = draw(7 + i, *SIZE, high=34)
            save(root / "gtFine" / split / f"{name}_gtFine_labelIds.png", raw[split, name])
            save(root / "gtFine" / split / f"{name}_gtFine_instanceIds.png", draw(3, *SIZE))
    for i in (0, 1, 10):
        save(root / "leftImg8bit" / "test" / f"{i}.png", draw(20 + i, *SIZE, 3))
    return raw
