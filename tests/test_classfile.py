"""Class files in their three forms, as label sets, and how label files are read by them."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from jaxseg.data import classfile, labels
from jaxseg.data.conversion import label_files
from jaxseg.errors import UserError


def read(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "classes.txt"
    path.write_text(text, encoding=encoding)
    return classfile.read(path)


def test_names_alone(tmp_path):
    found = read(tmp_path, "# mine\nroad\n\n traffic light \nvoid\nsky\n", "utf-8-sig")
    assert found.label_set.classes == ("road", "traffic light", "sky")
    assert found.label_set.ids == {0: 0, 1: 1, 3: 2}
    assert found.values == {0: 0, 1: 1, 2: 255, 3: 2} and found.colours is None
    assert found.label_set.name == str(tmp_path / "classes.txt")


def test_values_and_names_join(tmp_path):
    found = read(tmp_path, "0 Unlabeled\n7 road\n9 road\n 200 left turn 2\n")
    assert found.label_set.classes == ("road", "left turn 2")
    assert found.values == {0: 255, 7: 0, 9: 0, 200: 1} and found.colours is None
    assert found.label_set.ids == {7: 0, 9: 0, 200: 1}


def test_colours(tmp_path):
    found = read(tmp_path, "64 128 64\tAnimal\n0 0 0 Void\n192 0 128 Arch\n1 2 3 Animal\n9 9 9\n")
    assert found.label_set.classes == ("Animal", "Arch", "class 4")
    assert found.label_set.palette == ((64, 128, 64), (192, 0, 128), (9, 9, 9))
    assert found.colours == {
        **{(64, 128, 64): 0, (0, 0, 0): 255, (192, 0, 128): 1},
        **{(1, 2, 3): 0, (9, 9, 9): 2},
    }
    assert found.values == {0: 0, 1: 255, 2: 1, 3: 0, 4: 2}  # lines, for index files


def test_made_up_colours_differ_from_each_other_and_from_black(tmp_path):
    palette = read(tmp_path, "\n".join(f"class {chr(65 + i)}" for i in range(40))).label_set.palette
    assert len(set(palette)) == 40 and (0, 0, 0) not in palette
    gaps = np.abs(np.array(palette[:20])[:, None] - np.array(palette[:20])).sum(-1)
    assert gaps[~np.eye(20, dtype=bool)].min() > 20


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no classes"),
        ("# nothing\n", "holds no classes"),
        ("void\n", "0 classes to learn"),
        ("0 0 0 road\n1 2 sky\n", "line 2: '1 2 sky' is not 'R G B name' as other lines are"),
        ("road\n2 wheeler\n", "line 1: 'road' is not 'value name' as other lines are"),
        ("0 0 256 road\n", "line 1: 256 is more than 255"),
        ("0 0 1 road\n0 0 1 sky\n", "line 2: '0 0 1 sky' gives another class to the same key"),
        ("0 back\n255 thing\n", "line 2: the value 255 is always ignored.*label_values=colour"),
        ("\n".join(f"n{i}" for i in range(300)), "line 256: the value 255 is always ignored"),
        ("\n".join(f"0 {i // 200} {i % 200} n{i}" for i in range(256)), "256 classes to learn"),
    ],
)
def test_class_files_that_make_no_sense(tmp_path, text, said):
    with pytest.raises(UserError, match=said) as caught:
        read(tmp_path, text)
    assert "classes.txt" in str(caught.value) and "\n" not in str(caught.value)


def test_a_class_file_is_a_label_set_by_its_path(tmp_path):
    read(tmp_path, "road\nPavement\nsky\nmoon\n")
    mine = classfile.by_name(str(tmp_path / "classes.txt"))
    assert mine.classes == ("road", "Pavement", "sky", "moon")
    table = labels.remap(labels.CITYSCAPES, mine)  # by name
    assert {i: int(t) for i, t in enumerate(table) if t != 255} == {0: 0, 10: 2}
    table = labels.remap(mine, labels.CAMVID)  # by name, then by SegNet's grouping
    assert [labels.CAMVID.classes[i] for i in table[:3]] == ["Road", "Pavement", "Sky"]
    assert (table[3:] == 255).all()
    assert (labels.remap(labels.UNLABELLED, mine) == 255).all()
    with pytest.raises(UserError, match="nor is there such a file; choose one of cityscapes"):
        classfile.by_name(str(tmp_path / "clases.txt"))
    with pytest.raises(UserError, match=r"there is no folder .*/nowhere \(--config.data.root"):
        classfile.by_name(str(tmp_path / "nowhere" / "classes.txt"))
    (tmp_path / "latin.txt").write_bytes("Straße\n".encode("latin-1"))
    with pytest.raises(UserError, match="latin.txt: cannot be read as a class file"):
        classfile.by_name(str(tmp_path / "latin.txt"))


TOOLS = {
    "LabelMe, labels.txt": ("__ignore__\n_background_\nroad\nsky\n", {1: "road", 2: "sky"}),
    "LabelMe, class_names.txt": ("_background_\nroad\nsky\n", {1: "road", 2: "sky"}),
    "Roboflow": ("Pixel Value, Class\n0, background\n1, road\n2, sky\n", {1: "road", 2: "sky"}),
    "a heading": ("id;name;area\n3;road;9\n4;sky;\n", {3: "road", 4: "sky"}),
    "a heading, name first": ('label,class id\n"road, wet",3\nsky,4\n', {3: "road, wet"}),
    "value,name": ("0,sky\n7,road\n", {0: "sky", 7: "road"}),
    "name,value": ("sky,0\nroad,7\n", {0: "sky", 7: "road"}),
    "value: name": ("0: sky\n7: road\n", {0: "sky", 7: "road"}),
    "name = value": ("sky = 0\nroad = 7\n", {0: "sky", 7: "road"}),
    "tabs": ("0\tsky\n7\troad\n", {0: "sky", 7: "road"}),
    "names with commas": ("road, wet\nsky\n", {0: "road, wet", 1: "sky"}),
    "names with numbers": ("class 0\nclass 1\n", {0: "class 0", 1: "class 1"}),
    "JSON of values": ('{"sky": 4, "road": 7}', {4: "sky", 7: "road"}),
    "JSON list": ('["sky", "road"]', {0: "sky", 1: "road"}),
}
ROAD, SKY = (128, 64, 128), (70, 130, 180)
COLOUR_TOOLS = {
    "CVAT": "# label:color_rgb:parts:actions\nroad:128,64,128::\nsky:70,130,180::\n",
    "CSV": "name,r,g,b\nroad,128,64,128\nsky,70,130,180\n",
    "CSV without a heading": "128,64,128,road\n70,130,180,sky\n",
    "name R G B": "road 128 64 128\nsky 70 130 180\n",
    "name: R, G, B": "road: 128, 64, 128\nsky: (70, 130, 180)\n",
    "Supervisely, colours": '{"road": [128, 64, 128], "sky": [70, 130, 180]}',
    "Supervisely, meta.json": '{"classes": [{"title": "road", "color": "#804080"}, '
    '{"title": "sky", "color": "#4682B4"}], "tags": []}',
}


@pytest.mark.parametrize("tool", TOOLS)
def test_files_that_tools_write(tmp_path, tool):
    text, expected = TOOLS[tool]
    found = read(tmp_path, text)
    named = {value: found.label_set.classes[train] for value, train in found.values.items()
             if train != 255}  # fmt: skip
    assert expected.items() <= named.items() and found.colours is None
    assert "__ignore__" not in named.values() and len(named) <= 3


@pytest.mark.parametrize("tool", COLOUR_TOOLS)
def test_files_of_colours_that_tools_write(tmp_path, tool):
    found = read(tmp_path, COLOUR_TOOLS[tool])
    assert found.label_set.classes == ("road", "sky")
    extra = {(0, 0, 0): 255} if tool.startswith("Supervisely") else {}  # pixels of no object
    assert found.colours == {ROAD: 0, SKY: 1} | extra


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("road\n__ignore__\nsky\n", "line 2: __ignore__ must be the first line"),
        ("road 1\nsky 0\n", "line 1: 'road 1' may be the value 1 of 'road' or a name; write '1"),
        ("zone 1\nzone 2\n", "write '1 zone', or '0 zone 1'"),
        ("0,sky\nroad\n1,car\n", "line 2: 'road' cannot be told|line 1: '0,sky'"),
        ("0,sky\n1,road,x\n", "line 2: '1,road,x' cannot be told; write a class a line"),
        ("name,id\nsky,0\nroad,x\n", "line 3: 'road,x' cannot be told"),
        ("id,name,red,grn,blue\n0,sky,1,2,3\n", "line 1: .id,name,red,grn,blue. cannot be told"),
        ("road:1,2,3::\nsky\n", "line 2: 'sky' is not 'name:R,G,B:parts:actions' as other lines"),
        ("0: sky\nroad\n", "line 2: 'road' is not 'value: name' as other lines are"),
        ("train: ../train/images\nnc: 2\nnames: [a, b]\n", "the data.yaml of YOLO"),
        ('{"images": [], "categories": []}', "no list of classes; wanted is"),
        ('{"road": 1, "sky": [1, 2, 3]}', "no list of classes; wanted is"),
        ("{road", "neither lines of classes nor JSON"),
    ],
)
def test_files_that_cannot_be_told_are_refused(tmp_path, text, said):
    with pytest.raises(UserError, match=said) as caught:
        read(tmp_path, text)
    assert "classes.txt" in str(caught.value) and "\n" not in str(caught.value)


# --- label files


def png(image, **options):
    buffer = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(buffer, options.pop("format", "PNG"), **options)
    return buffer.getvalue()


def grey_png(ids, bits):
    """A grey PNG of 1, 2 or 4 bits, as optimisers make them of index files."""
    rows = np.unpackbits(ids[..., None], axis=-1)[..., -bits:].reshape(len(ids), -1)
    data = b"".join(b"\0" + np.packbits(row).tobytes() for row in rows)

    def chunk(kind, body):
        crc = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", ids.shape[1], len(ids), bits, 0, 0, 0, 0))
    end = chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + end


COLOURS = "10 20 30 road\n0 0 0 void\n255 255 255 sky\n10 20 31 moon\n"
PALETTE = np.array([(10, 20, 30), (0, 0, 0), (255, 255, 255), (10, 20, 31)], np.uint8)
TRAIN = np.array([0, 255, 1, 2])


def lines(seed=0, high=4):
    return np.random.default_rng(seed).integers(0, high, (6, 8)).astype(np.uint8)


@pytest.mark.parametrize("values", ["auto", "colour"])
def test_colour_files_are_looked_up_exactly(tmp_path, values):
    take = label_files.reader(read(tmp_path, COLOURS), values)
    colours = Image.fromarray(PALETTE[lines()])
    optimised = colours.quantize(4)  # indices in any order, colours as they are
    assert sorted(c for _, c in optimised.convert("RGB").getcolors()) == sorted(
        c for _, c in colours.getcolors()
    )
    for image in (colours, colours.convert("RGBA"), optimised):
        np.testing.assert_array_equal(take(png(image)), TRAIN[lines()])
    wrong = PALETTE[lines()].copy()
    wrong[0, :3], wrong[1, 0] = (10, 20, 32), (11, 20, 31)
    with pytest.raises(UserError, match=r"colour 10 20 32 in 3 pixels \(and 1 more such colours\)"):
        take(png(wrong))


def test_index_files_of_any_kind(tmp_path):
    take = label_files.reader(read(tmp_path, "road\nvoid\nsky\nmoon\n"), "auto")
    palette = Image.fromarray(lines())
    palette.putpalette(np.random.default_rng(1).integers(0, 256, 768).astype(np.uint8).tobytes())
    grey = Image.fromarray(lines())
    thrice = np.stack([lines()] * 3, -1)
    for data in (
        *(png(palette), png(palette, bits=2), png(grey), png(grey.convert("LA")), png(thrice)),
        *(grey_png(lines(), 2), grey_png(lines(), 4), png(grey, format="BMP")),
    ):
        np.testing.assert_array_equal(take(data), TRAIN[lines()])
    mask = lines(high=2)
    for data in (png(Image.fromarray(mask.astype(bool))), grey_png(mask, 1)):
        np.testing.assert_array_equal(take(data), TRAIN[mask])
    ignored = lines()
    ignored[0, 0] = 255
    assert take(png(ignored))[0, 0] == 255


def test_which_files_are_read_by_index_where_both_are_possible(tmp_path):
    classes = read(tmp_path, COLOURS)
    palette = Image.fromarray(lines())
    palette.putpalette(PALETTE[::-1].tobytes())  # the colours of other lines
    by_colour, by_index = TRAIN[::-1][lines()], TRAIN[lines()]
    np.testing.assert_array_equal(label_files.reader(classes, "auto")(png(palette)), by_colour)
    np.testing.assert_array_equal(label_files.reader(classes, "index")(png(palette)), by_index)
    np.testing.assert_array_equal(label_files.reader(classes, "auto")(png(lines())), by_index)
    mask = 255 * lines(high=2)
    found = label_files.reader(classes, "colour")(png(mask))
    np.testing.assert_array_equal(found, np.where(mask == 255, 1, 255))


def test_label_files_that_are_refused(tmp_path):
    names, colours = read(tmp_path, "road\nsky\n"), read(tmp_path, COLOURS)
    take = label_files.reader(names, "auto")
    wrong = np.minimum(lines(), 1)
    wrong[0, :5] = 7
    with pytest.raises(UserError, match="unknown label value 7 in 5 pixels; known are 0-1, 255"):
        take(png(wrong))
    with pytest.raises(UserError, match="holds colours, not indices; list them in .*classes.txt"):
        take(png(PALETTE[lines()]))
    with pytest.raises(UserError, match="lists no colours; write 'R G B name' lines"):
        label_files.reader(names, "colour")(png(PALETTE[lines()]))
    with pytest.raises(UserError, match="16 bits a channel; save the label with 8"):
        take(png(lines().astype(np.uint16)))
    with pytest.raises(UserError, match="a JPEG, whose values are blurred"):
        label_files.reader(colours, "auto")(png(PALETTE[lines()], format="JPEG"))
