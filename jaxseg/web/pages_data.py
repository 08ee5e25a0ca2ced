"""The answers about data sets: what there is, what a folder holds, making one, browsing."""

import sys
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from jaxseg.errors import UserError
from jaxseg.web import datasets, guard, jobs, launcher, pages_jobs, runs
from jaxseg.web.client import Worker
from jaxseg.web.places import Missing, Places, new_name, read_json, write_json

BASE = "source_only:streets"  # what a data set is prepared with: its settings of data alone count


def routes(where: Places, browser: Worker, queue: jobs.Queue) -> list[Route]:
    """The routes below /api/datasets and /api/data."""

    def index(request: Request) -> Response:
        own = [{**d, "job": queue.state_of(f"data/{d['name']}")} for d in datasets.own(where)]
        return JSONResponse({
            "datasets": own, "prepared": datasets.prepared(where),
            "published": datasets.published(where),
        })  # fmt: skip

    def folders(request: Request) -> Response:
        return JSONResponse(datasets.folders(where))

    def one(request: Request) -> Response:
        name = request.path_params["name"]
        return JSONResponse({**datasets.get(where, name), **queue.state_of(f"data/{name}")})

    async def survey(request: Request) -> Response:
        form = await pages_jobs.form(request)
        return JSONResponse(await run_in_threadpool(begin_survey, where, queue, form), 201)

    def report(request: Request) -> Response:
        number = new_name(request.path_params["job"])
        job = queue.get(number)
        found = read_json(where.own / "surveys" / f"{job['survey']}.report.json")
        return JSONResponse({**job, "log": queue.log(number), "report": found})

    async def create(request: Request) -> Response:
        form = await pages_jobs.form(request)
        return JSONResponse(await run_in_threadpool(begin_create, where, queue, form), 201)

    def splits(request: Request) -> Response:
        found, _ = browser.ask("splits", experiment(where, request.query_params))
        return JSONResponse(found)

    def image(request: Request) -> Response:
        query = request.query_params
        kind = query.get("kind", "image")
        if kind not in ("image", "label") or not query.get("index", "").isdigit():
            return guard.said(400, "give kind=image or label, and index=NUMBER")
        asked = experiment(where, query) | {
            "side": query.get("side", ""), "split": query.get("split", ""),
            "index": int(query["index"]), "kind": kind,
        }  # fmt: skip
        if asked["side"] not in ("source", "target"):
            return guard.said(400, "side is source or target")
        _, data = browser.ask("image", asked)
        return Response(data, media_type="image/jpeg" if kind == "image" else "image/png")

    return [
        Route("/api/datasets", index),
        Route("/api/datasets", create, methods=["POST"]),
        Route("/api/datasets/{name}", one),
        Route("/api/data/folders", folders),
        Route("/api/data/survey", survey, methods=["POST"]),
        Route("/api/data/survey/{job}", report),
        Route("/api/data/splits", splits),
        Route("/api/data/image", image),
    ]


def experiment(where: Places, query: Any) -> dict[str, Any]:
    """The experiment whose data are browsed: ?run=NAME or ?set=NAME."""
    more = {"root": str(where.data), "records": where.records}
    if name := query.get("run"):
        return {"config": str(runs.folder_of(where.runs, name)), **more}
    name = query.get("set", "")
    datasets.get(where, name)
    return {"config": str(where.own / "datasets" / "experiments" / f"{name}.json"), **more}


def begin_survey(where: Places, queue: jobs.Queue, form: dict[str, Any]) -> dict:
    """Queues the counting of a form's folders; its job's `survey` names the report."""
    options = datasets.checked(where, {"name": "unnamed", **form})
    number = f"{options['name']}-{len(queue.jobs())}-{jobs.stamp()}"
    place = where.own / "surveys"
    given = place / f"{number}.json"
    write_json(given, options)
    for old in sorted(place.glob("*.json"), key=lambda p: p.stat().st_mtime)[:-100]:
        old.unlink(missing_ok=True)
    argv = [sys.executable, "-u", "-m", "jaxseg.web.survey", str(given),
            str(place / f"{number}.report.json")]  # fmt: skip
    title = f"inspect {form.get('images')}"
    return queue.add("inspect", argv, title=title, more={"survey": number})


def begin_create(where: Places, queue: jobs.Queue, form: dict[str, Any]) -> dict:
    """Saves a data set and queues its preparation.

    Args:
      form: as for the survey; survey, the id of the job that looked at these very folders.

    Raises:
      UserError: a name that is taken, folders that were not looked at or have faults.
    """
    options = datasets.checked(where, form)
    name = options["name"]
    if (where.own / "datasets" / f"{name}.json").exists():
        raise UserError(f"there is a data set {name} already: give another name")
    report = seen(where, queue, options, str(form.get("survey") or ""))
    experiments = where.own / "datasets" / "experiments"
    spec = experiments / f"{name}.json"
    # Images without labels are no source: a few rendered ones stand there, which nobody looks at.
    source = {"source": options} if options["labels"] else {"source": None, "counts": [2, 1]}
    write_json(spec, {"base": BASE, "target": options, **source})
    datasets.save(where, {**options, "report": report})
    overrides = pages_jobs.data_flags(where, [])
    argv = launcher.inspect(str(spec), experiments / name, overrides)
    return queue.add("data", argv, run=f"data/{name}", title=f"prepare {name}")


def seen(where: Places, queue: jobs.Queue, options: dict[str, Any], number: str) -> dict:
    """The report of an inspection, if it was of these options and found nothing wrong."""
    try:
        survey = queue.get(number)["survey"]
    except (Missing, KeyError) as error:
        raise UserError("inspect the folders first") from error
    place = where.own / "surveys"
    before = read_json(place / f"{survey}.json") or {}
    report = read_json(place / f"{survey}.report.json")
    left_out = ("name", "size")
    if report is None or any(before.get(k) != v for k, v in options.items() if k not in left_out):
        raise UserError("the folders or options were changed: inspect them again")
    if report["faulty"]:
        raise UserError(f"{report['faulty']} files have faults: mend them, then inspect again")
    return report
