"""The command line: chooses the study, the store and the cluster, and tunes nothing.

Nothing heavy is imported at the top: `--help` and `status` need neither torch nor ray.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    import pandas as pd

    from algoprogress.ablations.study import Study
    from algoprogress.results import Store

DONE, RUNS_FAILED, WRONG_USE, REFUSED, INTERRUPTED = 0, 1, 2, 3, 130

app = typer.Typer(
    help="Measures algorithmic progress in language-model training. "
    "Exit codes: 0 done, 1 runs failed, 2 wrong use, 3 refused.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
corpus_app = typer.Typer(help="Texts to train on: list, build, check.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(corpus_app, name="corpus")

StoreOption = Annotated[
    str | None, typer.Option("--store", help="Folder or URL of the runs; default $ALGOPROGRESS_STORE or results/data.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else there.")]
StudyArgument = Annotated[str, typer.Argument(help="A built-in study (see `studies`) or a YAML file.")]
StoredStudy = Annotated[str, typer.Argument(help="A study in the store.")]
ExecutorOption = Annotated[str, typer.Option(help="ray, process or inline.")]


class Refused(Exception):
    """What was asked is over a cap, or more than there is."""


# what is varied


@app.command()
def studies(as_json: JsonOption = False) -> None:
    """List the built-in studies with their questions."""
    from algoprogress.ablations.study import question
    from algoprogress.ablations.study import studies as registry

    rows = [{"study": name, "question": question(registry[name])} for name in registry]
    emit(rows, as_json)


@app.command()
def plan(
    study: StudyArgument,
    store: StoreOption = None,
    slots: Annotated[int | None, typer.Option(help="Runs at once; default: all cores.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Print each run with its size, cost and state, and the total. Trains nothing."""
    from algoprogress.pipeline.plan import SPREAD
    from algoprogress.pipeline.plan import plan as make_plan

    note("measuring the time of a few steps of each new shape of run ...")
    planned = make_plan(find_study(study), open_store(store), slots)
    totals = planned.totals()
    if as_json:
        emit({"runs": records(planned.rows), "totals": totals}, True)
        return
    emit(planned.rows, False)
    print(
        f"\n{totals['runs']} runs, {totals['compute']:.3g} FLOP; to train: {totals['pending']} runs, "
        f"{totals['pending_compute']:.3g} FLOP, {totals['core_hours']:.3g} core-hours, about "
        f"{duration(planned.wall_seconds)} on {planned.slots} cores "
        f"({duration(planned.wall_seconds * (1 - SPREAD))} to {duration(planned.wall_seconds * (1 + SPREAD))})"
    )


@app.command()
def submit(
    study: StudyArgument,
    store: StoreOption = None,
    executor: ExecutorOption = "ray",
    slots: Annotated[int | None, typer.Option(help="Runs at once; default: all cores.")] = None,
    address: Annotated[
        str, typer.Option(help="local: an own Ray on this machine; auto or host:port: a running one.")
    ] = "local",
    gpus_per_run: Annotated[float, typer.Option(help="Share of a GPU for each run; 0: train on CPUs.")] = 0.0,
    max_hours: Annotated[
        float | None, typer.Option(help="Refuse (exit code 3) a plan of more wall hours than this.")
    ] = None,
    time_limit: Annotated[float | None, typer.Option(help="Stop a run after so many seconds.")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Train again what has failed before.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train every run of a study that the store does not hold. Safe to interrupt and to repeat."""
    from algoprogress.pipeline import executors
    from algoprogress.pipeline import submit as submitting
    from algoprogress.pipeline.plan import plan as make_plan
    from algoprogress.pipeline.progress import progress

    if executor not in executors.EXECUTORS:
        raise ValueError(f"unknown executor {executor!r}; known: {', '.join(executors.EXECUTORS)}")
    found, there = find_study(study), open_store(store)
    there.writable()
    if max_hours is not None:
        hours = make_plan(found, there, slots).totals()["wall_hours"]
        if hours > max_hours:
            raise Refused(
                f"{found.name} needs about {hours:.3g} hours here, more than --max-hours {max_hours:g}: "
                "raise the cap, take more slots, or take a smaller study"
            )
    summary = submitting.submit(
        found,
        there,
        lambda: executors.make(executor, slots=slots, address=address, gpus_per_run=gpus_per_run),
        progress(found.name),
        time_limit=time_limit,
        retry_failed=retry_failed,
        device="cuda" if gpus_per_run else "cpu",
    )
    failed = [{"run_id": run_id, "message": message} for run_id, message in summary.failed.items()]
    facts = {
        "study": found.name,
        "store": there.url,
        "trained": summary.trained,
        "diverged": summary.diverged,
        "failed": failed,
        "seconds": round(summary.seconds, 1),
    }
    if as_json:
        emit(facts, True)
    else:
        note(
            f"{found.name}: {summary.trained} runs trained in {duration(summary.seconds)}"
            + (f", {summary.diverged} of them diverged" if summary.diverged else "")
            + f"; {len(there.runs(found.name, status=None))} runs of the study are in {there.url}"
        )
    if failed:
        for item in failed:
            note(f"failed {item['run_id']}: {item['message']}")
        raise typer.Exit(RUNS_FAILED)


@app.command()
def diff(study: StudyArgument, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Show, arm by arm, every field in which an arm differs from the baseline."""
    there = open_store(store)
    if study in there.studies():
        stored = there.study(study)
        baseline, differences = stored["baseline"], stored["differences"]
    else:
        found = find_study(study, resolved=False)
        baseline, differences = found.baseline, found.differences()
    if as_json:
        emit({"baseline": baseline, "differences": differences}, True)
        return
    rows = [
        {"arm": arm, "field": field, baseline: values(d["baseline"]), "here": values(d["arm"])}
        for arm, fields in differences.items()
        for field, d in fields.items()
    ]
    emit(rows, False)


# what is kept


@app.command()
def status(
    study: Annotated[str | None, typer.Argument(help="A study in the store; default: all.")] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Count the runs of each study and arm: done, diverged, running, failed, to do. From files alone."""
    from algoprogress.pipeline.status import status as count

    there = open_store(store)
    rows = count(there, study)
    if not rows and not as_json:
        note(f"no study in {there.url} yet: `algoprogress submit demo` trains one")
        return
    emit(rows, as_json)


@app.command()
def logs(
    run: Annotated[str, typer.Argument(help="A run_id, or the beginning of one.")],
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what is known of one run: its record and curve, or how it failed."""
    from algoprogress.pipeline.status import history

    found = history(open_store(store), run)
    if as_json:
        emit(found, True)
        return
    for failure in found["failures"]:
        print(
            f"attempt {failure['attempt']} on {failure.get('host')} at {failure.get('at')}: "
            f"{failure['class']}: {failure['message']}"
        )
        print(failure.get("traceback") or "")
    if found["active"]:
        print(f"in training: {found['active']}")
    if found["record"]:
        for key, value in found["record"].items():
            print(f"{key:<20} {json.dumps(value) if isinstance(value, dict) else value}")
        print()
        emit(found["curve"], False)


@app.command()
def runs(
    study: Annotated[str | None, typer.Argument(help="A study in the store; default: all.")] = None,
    store: StoreOption = None,
    where: Annotated[
        str | None, typer.Option(help="A pandas query, such as 'n_params > 1e5 and arm == \"lstm\"'.")
    ] = None,
    columns: Annotated[str | None, typer.Option(help="Comma-separated columns.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Print the stored runs, one row per (arm, run)."""
    table = open_store(store).runs(study, status=None)
    if where:
        try:
            table = table.query(where)
        except Exception as error:
            raise ValueError(f"--where {where!r} is not a query on the columns of runs: {error}") from None
    default = [
        "study",
        "arm",
        "run_id",
        "status",
        "n_params",
        "tokens",
        "compute",
        "learning_rate",
        "seed",
        "loss",
        "loss_se",
    ]
    chosen = columns.split(",") if columns else list(table.columns) if as_json else default
    missing = [c for c in chosen if c not in table.columns]
    if missing and len(table):
        raise ValueError(f"no column {missing[0]!r}; there are: {', '.join(table.columns)}")
    emit(table[[c for c in chosen if c in table.columns]], as_json)


@app.command()
def verify(
    study: Annotated[str | None, typer.Argument(help="A study in the store; default: all.")] = None,
    store: StoreOption = None,
    set_aside: Annotated[
        bool, typer.Option("--set-aside", help="Move corrupt files to quarantine/, so that submit trains them again.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Read every file in full: checksums, identities, completeness. Exit code 1 when something is wrong."""
    there = open_store(store)
    problems = there.verify(study)
    if set_aside:
        corrupt = problems[problems.file.str.startswith("runs/")] if len(problems) else problems
        for row in corrupt.drop_duplicates("file").to_dict("records"):
            there.set_aside(str(row["run_id"]), str(row["problem"]))
            note(f"set aside {row['file']}: {row['problem']}")
    emit(problems, as_json)
    if len(problems):
        raise typer.Exit(RUNS_FAILED)
    note(f"{there.url}: {len(there.run_ids())} runs, nothing wrong")


@app.command()
def compact(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Gather the runs' records and curves in an index, for fast reading. Safe to interrupt or delete."""
    there = open_store(store)
    emit({"store": there.url, "indexed": there.compact()}, as_json)


# corpora


@corpus_app.command("list")
def corpus_list(as_json: JsonOption = False) -> None:
    """List the built-in corpora."""
    from algoprogress.pipeline.data import list_corpora

    emit(list_corpora(), as_json)


@corpus_app.command("build")
def corpus_build(
    corpus: Annotated[str, typer.Argument(help="A built-in corpus or a path.")] = "english",
    tokenizer: Annotated[str, typer.Option(help="bytes or bpe-V.")] = "bytes",
    as_json: JsonOption = False,
) -> None:
    """Fetch or read a corpus and write its token shards."""
    from algoprogress.pipeline.data import build

    emit(build(corpus, tokenizer), as_json)


@corpus_app.command("check")
def corpus_check(
    corpus: Annotated[str, typer.Argument(help="A built-in corpus or a path.")] = "english",
    tokenizer: Annotated[str, typer.Option(help="bytes or bpe-V.")] = "bytes",
    as_json: JsonOption = False,
) -> None:
    """Hash the shards again, and measure the overlap of validation with training text."""
    from algoprogress.pipeline.data import check

    emit(check(corpus, tokenizer), as_json)


# shared


def open_store(url: str | None) -> Store:
    from algoprogress.results import Store

    return Store(url)


def find_study(name: str, resolved: bool = True) -> Study:
    """A built-in study by name or a YAML file by path, with its corpora pinned."""
    from algoprogress.ablations.study import studies as registry
    from algoprogress.pipeline.plan import resolve

    if name.endswith((".yaml", ".yml")) or os.sep in name:
        from algoprogress.ablations.study_file import load

        study = load(name)
    else:
        study = registry[name]()
    return resolve(study, note) if resolved else study


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [plain(row) for row in table.to_dict("records")]


def plain(value: Any) -> Any:
    """The value as JSON has it: NaN is null, numpy numbers are numbers."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def emit(data: Any, as_json: bool) -> None:
    """Print a DataFrame, a list of mappings or a mapping: as a table for people, or as one JSON document."""
    if hasattr(data, "to_dict"):
        data = records(data)
    if as_json:
        print(json.dumps(plain(data), indent=1, ensure_ascii=False))
    elif isinstance(data, dict):
        for key, value in data.items():
            print(f"{key}: {json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value}")
    elif data:
        columns = list(dict.fromkeys(key for row in data for key in row))
        cells = [[text(row.get(c)) for c in columns] for row in data]
        widths = [max(len(c), *(len(row[i]) for row in cells)) for i, c in enumerate(columns)]
        right = [all(isinstance(row.get(c), int | float | None) for row in data) for c in columns]
        for row in [columns, *cells]:
            line = "  ".join(
                cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(row, widths, right, strict=True)
            )
            print(line.rstrip())


def text(value: Any) -> str:
    value = plain(value)
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if value == int(value) and abs(value) < 1e7 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def values(found: Sequence[Any]) -> str:
    """Values of a field over an arm's runs: one, a few, or a range."""
    if not found:
        return "(none)"
    if len(found) <= 4 or not all(isinstance(v, int | float) for v in found):
        return ", ".join(map(text, found))
    return f"{text(min(found))} … {text(max(found))} ({len(found)} values)"


def duration(seconds: float) -> str:
    from algoprogress.pipeline.progress import clock

    return f"{seconds:.1f} s" if seconds < 60 else f"{clock(seconds)} min" if seconds < 3600 else f"{clock(seconds)} h"


def note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def stop(message: str, code: int) -> NoReturn:
    note(f"algoprogress: {message}")
    sys.exit(code)


def main() -> None:
    """Run a command; an error that a user can mend is one sentence and an exit code, never a traceback."""
    from algoprogress.results.files import StoreError

    try:
        app()
    except Refused as refusal:
        stop(str(refusal), REFUSED)
    except (ValueError, StoreError) as error:
        stop(one_sentence(error), WRONG_USE)
    except BrokenPipeError:
        sys.exit(DONE)
    except KeyboardInterrupt:
        stop("interrupted; every finished run is kept, and the same command goes on from there", INTERRUPTED)


def one_sentence(error: Exception) -> str:
    errors = getattr(error, "errors", None)
    if callable(errors):  # pydantic lists its complaints; the first will do
        first = errors()[0]
        where = ".".join(map(str, first["loc"]))
        return f"{where}: {first['msg']}" if where else str(first["msg"])
    return str(error)


if __name__ == "__main__":
    main()
