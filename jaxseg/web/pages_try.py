"""The answers about predictions and layers, for the pages and for scripts."""

import json
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from jaxseg.errors import UserError
from jaxseg.web import guard, jobs, launcher, pages_jobs, places, recipes, runs
from jaxseg.web.client import Worker
from jaxseg.web.places import Places

UPLOAD = 64 << 20  # bytes of an image's file
CHOICES = 300  # runs whose networks are offered at a time
PNG = ("ids", "color", "overlay", "entropy")


def routes(where: Places, networks: Worker, queue: jobs.Queue) -> list[Route]:
    """The routes of /api/networks, /api/predict, /api/predictions, /api/layers and /api/check."""

    def choices(request: Request) -> Response:
        names = [r["name"] for r in runs.listed(where.runs)]  # the newest first
        wanted = request.query_params.get("run")
        names = [n for n in names if n == wanted] + [n for n in names if n != wanted]
        found = [network_choices(where, name) for name in names[:CHOICES]]
        return JSONResponse({"networks": [n for n in found if n["steps"]]})

    async def predict(request: Request) -> Response:
        query, image = request.query_params, await guard.body(request, UPLOAD)
        wanted = await run_in_threadpool(source_of, where, query)
        kind = query.get("as", "json")
        if kind not in (*PNG, "json", "maps"):
            raise UserError(f"there is no as={kind}: choose {', '.join((*PNG, 'json', 'maps'))}")
        asked = {**wanted, "kind": kind, "strength": number(query, "strength", 0.55)}
        made, found = await run_in_threadpool(networks.ask, "predict", asked, image)
        if kind == "json":
            return JSONResponse(made)
        if kind == "maps":  # the header tells what the bytes are
            head = {"x-prediction": json.dumps(made), "content-encoding": "deflate"}
            return Response(found, media_type="application/octet-stream", headers=head)
        return Response(found, media_type="image/png")

    def picture(request: Request) -> Response:
        asked = {**request.path_params, "strength": number(request.query_params, "strength", 0.55)}
        _, data = networks.ask("picture", asked)
        name = f'attachment; filename="{asked["kind"]}.png"'
        return Response(data, media_type="image/png", headers={"content-disposition": name})

    async def look(request: Request) -> Response:
        image = await guard.body(request, UPLOAD)
        wanted = await run_in_threadpool(source_of, where, request.query_params)
        made, tiles = await run_in_threadpool(networks.ask, "layers", wanted, image)
        text = json.dumps(made).encode()
        # The JSON comes first, after its length in 8 digits; the tiles are compressed already.
        return Response(b"%08d" % len(text) + text + tiles, media_type="application/octet-stream")

    async def check(request: Request) -> Response:
        content = await pages_jobs.form(request)
        asked = await run_in_threadpool(to_check, where, content)
        await run_in_threadpool(networks.ask, "check", asked)
        return JSONResponse({"ok": True})

    return [
        Route("/api/networks", choices),
        Route("/api/predict", predict, methods=["POST"]),
        Route("/api/predictions/{id}/{kind}.png", picture),
        Route("/api/layers", look, methods=["POST"]),
        Route("/api/check", check, methods=["POST"]),
    ]


def network_choices(where: Places, name: str) -> dict[str, Any]:
    """A run's snapshots: the kept steps, and which of them a criterion chooses."""
    folder = where.runs / name
    kept = runs.checkpoints(folder)
    criteria = (places.read_json(folder / "selection.json") or {}).get("criteria") or {}
    chosen = {k: c["step"] for k, c in criteria.items() if c.get("step") in kept and k != "step"}
    files = runs.pictures(folder).get("", [])
    return {
        "name": name, "steps": kept, "chosen": chosen,
        "samples": [f for f in files if f.endswith("_image.jpg") and f[0].isdigit()],
    }  # fmt: skip


def source_of(where: Places, query: Any) -> dict[str, str]:
    """The network that a request names: run and step (best, last, a criterion, a number)."""
    name, step = query.get("run", ""), query.get("step", "best")
    if not name:
        raise UserError("name a run: ?run=NAME&step=best")
    folder = runs.folder_of(where.runs, name)
    if not runs.checkpoints(folder):
        raise UserError(f"{name} holds no checkpoint")
    return {"source": str(folder), "step": step}


def number(query: Any, key: str, default: float) -> float:
    """A number from 0 to 1 of a query."""
    try:
        value = float(query.get(key, default))
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise UserError(f"{key} is a number from 0 to 1")
    return value


def to_check(where: Places, content: dict[str, Any]) -> dict[str, Any]:
    """What the worker checks of a form for a new training."""
    places.new_name(pages_jobs.text(content, "name"))
    config, clone = pages_jobs.text(content, "config"), pages_jobs.text(content, "clone")
    if clone:
        config = str(runs.folder_of(where.runs, clone))
    else:
        config = pages_jobs.with_data(where, content, where.own / "experiments" / "checked.json")
    given = recipes.overrides(pages_jobs.text(content, "settings"))
    return {"config": launcher.argument(config), "overrides": given}
