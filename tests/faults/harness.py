"""What fault tests are made of: waits, submits and clusters that can be killed, and the check that nothing was lost."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from algoprogress.results import Store

PATIENCE = 600.0  # seconds that a busy machine may take for what takes a few
STARTS = 5  # Ray gives a node 30 s to start, which a busy machine may not
SCIENCE = ["loss", "loss_se", "train_loss", "initial_loss", "compute", "tokens", "n_params", "status", "bits_per_byte"]


def until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """Waits for a condition; the limit is for a machine that is busy with other things."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what}, after {seconds:g} s"
        time.sleep(0.2)
    return found


def science(store: Store, study: str = "faulty") -> Any:
    """What must not depend on what happened on the way."""
    return store.runs(study, status=None).set_index("run_id")[SCIENCE].sort_index()


def check_whole(store: Store, expected: Any, study: str = "faulty") -> None:
    """Nothing lost, nothing twice, nothing else: the store is what it is when nothing happens."""
    import pandas as pd

    pd.testing.assert_frame_equal(science(store, study), expected, check_exact=True)
    problems = store.verify()
    assert problems[problems["kind"] != "drift"].empty, problems.to_string()
    assert store.active().empty
    assert store.submits().empty
    if "://" not in store.url:
        files = {path.relative_to(store.url).parts[0] for path in Path(store.url).rglob("*") if path.is_file()}
        assert files <= {"runs", "studies", "failures", "index", "quarantine"}
        assert not list(Path(store.url).rglob("*.tmp"))
        assert len(list(Path(store.url, "runs").iterdir())) == len(expected)


class Submit:
    """`algoprogress submit` as a process of its own."""

    def __init__(self, study: Path, store: Store | str, *options: object, **environment: str):
        url = store if isinstance(store, str) else store.url
        words = ["submit", str(study), "--store", url, "--json", "--no-ensembles", *map(str, options)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "algoprogress.pipeline.cli", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        self.out = self.err = ""
        self._facts: dict[str, Any] | None = None

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait(self, seconds: float = PATIENCE) -> int:
        if self.process.returncode is not None and self.out + self.err:
            return self.process.returncode
        try:
            self.out, self.err = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.out, self.err = self.process.communicate()
            raise AssertionError(f"submit has not ended after {seconds:g} s: {self.err[-2000:]}") from None
        return self.process.returncode

    def facts(self) -> dict[str, Any]:
        if self._facts is None:
            assert self.wait() in (0, 1), self.err
            self._facts = json.loads(self.out)
        return self._facts or {}

    def kill(self, how: int = signal.SIGKILL) -> None:
        self.process.send_signal(how)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder with a short name, as Ray's sockets need it."""
    folder = Path(tempfile.mkdtemp(prefix="apf-", dir=os.sep + "tmp" if os.name == "posix" else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def kill_all(name: str, value: str) -> None:
    """Ends every process in whose environment a variable has this value."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get(name) == value:
                process.kill()


class Emulated:
    """Several Ray nodes on this machine, as processes that can be killed."""

    def __init__(
        self, nodes: int, gpus: int, cpus: int, folder: Path, hide: Path | None = None, **environment: str
    ) -> None:
        self.environment = {
            "RAY_TMPDIR": str(folder),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            **environment,
        }
        words = [sys.executable, str(Path(__file__).with_name("emulated.py")), str(nodes), str(gpus), str(cpus)]
        if hide is not None:  # its nodes see another, empty folder where this machine has `hide`
            words = ["unshare", "-m", "sh", "-c", f"mount -t tmpfs tmpfs '{hide}' && exec \"$@\"", "sh", *words]
        for _ in range(STARTS):
            self.process = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env={**os.environ, **self.environment},
            )
            assert self.process.stdout is not None
            line = self.process.stdout.readline()
            if line:
                break
            self.close()
        assert line, "the emulated cluster did not start"
        self.facts: dict[str, Any] = json.loads(line)
        self.address: str = self.facts["address"]

    def add_node(self, **environment: str) -> int:
        """A node that joins later, with these environment variables. Returns which it is."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(environment) + "\n")
        self.process.stdin.flush()
        self.facts["raylets"].append(int(self.process.stdout.readline()))
        return len(self.facts["raylets"]) - 1

    def node_of(self, pid: int) -> int:
        """Which node a process belongs to, by its raylet."""
        parents = {process.pid for process in psutil.Process(pid).parents()}
        return next(i for i, raylet in enumerate(self.facts["raylets"]) if raylet in parents)

    def kill_node(self, index: int, workers: bool = True) -> None:
        """The raylet, and with it all that it has started; without `workers` a partition is imitated."""
        raylet = psutil.Process(self.facts["raylets"][index])
        children = raylet.children(recursive=True) if workers else []
        for process in (raylet, *children):
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def kill_head(self) -> None:
        psutil.Process(self.facts["gcs"]).kill()

    def close(self) -> None:
        assert self.process.stdin is not None
        with suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        kill_all("RAY_TMPDIR", self.environment["RAY_TMPDIR"])


def run(path: Path, store: Store, executor: str = "process", progress: Any = None, **options: Any) -> Any:
    """A submit in this process, with two workers."""
    from algoprogress.ablations.study_file import load
    from algoprogress.pipeline import executors
    from algoprogress.pipeline.plan import resolve
    from algoprogress.pipeline.progress import Progress
    from algoprogress.pipeline.submit import submit

    make = partial(executors.make, executor, slots=2)
    return submit(resolve(load(path)), store, make, progress or Progress(), ensembles=False, **options)


HOOK = """
import importlib.util, sys

class Finder:
    \"\"\"Replaces `train` of the trainer as soon as it is imported, in whatever process.\"\"\"

    def find_spec(self, name, path, target=None):
        if name != "algoprogress.pipeline.trainer":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        real = spec.loader.exec_module

        def exec_module(module):
            real(module)
            sys.path.insert(0, SITE)
            import replaced_training
            module.train = replaced_training.make(module.train)

        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Finder())
"""


def replace_training(folder: Path, monkeypatch: Any, body: str) -> None:
    """In every process that is started from now on, `train(*args, **options)` is `body`, which may call `real`."""
    site = folder / "site"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(f"SITE = {str(site)!r}\n{HOOK}")
    lines = textwrap.indent(textwrap.dedent(body).strip(), " " * 8)
    (site / "replaced_training.py").write_text(
        f"import os, time\ndef make(real):\n    def train(*args, **options):\n{lines}\n    return train\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{site}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
