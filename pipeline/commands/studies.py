"""Commands on what is varied: studies, plan, submit, diff."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from algoprogress.pipeline.output import (
    RUNS_FAILED,
    JsonOption,
    Refused,
    StoreOption,
    duration,
    emit,
    given_store,
    note,
    open_store,
    records,
    values,
)

if TYPE_CHECKING:
    from algoprogress.ablations.study import Study
    from algoprogress.pipeline.options import Then
    from algoprogress.results import Store

StudyArgument = Annotated[str, typer.Argument(help="A built-in study (see `studies`) or a YAML file.")]
PresetOption = Annotated[
    str | None, typer.Option(help="Range of a built-in study: smoke, demo, laptop (the default), gpu or paper.")
]
CorpusOption = Annotated[
    str | None,
    typer.Option(help="Ask a built-in study on this corpus or text file: a study of its own, named STUDY-CORPUS."),
]
CompileOption = Annotated[
    bool, typer.Option("--compile", help="Use torch.compile for each shape of run that repays its cost.")
]
ExecutorOption = Annotated[str, typer.Option(help="ray, process or inline.")]


def studies(as_json: JsonOption = False) -> None:
    """List the built-in studies with their questions."""
    from algoprogress.ablations.study import question
    from algoprogress.ablations.study import studies as registry

    emit([{"study": name, "question": question(registry[name])} for name in registry], as_json)


def plan(
    study: StudyArgument,
    preset: PresetOption = None,
    corpus: CorpusOption = None,
    store: StoreOption = None,
    accelerator: Annotated[
        str | None, typer.Option(help="Tell the cost in hours of it, not of this machine: v100, a100 or h100.")
    ] = None,
    utilisation: Annotated[float, typer.Option(help="Share of the accelerator's peak that training reaches.")] = 0.3,
    slots: Annotated[int | None, typer.Option(min=1, help="Runs at once; default: all cores.")] = None,
    compile_: CompileOption = False,
    as_json: JsonOption = False,
) -> None:
    """Print each run with its size, cost and state, and the total. Trains nothing."""
    from algoprogress.pipeline.curvature.stage import table as probe_table
    from algoprogress.pipeline.plan import SPREAD, worth_compiling
    from algoprogress.pipeline.plan import plan as make_plan

    found = find_study(study, preset, corpus=corpus)
    accelerator = accelerator or accelerator_of(preset)
    if accelerator is not None:
        _plan_on(found, accelerator, utilisation, store, as_json)
        return
    note("measuring the time of a few steps of each new shape of run ...")
    planned = make_plan(found, open_store(store), slots)
    if compile_:
        specs = [spec for run_id, spec in found.specs().items() if run_id in set(planned.pending.run_id)]
        planned.rows["torch_compile"] = planned.rows.run_id.isin(worth_compiling(specs, planned.slots))
    totals = planned.totals()
    if as_json:
        probes = {"probes": records(probe_table(found, open_store(store)))} if found.probes else {}
        emit({"runs": records(planned.rows), "totals": totals, **probes}, True)
        return
    emit(planned.rows, False)
    print(
        f"\n{totals['runs']} runs, {totals['compute']:.3g} FLOP; to train: {totals['pending']} runs, "
        f"{totals['pending_compute']:.3g} FLOP, {totals['core_hours']:.3g} core-hours, about "
        f"{duration(planned.wall_seconds)} on {planned.slots} cores "
        f"({duration(planned.wall_seconds * (1 - SPREAD))} to {duration(planned.wall_seconds * (1 + SPREAD))})"
        + (f"; the sweep may add up to {planned.may_add} runs" if planned.may_add else "")
    )
    if found.probes:
        probes = probe_table(found, open_store(store))
        print(
            f"\n{len(probes)} probes of the best runs that are there, {(probes.state != 'done').sum()} with work to do"
        )
        emit(probes, False)


def _plan_on(study: Study, accelerator: str, utilisation: float, store: str | None, as_json: bool) -> None:
    """The plan in hours of an accelerator, cheapest budget first."""
    from algoprogress.pipeline.accelerators import Cost, by_budget
    from algoprogress.pipeline.plan import plan as make_plan

    cost = Cost.of(accelerator, utilisation)
    planned = make_plan(study, open_store(store), seconds=cost.seconds)
    totals = {**planned.totals(), "gpu_hours": planned.core_seconds / 3600, **cost.facts()}
    budgets = by_budget(planned.rows)
    if as_json:
        emit({"runs": records(planned.rows), "budgets": records(budgets), "totals": totals}, True)
        return
    emit(budgets, False)
    print(
        f"\n{totals['runs']} runs, {totals['compute']:.3g} FLOP, and up to {planned.may_add} more where sweeps are "
        f"widened; to train: {totals['pending']} runs, {totals['pending_compute']:.3g} FLOP, "
        f"{totals['gpu_hours']:.3g} hours of one {cost}\nCheapest first: a smaller budget of hours leaves out the last "
        "rows, and with them the gains at these budgets."
    )


def submit(
    study: StudyArgument,
    preset: PresetOption = None,
    corpus: CorpusOption = None,
    store: StoreOption = None,
    executor: ExecutorOption = "ray",
    slots: Annotated[int | None, typer.Option(min=1, help="Runs at once; default: all cores.")] = None,
    address: Annotated[
        str,
        typer.Option(
            help="local: an own Ray on this machine; auto or host:port: a running one; http://head:8265: a job there."
        ),
    ] = "local",
    gpus_per_run: Annotated[float, typer.Option(min=0, help="Share of a GPU for each run; 0: train on CPUs.")] = 0.0,
    accelerator_type: Annotated[
        str | None, typer.Option(help="Only on nodes with this accelerator, by Ray's name, such as H100.")
    ] = None,
    max_hours: Annotated[
        float | None, typer.Option(help="Refuse (exit code 3) a plan of more wall hours than this.")
    ] = None,
    time_limit: Annotated[float | None, typer.Option(help="Stop a run after so many seconds.")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Train again what has failed before.")] = False,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Begin no further run once one has failed.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Train at most so many runs, the longest first.")] = None,
    ensembles: Annotated[
        bool | None,
        typer.Option(help="Train runs of one shape together, wherever possible or never; default: where it is faster."),
    ] = None,
    compile_: CompileOption = False,
    detach: Annotated[bool, typer.Option("--detach", help="With http://: queue the job and return.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train every run of a study that the store does not hold. Safe to interrupt and to repeat."""
    from algoprogress.pipeline import executors, jobs
    from algoprogress.pipeline import submit as submitting
    from algoprogress.pipeline.plan import plan as make_plan
    from algoprogress.pipeline.progress import progress

    if executor not in executors.EXECUTORS:
        raise ValueError(f"unknown executor {executor!r}; known: {', '.join(executors.EXECUTORS)}")
    for option, value in (("--max-hours", max_hours), ("--time-limit", time_limit)):
        if value is not None and not value > 0:
            raise ValueError(f"{option} is a number above 0, not {value}")
    if time_limit is not None and executor == "inline":
        raise ValueError("--time-limit needs workers that can be stopped: use --executor process or ray")
    shared = 0 < gpus_per_run < 1
    if not (gpus_per_run.is_integer() or (shared and round(gpus_per_run, 4) == gpus_per_run)):  # as Ray counts them
        raise ValueError(
            f"--gpus-per-run is a whole number, or a share below 1 with at most four decimals, not {gpus_per_run:g}: "
            "give 0.25 for four runs on a GPU, or 2 for two GPUs for each run"
        )
    for option, given in (
        *(("--time-limit", time_limit), ("--fail-fast", fail_fast), ("--compile", compile_)),
        ("--gpus-per-run below 1", shared),
    ):
        if given and ensembles:
            raise ValueError(f"{option} is for runs that are trained one by one: leave out {option} or --ensembles")
    if accelerator_type is not None and not gpus_per_run:
        raise ValueError("--accelerator-type says which GPU, and --gpus-per-run how much of it: give both")
    if detach and not jobs.is_job_address(address):
        raise ValueError("--detach queues a job on a cluster's head: give --address http://HEAD:8265 too")
    if jobs.is_job_address(address):
        if executor != "ray":
            raise ValueError(f"--executor {executor} is for this machine, and a job at {address} runs under Ray")
        if as_json:
            raise ValueError(
                "a job tells in its log how the runs went: ask `algoprogress status --json` in place of --json"
            )
        if corpus is not None and Path(corpus).exists() and not Path(corpus).is_absolute():
            raise ValueError(
                f"--corpus {corpus} is a file of this machine, which a job at {address} does not take along: give its "
                "absolute path if all nodes mount it, or the name of a corpus"
            )
        asked = {"--slots": slots, "--gpus-per-run": gpus_per_run or None,
                 "--accelerator-type": accelerator_type, "--max-hours": max_hours,
                 "--time-limit": time_limit, "--retry-failed": retry_failed or None, "--fail-fast": fail_fast or None,
                 "--limit": limit, "--compile": compile_ or None, "--ensembles": ensembles or None,
                 "--no-ensembles": ensembles is False or None, "--preset": preset, "--corpus": corpus}  # fmt: skip
        raise typer.Exit(jobs.submit_job(address, study, given_store(store), jobs.words(asked), follow=not detach))
    jobs.check_version()
    device = "cuda" if gpus_per_run else "cpu"
    found, there = find_study(study, preset, device=device, corpus=corpus), open_store(store)
    there.writable()
    if max_hours is not None:
        hours = make_plan(found, there, slots).totals()["wall_hours"]
        if hours > max_hours:
            raise Refused(
                f"{found.name} needs about {hours:.3g} hours here, more than --max-hours {max_hours:g}: "
                "raise the cap, take more slots, or take a smaller study"
            )
    with contextlib.redirect_stdout(sys.stderr):  # Ray prints there what befalls its nodes; ours is for the answer
        summary = submitting.submit(
            found,
            there,
            lambda: executors.make(
                executor, slots=slots, address=address, gpus_per_run=gpus_per_run, accelerator_type=accelerator_type
            ),
            progress(found.name),
            then=_measuring(found, there) if found.probes else None,
            time_limit=time_limit,
            retry_failed=retry_failed,
            fail_fast=fail_fast,
            limit=limit,
            device=device,
            gpus_per_run=gpus_per_run,
            ensembles=ensembles,
            compile_for=(slots or os.cpu_count() or 1) if compile_ else 0,
        )
    failed = [{"run_id": run_id, "message": message} for run_id, message in summary.failed.items()]
    facts = {
        "study": found.name,
        "store": there.url,
        "trained": summary.trained,
        "diverged": summary.diverged,
        "failed": failed,
        "left": summary.left,
        "waiting": summary.waiting,
        "cancelled": summary.cancelled,
        "seconds": round(summary.seconds, 1),
    }
    if as_json:
        emit(facts, True)
    else:
        note(
            f"{found.name}: {summary.trained} runs trained in {duration(summary.seconds)}"
            + (f", {summary.diverged} of them diverged" if summary.diverged else "")
            + (f", {summary.left} left to do" if summary.left else "")
            + f"; {there.runs(found.name, status=None)['run_id'].nunique()} runs of the study are in {there.url}"
        )
    if summary.cancelled:
        note(f"{found.name} was cancelled; every finished run is kept, and the same command goes on from there")
    for message in summary.waiting.values():
        note(f"warning: {message}")
    unexplained = summary.left and limit is None and not fail_fast
    if failed or summary.cancelled or unexplained:
        for item in failed:
            note(f"failed {item['run_id']}: {item['message']}")
        raise typer.Exit(RUNS_FAILED)


def _measuring(study: Study, store: Store) -> Then:
    """The probes of a study, after its training."""
    from algoprogress.pipeline.curvature import stage

    return lambda open_executor, watch: stage.run(study, store, open_executor, note, watch)


def diff(
    study: StudyArgument,
    preset: PresetOption = None,
    corpus: CorpusOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show, arm by arm, every field in which an arm differs from the baseline."""
    there = open_store(store)
    if preset is None and corpus is None and study in there.studies():
        stored = there.study(study)
        baseline, differences, against = stored["baseline"], stored["differences"], stored.get("against", {})
    else:
        found = find_study(study, preset, resolved=False, corpus=corpus)
        baseline, differences, against = found.baseline, found.differences(), found.against
    if as_json:
        emit({"baseline": baseline, "against": against, "differences": differences}, True)
        return
    beside = (lambda arm: {"compared with": against.get(arm, baseline)}) if against else (lambda arm: {})
    there_is = "there" if against else baseline
    rows = [
        {"arm": arm, **beside(arm), "field": field, there_is: values(d["baseline"]), "here": values(d["arm"])}
        for arm, fields in differences.items()
        for field, d in fields.items()
    ]
    emit(rows, False)


def find_study(
    name: str, preset: str | None = None, resolved: bool = True, device: str = "cpu", corpus: str | None = None
) -> Study:
    """A built-in study by name, at a preset and on a corpus, or a YAML file by path, its corpora and dtypes pinned."""
    from algoprogress.ablations.study import at_preset, on_corpus
    from algoprogress.pipeline.plan import resolve

    if name.endswith((".yaml", ".yml")) or os.sep in name:
        from algoprogress.ablations.study_file import load

        if preset is not None:
            raise ValueError(f"--preset {preset} is for built-in studies; {name} says its own budgets")
        if corpus is not None:
            raise ValueError(f"--corpus {corpus} is for built-in studies; {name} says its own data")
        study = load(name)
    else:
        study = at_preset(name, preset)
        study = study if corpus is None else on_corpus(study, corpus)
    return resolve(study, note, device) if resolved else study


def accelerator_of(preset: str | None) -> str | None:
    """The accelerator that a preset's cost is told for; none where this machine is meant."""
    from algoprogress.ablations.presets import PRESETS
    from algoprogress.pipeline.accelerators import DEFAULT

    return DEFAULT if preset is not None and PRESETS[preset].on_gpus else None
