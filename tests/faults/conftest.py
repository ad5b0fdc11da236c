"""Faults injected for real, and the table of what came of them.

    python -m pytest tests/faults --reliability docs/reliability.md

writes the table between the markers of that page. A session of some of the tests replaces their lines and keeps the
others; to begin anew, delete the table.
"""

from __future__ import annotations

import os
import random
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from driven import Driven
from harness import Emulated, Submit, run, science, temporary_folder

from algoprogress.results import Store

BEGIN, END = "<!-- table of faults: begin -->", "<!-- table of faults: end -->"
MARK = "ALGOPROGRESS_FAULT_TEST"  # an environment variable by which the processes of a test are found

Found = dict[str, Any]
_results: dict[tuple[int, str], Found] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--reliability", metavar="FILE", help="write the table of faults into this page")


def pytest_itemcollected(item: pytest.Item) -> None:
    item.add_marker(pytest.mark.alone)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    report = (yield).get_result()
    mark = item.get_closest_marker("fault")
    if mark is None:
        return
    number, fault = mark.args
    row = _results.setdefault((number, fault), {"outcomes": {}, "said": []})
    if report.when == "call" or report.outcome != "passed":
        row["outcomes"][item.nodeid] = report.outcome
    if report.when == "call":
        row["said"] += [value for name, value in item.user_properties if name == "outcome"]


def pytest_sessionfinish(session: pytest.Session) -> None:
    target = session.config.getoption("--reliability", None)
    if target is None:
        return
    page = Path(target)
    head, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    table, _, tail = rest.partition(END)
    lines = {_key(line): line for line in table.splitlines() if _key(line)[0]}
    for (number, fault), row in _results.items():
        outcomes = list(row["outcomes"].values())
        counts = ", ".join(f"{outcomes.count(o)} {o}" for o in ("passed", "failed", "skipped") if o in outcomes)
        line = f"| {number} | {fault} | {'; '.join(dict.fromkeys(row['said'])) or '–'} | {counts} |"
        lines[_key(line)] = line
    ordered = [lines[key] for key in sorted(lines)]
    titles = ["| # | fault | what came of it | tests |", "|---|---|---|---|"]
    page.write_text(head + "\n".join([BEGIN, "", *titles, *ordered, "", END]) + tail, encoding="utf-8")


def _key(line: str) -> tuple[int, str]:
    """Number and fault of a line of the table; (0, "") where it is none."""
    cells = [cell.strip() for cell in line.split("|")]
    return (int(cells[1]), cells[2]) if len(cells) > 3 and cells[1].isdigit() else (0, "")


@pytest.fixture
def outcome(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Says in the table what came of the fault."""
    return lambda text: record_property("outcome", text)


@pytest.fixture(autouse=True)
def _nothing_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every process that a test has started, however indirectly, has ended, and every temporary folder is gone."""
    mark = secrets.token_hex(8)
    monkeypatch.setenv(MARK, mark)
    before = _dead_folders()
    yield
    deadline = time.monotonic() + 60
    while (left := _marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.2)
    names = [" ".join(p.cmdline())[:120] for p in left if p.is_running()]
    for process in left:
        process.kill()
    assert not names, f"processes were left behind: {names}"
    while (stale := _dead_folders() - before) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not stale


def _dead_folders() -> set[str]:
    """Folders of local Ray clusters whose submit is no more; others may use this machine, too."""
    from algoprogress.pipeline.executors.local_ray import PREFIX, _short_folder

    found = Path(_short_folder() or tempfile.gettempdir()).glob(f"{PREFIX}*")
    return {str(path) for path in found if not psutil.pid_exists(int(path.name.split("-")[2]))}


def _marked(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            alive = process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE
            if process.ppid() == os.getpid() and "multiprocessing.resource_tracker" in " ".join(process.cmdline()):
                continue  # Python's, one for the life of this process
            if alive and process.environ().get(MARK) == mark:
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture(scope="session")
def study_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`study_file(compute=[...], arms=[...])`: a study of runs whose length the budgets decide."""
    rng = random.Random(0)
    words = ["".join(rng.choices("etaoinshr", k=rng.randint(2, 6))) for _ in range(40)]
    weights = [1 / (i + 1) for i in range(len(words))]
    folder = tmp_path_factory.mktemp("studies")
    corpus = folder / "words.txt"
    documents = (" ".join(rng.choices(words, weights, k=rng.randint(150, 400))) for _ in range(300))
    corpus.write_text("<|endoftext|>".join(documents), encoding="utf-8")

    def write(compute: list[float] | None = None, seeds: int = 2, name: str = "faulty") -> Path:
        bodies = {
            "lstm": "{name: lstm, width: 16}",
            "modern": "{preset: modern, width: 16, n_layers: 1}",
        }
        budgets = ", ".join(f"{c:g}" for c in compute or [1e9, 2e9])
        arms = "\n".join(
            f"  {arm}:\n    architecture: {body}\n    compute: [{budgets}]\n    cross: {{seed: {list(range(seeds))}}}"
            for arm, body in bodies.items()
        )
        path = folder / f"{name}-{budgets.replace(', ', '-')}-{seeds}.yaml"
        path.write_text(
            f"name: {name}\nquestion: What does a fault leave?\nbaseline: lstm\n"
            f"common:\n  data: {{corpus: {corpus}, context: 32}}\n  batch_tokens: 256\n  learning_rate: 0.02\n"
            f"  evaluation: {{tokens: 1024}}\narms:\n{arms}\n",
            encoding="utf-8",
        )
        return path

    return write


@pytest.fixture(scope="session")
def undisturbed(study_file: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """`undisturbed(**study)`: what the runs of a study are when nothing happens, trained once per session."""
    known: dict[str, Any] = {}

    def train(**changes: Any) -> Any:
        path = study_file(**changes)
        if str(path) not in known:
            store = Store(tmp_path_factory.mktemp("undisturbed"))
            run(path, store, "inline")
            known[str(path)] = science(store)
        return known[str(path)]

    return train


@pytest.fixture
def submitted() -> Iterator[Callable[..., Submit]]:
    """`submitted(study, store, *options)`: a submit that does not outlive its test."""
    started: list[Submit] = []

    def start(*args: Any, **environment: str) -> Submit:
        started.append(Submit(*args, **environment))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.process.communicate()


@pytest.fixture
def emulated() -> Iterator[Callable[..., Emulated]]:
    """`emulated(nodes, gpus, cpus)`: a cluster of so many worker nodes and a head that runs no task."""
    with temporary_folder() as folder:
        started: list[Emulated] = []

        def start(nodes: int = 3, gpus: int = 0, cpus: int = 1, **options: Any) -> Emulated:
            started.append(Emulated(nodes, gpus, cpus, folder, **options))
            return started[-1]

        yield start
        for cluster in started:
            cluster.close()


@pytest.fixture
def driving(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """`driving(cluster, body, options, **answers)`: the result of a driver that does not outlive its test."""
    started: list[Driven] = []

    def drive(
        cluster: Emulated, body: str, options: dict[str, Any] | None = None, **answers: Callable[[], object]
    ) -> Any:
        started.append(Driven(cluster, tmp_path / "store", body, answers, options or {}))
        return started[-1].result()

    yield drive
    for one in started:
        one.close()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")
