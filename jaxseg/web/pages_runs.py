"""The answers about runs: list, facts, growing log, files, and a network to take away."""

import json
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from jaxseg.errors import UserError
from jaxseg.web import guard, jobs, runs
from jaxseg.web.places import Missing, Places, read_json, within

MOST = 500  # runs in one answer
COMPARED = 6


def routes(places: Places, queue: jobs.Queue) -> list[Route]:
    """The routes below /api/runs that only read."""

    def folder_of(name: str) -> Path:
        """A run's folder, or where it will be if its job has only been queued."""
        try:
            return runs.folder_of(places.runs, name)
        except Missing:
            if queue.state_of(name)["job"] is None:
                raise
            return places.runs / name

    def index(request: Request) -> Response:
        query = request.query_params
        try:
            start, count = int(query.get("offset", 0)), int(query.get("limit", 100))
        except ValueError:
            return guard.said(400, "offset and limit are whole numbers")
        start, count = max(0, start), max(1, min(MOST, count))
        found = runs.listed(
            places.runs, query=query.get("q", ""), sort=query.get("sort", "-changed")
        )
        if not query.get("q"):  # what waits has no folder yet
            names = {r["name"] for r in found}
            coming = [name for name in queue.coming() if name not in names]
            found = [runs.summary(places.runs / name, name) for name in coming] + found
        shown = [{**r, **queue.state_of(r["name"])} for r in found[start : start + count]]
        return JSONResponse({"total": len(found), "runs": shown})

    def one(request: Request) -> Response:
        name = request.path_params["name"]
        found = runs.facts(folder_of(name), name)
        return JSONResponse({**found, **queue.state_of(name)})

    def metrics(request: Request) -> Response:
        folder = folder_of(request.path_params["name"])
        query = request.query_params
        most = query.get("most", "")
        most = int(most) if most.isdecimal() else 0
        return JSONResponse(runs.lines(folder, query.get("from", ""), most))

    def log(request: Request) -> Response:
        return JSONResponse(queue.tail(request.path_params["name"]))

    def file(request: Request) -> Response:
        folder = runs.folder_of(places.runs, request.path_params["name"])
        return served(folder, request.path_params["file"])

    def archive(request: Request) -> Response:
        name = request.path_params["name"]
        folder = runs.folder_of(places.runs, name)
        step = request.query_params.get("step", "last")
        path = pack(folder, chosen_step(folder, step))
        title = f"{name.replace('/', '_')}_step_{step}.tar"
        return FileResponse(
            path, media_type="application/x-tar", filename=title,
            background=BackgroundTask(path.unlink, missing_ok=True),
        )  # fmt: skip

    def compare(request: Request) -> Response:
        names = request.query_params.getlist("run")[:COMPARED]
        return JSONResponse({"runs": [compared(places.runs, name) for name in names]})

    return [
        Route("/api/runs", index),
        Route("/api/compare", compare),
        Route("/api/runs/{name:path}/metrics", metrics),
        Route("/api/runs/{name:path}/log", log),
        Route("/api/runs/{name:path}/archive", archive),
        Route("/api/runs/{name:path}/files/{file:path}", file),
        Route("/api/runs/{name:path}", one),
    ]


def served(folder: Path, file: str) -> Response:
    """A file of a run that a page may show: its results, its report and its pictures."""
    picture = file.startswith("pictures/") and file.endswith((".png", ".jpg"))
    if not picture and file not in runs.FILES:
        raise UserError(f"{file} is not among the files that are shown")
    path = within(folder, file)
    headers = {"cache-control": "no-cache"}
    if file == "report.html":
        headers["content-security-policy"] = guard.REPORT_POLICY
    if file.endswith((".jsonl", ".txt")):
        return FileResponse(path, media_type="text/plain; charset=utf-8", headers=headers)
    return FileResponse(path, headers=headers)


def chosen_step(folder: Path, wanted: str) -> int:
    """The step of a run's checkpoint that 'best', 'last', a criterion or a number stands for.

    Raises:
      UserError: no such checkpoint.
    """
    kept = runs.checkpoints(folder)
    if not kept:
        raise UserError(f"{folder} holds no checkpoint")
    if wanted == "last":
        return kept[-1]
    if wanted.isdigit() and int(wanted) in kept:
        return int(wanted)
    choices = (read_json(folder / "selection.json") or {}).get("criteria") or {}
    step = (choices.get("miou" if wanted == "best" else wanted) or {}).get("step")
    if wanted == "best" and step not in kept:  # a run that goes on, or whose best was not kept
        scores = {e["step"]: e["miou"] for e in runs.evaluations(folder) if e.get("miou")}
        step = max((s for s in kept if s in scores), key=scores.get, default=kept[-1])
    if step in kept:
        return step
    raise UserError(f"{folder} has no checkpoint {wanted!r}: it holds {', '.join(map(str, kept))}")


def pack(folder: Path, step: int) -> Path:
    """Packs one network of a run: its checkpoint, config, classes and results, as a tar file.

    Unpacked it is a run folder, which every mode takes as --workdir.
    """
    found = runs.facts(folder, folder.name)
    classes = {k: found["pictures"][k] for k in ("classes", "palette")}
    with tempfile.NamedTemporaryFile(suffix=".tar", delete=False) as file:
        with tarfile.open(fileobj=file, mode="w") as tar:
            for name in ("config.json", "method.json", "results.json", "selection.json"):
                if (folder / name).is_file():
                    tar.add(folder / name, f"{folder.name}/{name}")
            tar.add(folder / "checkpoints" / f"{step:08d}",
                    f"{folder.name}/checkpoints/{step:08d}")  # fmt: skip
            with tempfile.NamedTemporaryFile("w", suffix=".json") as names:
                json.dump(classes, names, indent=1)
                names.flush()
                tar.add(names.name, f"{folder.name}/classes.json")
    return Path(file.name)


def compared(root: Path, name: str) -> dict[str, Any]:
    """A run for the comparison: its line in the list, its scores over steps and by class."""
    folder = runs.folder_of(root, name)
    evaluations = runs.evaluations(folder)
    keys = ("miou", "source_miou", "entropy", "agreement", "neighbourhood_density")
    return {
        **runs.summary(folder, name),
        "curves": {k: [[e["step"], e.get(k)] for e in evaluations] for k in keys},
        "iou": evaluations[-1].get("iou") if evaluations else None,
    }
