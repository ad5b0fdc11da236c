"""What the page of one run says: facts with their units, its configuration, where it comes from, what to doubt."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from algoprogress.analysis.formatting import cell_text, flop_text, number
from algoprogress.analysis.runs import RUNG_GAP
from algoprogress.results.schema import RECORD_COLUMNS

UNITS = {c.name: c.unit for c in RECORD_COLUMNS}
MEANINGS = {c.name: c.meaning for c in RECORD_COLUMNS}
# What is asked of a run first; the other facts of its record are provenance.
FACTS = (
    *("status", "loss", "loss_se", "bits_per_byte", "train_loss", "initial_loss"),
    *("compute", "n_params", "n_params_total", "tokens", "steps", "epochs_seen"),
    *("wall_seconds", "tokens_per_second", "flop_per_second", "gemm_fraction", "peak_memory_bytes"),
)
WIDTH = 10  # of a run's id in a table: enough to tell a million runs apart


def facts(record: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(what, value with unit, meaning) of a run's results."""
    return [(_words(k), _value(k, record[k]), MEANINGS.get(k, "")) for k in FACTS if record.get(k) is not None]


def provenance(record: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(what, value, meaning) of everything else that the record holds, its spec apart."""
    rest = [k for k in UNITS if k not in FACTS and record.get(k) is not None]
    return [(_words(k), _value(k, record[k]), MEANINGS.get(k, "")) for k in rest]


def configuration(spec: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(field, value) of every field of the spec, nested ones with dots."""
    rows: list[tuple[str, str]] = []
    for key, value in spec.items():
        if isinstance(value, Mapping):
            rows += [(f"{key}.{inner}", text) for inner, text in configuration(value)]
        else:
            rows.append((key, "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)))
    return rows


def difference(spec: Mapping[str, Any], other: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(field, value there, value here) of every field in which a run differs from another, "–" for one it lacks."""
    here, there = dict(configuration(spec)), dict(configuration(other))
    fields = [*here, *(f for f in there if f not in here)]
    return [(f, there.get(f, "–"), here.get(f, "–")) for f in fields if here.get(f) != there.get(f)]


def counterparts(study: Mapping[str, Any], runs: pd.DataFrame) -> dict[str, str]:
    """Run -> the run that it is compared with: of the arm's baseline at the same compute, with the same seed if any.

    Args:
        study: as stored.
        runs: those of the study; a run of a baseline is compared with none.
    """
    at = (
        runs["compute_budget"].astype(float).fillna(runs["compute"].astype(float)) if "compute_budget" in runs else None
    )
    log_c = np.log((runs["compute"] if at is None else at).to_numpy(float))
    stage = runs["stage"].fillna("").to_numpy() if "stage" in runs else np.full(len(runs), "")
    seed, loss = runs["seed"].to_numpy(float), runs["loss"].to_numpy(float)
    ids, arms = runs["run_id"].tolist(), runs["arm"].to_numpy()
    own = {arm: np.flatnonzero(arms == arm) for arm in pd.unique(arms)}
    found: dict[str, str] = {}
    for arm, rows in own.items():
        base = own.get(study.get("against", {}).get(arm, study["baseline"]), rows[:0])
        if arm == study["baseline"] or not len(base):
            continue
        for r in rows:
            near = base[np.abs(log_c[base] - log_c[r]) < np.log(RUNG_GAP)]
            if len(near):
                order = np.lexsort((loss[near], seed[near] != seed[r], stage[near] != stage[r]))
                found[ids[r]] = ids[near[order[0]]]
    return found


def doubts(record: Mapping[str, Any], max_epochs: float = 1.0) -> list[str]:
    """What speaks against trusting the loss of a run."""
    said = []
    if record.get("status") != "done":
        said.append("Diverged: the loss is the last finite training loss, and the run counts in no fit.")
    if (epochs := record.get("epochs_seen")) is not None and epochs > max_epochs:
        said.append(f"It saw its data {epochs:.2f} times: it is left out of every fit.")
    if (dirty := record.get("git_dirty")) not in (None, False, "", "False", "false"):
        said.append(f"It was trained from uncommitted changes ({dirty}).")
    if record.get("git_sha") is None:
        said.append("No commit is known of the code that trained it.")
    return said


def runs_table(runs: pd.DataFrame, with_study: bool) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """Runs as people read them, a row each, and the addresses of their pages."""
    repeated = runs["epochs_seen"].astype(float) > 1 + 1e-9
    note = pd.Series("", index=runs.index).mask(repeated, "repeated data").mask(runs["status"] != "done", "diverged")
    shown = pd.DataFrame({"run": [str(r)[:WIDTH] for r in runs["run_id"]]})
    if with_study:
        shown["study"] = [cell_text(s) for s in runs["study"]]
    shown["arm"] = [cell_text(a) for a in runs["arm"]]
    shown["loss (nats/token)"] = [number(v, 4) for v in runs["loss"].astype(float)]
    shown["compute (FLOP)"] = [flop_text(v) for v in runs["compute"].astype(float)]
    shown["parameters"] = [f"{int(v):,}" for v in runs["n_params"]]
    shown["tokens"] = [f"{int(v):,}" for v in runs["tokens"]]
    shown["learning rate"] = [f"{v:g}" for v in runs["learning_rate"].astype(float)]
    shown["seed"] = [f"{int(v)}" for v in runs["seed"]]
    shown["note"] = note.tolist()
    return shown, {"run": [run_address(r) for r in runs["run_id"]]}


def run_address(run_id: str) -> str:
    return f"runs/{run_id}.html"


def _words(column: str) -> str:
    return column.replace("n_params_total", "parameters, all").replace("n_params", "parameters").replace("_", " ")


def _value(column: str, value: Any) -> str:
    unit = UNITS.get(column, "")
    if column in ("compute", "compute_6n", "compute_6n_total"):
        return f"{flop_text(float(value))} FLOP"
    if isinstance(value, int) and not isinstance(value, bool):
        text = f"{value:,}"
    else:
        text = number(value, 4) if isinstance(value, float) else str(value)
    return f"{text} {unit}" if unit and unit not in ("UTC", "parameters") else text
