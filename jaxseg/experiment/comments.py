"""What the sources say about settings: comments in configs/, arguments of the methods' `make`."""

import ast
import fnmatch
import io
import re
import tokenize
from pathlib import Path

import jaxseg

# The group of settings that each call of `dict` in these files belongs to: 'function' or
# 'function.variable' where it stands, or what it is assigned to.
GROUPS = {
    "augmentation": "augment.*",
    "network": "net",
    "discriminator": "disc",
    "translator": "translator",
    "cycle_translator": "translator",
    "optimisers.shared": "optim.*",
    "optimisers.gen": "optim.gen",
    "optimisers.disc": "optim.disc",
}


def of_configs(folder: Path) -> dict[str, str]:
    """The comments of settings in these three files: {pattern of the path: comment}."""
    found: dict[str, str] = {}
    for name in ("defaults.py", "common.py", "settings.py"):
        text = (folder / name).read_text()
        comments = _comments(text)
        for function in ast.parse(text).body:
            if not isinstance(function, ast.FunctionDef):
                continue
            for node in ast.walk(function):
                if isinstance(node, ast.Assign) and (own := _group(function.name, node)):
                    if comment := comments.get(node.end_lineno):
                        found.setdefault(own, comment)
                    found |= _of_keywords(own, node.value, comments)
    return found


def _group(function: str, node: ast.Assign) -> str:
    """The group of settings that an assignment fills in; '' for another one."""
    target = ast.unparse(node.targets[0])
    if target.startswith("config.") and function == "experiment":
        return target.removeprefix("config.")
    return GROUPS.get(f"{function}.{target}", GROUPS.get(function, ""))


def _of_keywords(own: str, value: ast.expr, comments: dict[int, str]) -> dict[str, str]:
    calls = [
        c for c in ast.walk(value) if isinstance(c, ast.Call) and ast.unparse(c.func) == "dict"
    ]
    return {
        f"{own}.{keyword.arg}": comments[keyword.value.end_lineno]
        for call in calls
        for keyword in call.keywords
        if keyword.value.end_lineno in comments
    }


def of_method(name: str) -> dict[str, str]:
    """The arguments that a method's `make` describes: {'method.settings.NAME': text}."""
    path = Path(jaxseg.__file__).parent / "methods" / f"{name}.py"
    if not path.is_file():
        return {}
    found = {}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef) and node.name == "make":
            block = re.search(r"Args:\n(.*?)(?:\n\n|\Z)", ast.get_docstring(node) or "", re.S)
            for names, text in re.findall(
                r"^  ([\w, ]+): (.*(?:\n    .*)*)", block[1] if block else "", re.M
            ):
                for argument in names.split(", "):
                    found[f"method.settings.{argument}"] = " ".join(text.split())
    return found


def of(path: str, comments: dict[str, str]) -> str:
    """The comment of a setting, as 'optim.gen.lr'; '' if there is none."""
    if path in comments:
        return comments[path]
    return next((c for pattern, c in comments.items() if fnmatch.fnmatchcase(path, pattern)), "")


def _comments(text: str) -> dict[int, str]:
    """{line that code stands on: the comment behind it}, with what continues it below."""
    found: dict[int, str] = {}
    last = 0  # the line whose comment may go on
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT:
            continue
        line, column = token.start
        words = token.string.lstrip("# ").strip()
        if token.line[:column].strip():
            found[line] = words
            last = line
        elif last and line == last + 1 and not re.match(r"[A-Z]", words):
            start = next(k for k in reversed(found))
            found[start] += " " + words
            last = line
    return found
