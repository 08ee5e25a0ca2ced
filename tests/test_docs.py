"""All links, paths, names, commands and settings shown in the pages exist; tables agree."""

import ast
import functools
import importlib
import re
import shlex
from pathlib import Path

import pytest
from kit.experiments import CONFIGS
from kit.rooms import RANK

from jaxseg.web.command import parser as web_parser

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
FRONT = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "benchmarks" / "README.md"]
PAGES = [*FRONT, ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
ROOMS = {p.name for p in (ROOT / "jaxseg").iterdir() if (p / "__init__.py").exists()}
PATH = re.compile(r"\b(?:jaxseg|configs|tests|benchmarks|docs)/[\w/]+\.(?:py|md|jpg|txt)\b")
of_pages = pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))


def headings(path):
    """Anchors of a page, as far as mkdocs and code hosts agree on them."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.M | re.S)
    for title in re.findall(r"^#+ (.*)", text, flags=re.M):
        slug = re.sub(r"[^\w\s-]", "", title).strip().lower()
        hosts, site = slug.replace(" ", "-"), re.sub(r"[-\s]+", "-", slug)
        assert hosts == site, f"{path.name}: {title!r} has two anchors, {hosts} and {site}"
        yield site


def dead_links(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if not path.exists():
            yield f"{target}: there is no {name}"
        elif anchor and anchor not in headings(path):
            yield f"{target}: no such heading"
        elif DOCS in page.parents and DOCS not in path.parents:
            yield f"{target} is not on the site: name the file instead"


@of_pages
def test_links(page):
    assert not list(dead_links(page))


def test_a_dead_link_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Two words\n[a](#two-words) [b](page.md#three) [c](none.md) [d](page.md)")
    assert [line.split(":")[0] for line in dead_links(page)] == ["page.md#three", "none.md"]


@of_pages
def test_paths(page):
    named = set(PATH.findall(page.read_text()))
    assert not [p for p in named if "NAME" not in p and not (ROOT / p).exists()]


@functools.cache
def names_in(path):
    """What a module defines at its top level."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        found |= {getattr(node, "name", None)}
        targets = getattr(node, "targets", [getattr(node, "target", None)])
        found |= {t.id for t in targets if isinstance(t, ast.Name)}
    return found


def missing(span):
    """The missing names of `room/file.function` or `room/file.{a, b}`."""
    path, _, names = span.partition(".")
    if names in ("", "py") or path.endswith("/"):
        place = ROOT / "jaxseg" / path
        return [] if place.is_dir() or place.with_suffix(".py").exists() else [path]
    module = (ROOT / "jaxseg" / path).with_suffix(".py")
    if not module.exists():
        return [path]
    return [n for n in re.findall(r"\w+", names) if n not in names_in(module)]


@of_pages
def test_modules_and_functions(page):
    text = page.read_text()
    if page.name == "CHANGELOG.md":  # where modules are now, not where they were
        text = "\n".join(re.findall(r"^\|[^|]*\|(.*)\|$", text, flags=re.M))
    spans = [
        span
        for span in re.findall(r"`(\w+/[\w/]*(?:\.[\w{}, ]+)?)`", text)
        if span.split("/")[0] in ROOMS
    ]
    assert not {span: gone for span in spans if (gone := missing(span))}


def test_a_missing_function_is_found():
    assert not missing("losses/depth.{encode, berhu}") and not missing("methods/parts/")
    assert missing("losses/depth.{encode, nothing}") == ["nothing"]
    assert missing("losses/nothing.encode") == ["losses/nothing"]


@functools.cache
def load(given):
    """The config of `configs/NAME.py:PRESET`."""
    path, _, preset = given.partition(":")
    module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    return module.get_config(*([preset] if preset else []))


def has(config, key):
    for part in key.split("."):
        if part not in config:
            return False
        config = config[part]
    return True


FLAGS = set(re.findall(r'DEFINE_\w+\(\s*"(\w+)"', (ROOT / "jaxseg/cli/flags.py").read_text()))
FLAGS |= vars(web_parser("web").parse_args([])).keys()


def command_faults(command):
    words = shlex.split(command, comments=True)
    configs = [w.removeprefix("--config=") for w in words if w.startswith("--config=")]
    for word in words:
        key = word.split("=")[0].removeprefix("--")
        if not word.startswith("--") or word == "--" or key == "config":
            continue
        if not key.startswith("config."):
            if key not in FLAGS:
                yield f"{command}: launch.py has no flag {key}"
        elif configs and not has(load(configs[0]), key.removeprefix("config.")):
            yield f"{command}: {configs[0]} has no setting {key}"
    for given in configs:
        load(given)  # an unknown preset raises


@of_pages
def test_commands(page):
    text = page.read_text().replace("\\\n", " ")
    for command in re.findall(r"launch\.py( [^`\n]*)", text):
        command = command.split(" & done")[0]
        if command.count('"') % 2:  # it stands within quotation marks
            command = command.rstrip().removesuffix('"')
        assert not list(command_faults(command))


@of_pages
def test_presets_and_settings(page):
    """Those shown alone, such as `--config=configs/advent.py:reference` or `--config.net.norm=`."""
    text = page.read_text()
    for given in re.findall(r"`--config=([^`\s]+)`", text):
        load(given)
    every = [load(f"configs/{name}.py") for name in CONFIGS]
    every += [load("configs/baseline.py:folder"), load("configs/advent.py:cityscapes_crosscity")]
    keys = set(re.findall(r"`--config\.([a-z][\w.]*)=", text))
    unknown = {key for key in keys if not any(has(config, key) for config in every)}
    options = {"data.target.options.depth"}  # of a builder, absent from the config by default
    assert not unknown - options


def test_commands_that_cannot_work_are_found():
    assert not list(command_faults("--config=configs/advent.py:gta5_cityscapes --mode=evaluate"))
    assert list(command_faults("--config=configs/advent.py --config.net.nothing=1"))
    assert list(command_faults("--config=configs/advent.py --nothing"))
    with pytest.raises(ValueError, match="unknown preset"):
        list(command_faults("--config=configs/advent.py:nothing"))


def test_the_front_page():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 130
    assert len((ROOT / "CONTRIBUTING.md").read_text().splitlines()) <= 45
    shown = set(re.findall(r"^\|.*`python launch\.py --config=configs/(\w+)\.py", text, flags=re.M))
    assert shown == set(CONFIGS), "a command for each config, in the table of methods"
    table = text.split("## Results")[1].split("## ")[0]
    plain = table.replace("**", "")
    score = r"([\d.]+(?: ± [\d.]+)?|-)"
    rows = re.findall(rf"^\| (.*) \| {score} \| (.*) \| {score} \|$", plain, flags=re.M)
    results = (DOCS / "results.md").read_text().replace("**", "")
    told = [(name, value) for name, *values in rows for value in values[:2] if value != "-"]
    assert len(told) > 9 and not [x for x in told if f"| {x[0]} | {x[1]} |" not in results]
    photographs = [value for *_, value in rows if value != "-"]
    assert len(photographs) > 3 and not [x for x in photographs if f" | {x} | " not in results]


def test_rooms_are_told_as_they_are():
    text = (DOCS / "design.md").read_text()
    rows = re.findall(r"^\| (\d+) \| (.*?) \|", text, flags=re.M)
    told = {
        name.rstrip("/").removesuffix(".py"): int(rank)
        for rank, names in rows
        for name in re.findall(r"`(.*?)`", names)
    }
    there = {p.stem for p in (ROOT / "jaxseg").iterdir() if not p.name.startswith(("_", "py."))}
    assert told == {name: rank for name, rank in RANK.items() if name in there}
    pages = {p.stem for p in (DOCS / "api").glob("*.md")} - {"index"}
    assert pages == ROOMS, "a page in docs/api (and a line in mkdocs.yml) for each room"


def test_the_licence_is_told_once():
    assert "Apache License" in (ROOT / "LICENSE").read_text()[:200]
    for name in ("pyproject.toml", "CITATION.cff"):
        assert "Apache-2.0" in (ROOT / name).read_text()
