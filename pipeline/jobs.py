"""`submit` from outside a cluster: the same command, run as a Ray job on the cluster's head.

The job takes with it the study, the address of the store and the state of the code, and nothing else. Closing the
laptop does not stop it, and asking again while it runs follows it instead of starting a second one.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from algoprogress.pipeline import provenance
from algoprogress.pipeline.executors import ClusterLost, NotEnoughResources
from algoprogress.results.files import check_url

ENTRY = "python -m algoprogress.pipeline.cli"  # the head's own Python, the one that Ray was started with
PREFIX = "algoprogress-"
POLL_SECONDS = 1.0
CONNECT_SECONDS = 5.0  # Ray's client itself would wait for ever for a server that accepts and says nothing
ANSWER_SECONDS = 30.0  # for what the head has to look up, such as a long log
TRIES = 5  # of a question to a job that is followed, since a tunnel may be opened again
AGAIN_SECONDS = 2.0  # between two of them
EXIT_CODE = "ALGOPROGRESS_EXIT_CODE="  # the last line of a job's log: Ray itself tells only failure from success


def is_job_address(address: str) -> bool:
    """Whether an address is that of a head's job server, such as http://127.0.0.1:8265."""
    return address.startswith(("http://", "https://"))


def submit_job(
    address: str,
    study: str,
    store: str,
    options: Sequence[str] = (),
    *,
    follow: bool = True,
    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
) -> int:
    """Run `algoprogress submit STUDY --store STORE --address auto OPTIONS` on a cluster's head.

    Args:
        address: of the job server, http://HOST:8265, as a rule through a tunnel (`ray dashboard ray_cluster.yaml`).
        study: a built-in study, or a YAML file here, which is sent along.
        store: a URL, or an absolute path that all nodes of the cluster mount.
        options: further options of `submit`.
        follow: print the job's log until it ends; else return as soon as it is queued.
        say: told of everything.

    Returns:
        The exit code of the command on the head; 0 when it was only queued.

    Raises:
        ValueError: no cluster answers, it refuses the token, or the store is a path of this machine.
        ClusterLost: it has stopped answering; the job goes on.
    """
    _check_store(store)
    client = _client(address)
    try:
        job_id = _queue(client, study, store, options, say)
    except OSError as error:
        raise ClusterLost(
            f"{address} has stopped answering ({one_line(error)}): open the tunnel again; the same command follows "
            "the job, or queues it if it was not queued"
        ) from None
    if not follow:
        say(f"follow it with the same command, or `ray job logs --follow {job_id}`; progress: `algoprogress status`")
        return 0
    return _follow(client, job_id, say)


def _queue(client: Any, study: str, store: str, options: Sequence[str], say: Callable[[str], None]) -> str:
    """The id of the job that does this, which may run already."""
    from ray.job_submission import JobStatus

    with tempfile.TemporaryDirectory() as folder:
        name, environment = study, _environment()
        if study.endswith((".yaml", ".yml")) or os.sep in study:
            if not Path(study).is_file():
                raise ValueError(f"there is no file {study}: give the name of a study (see `studies`) or a YAML file")
            name = Path(study).name
            shutil.copy(study, folder)
        label = {"study": name, "store": store, "by": "algoprogress"}
        running = [
            job.submission_id
            for job in client.list_jobs()
            if job.metadata == label and job.status in (JobStatus.PENDING, JobStatus.RUNNING)
        ]
        if running:
            job_id = running[0]
            say(f"{job_id} trains this study into this store already: following it")
        else:
            line = ["submit", name, "--store", store, "--address", "auto", *options]
            command = f"{ENTRY} {shlex.join(line)}; code=$?; echo {EXIT_CODE}$code; exit $code"
            runtime: dict[str, Any] = {"env_vars": environment}
            if name != study:
                runtime["working_dir"] = folder
            job_id = client.submit_job(
                entrypoint=command,
                submission_id=_free_id(client, study, store),
                runtime_env=runtime,
                metadata=label,
            )
            say(f"queued as {job_id}: {shlex.join(line)}")
    return str(job_id)


def words(options: Mapping[str, Any]) -> list[str]:
    """Options as words of a command; None is left out and True is a flag."""
    return [
        word
        for name, value in options.items()
        if value is not None
        for word in ([name] if value is True else [name, str(value)])
    ]


def _check_store(store: str) -> None:
    check_url(store)
    if "://" not in store and not os.path.isabs(store):
        raise ValueError(
            f"--store {store} is a folder beside this command, and the job runs elsewhere: give a URL such as "
            "s3://bucket/runs, or an absolute path that every node of the cluster mounts"
        )


def _client(address: str) -> Any:
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    class Client(JobSubmissionClient):  # type: ignore[misc]
        """Ray's, which waits for no answer for ever."""

        def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:
            seconds = CONNECT_SECONDS if endpoint == "/api/version" else ANSWER_SECONDS
            return super()._do_request(method, endpoint, **{"timeout": (CONNECT_SECONDS, seconds), **options})

    try:
        return Client(address)
    except (OSError, KeyError):  # those of requests are OSErrors; KeyError: JSON, but not Ray's
        raise ValueError(
            f"no Ray job server answers at {address}: is the tunnel open (`ray dashboard ray_cluster.yaml`), and was "
            "the head started with its dashboard?"
        ) from None
    except AuthenticationError:
        raise ValueError(
            f"{address} refuses the token of this shell: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or "
            "RAY_AUTH_TOKEN_PATH to the token of the cluster"
        ) from None
    except RuntimeError as error:
        raise ValueError(f"{address} is no Ray job server of a version that is known here: {error}") from None


def _environment() -> dict[str, str]:
    """What the head cannot know: the state of the code that asked. Its own checkout may have no git folder."""
    state = {
        **provenance.code(),
        "package_version": provenance.package_version(),
        "source": provenance.source(),
    }
    return {provenance.VARIABLES[key]: str(value) for key, value in state.items() if value is not None}


def check_version() -> None:
    """On the head: refuse to train with other code than that which asked: run ids and records could differ."""
    asked, here = os.environ.get(provenance.VARIABLES["package_version"]), provenance.package_version()
    if asked is not None and asked != here:
        raise ValueError(f"algoprogress {asked} submitted this job, the cluster has {here}: install the same on both")
    asked, here = os.environ.get(provenance.VARIABLES["source"]), provenance.source()
    if asked is not None and asked != here:
        raise ValueError(
            f"the code that submitted this job (source {asked}) is not that of the cluster (source {here}): copy the "
            "checkout there again, such as with `ray rsync-up` or `ray up`"
        )


def _free_id(client: Any, study: str, store: str) -> str:
    """A name that says what the job is, and that no job of this cluster had before."""
    stem = f"{PREFIX}{Path(study).stem}-{hashlib.sha256(store.encode()).hexdigest()[:6]}"
    taken = {job.submission_id for job in client.list_jobs()}
    return next(name for k in itertools.count(1) if (name := f"{stem}-{k}") not in taken)


def _asked(client: Any, job_id: str) -> tuple[Any, str]:
    """Status and log of a job."""
    for left in reversed(range(TRIES)):
        try:
            return client.get_job_status(job_id), client.get_job_logs(job_id)
        except (OSError, RuntimeError) as error:  # RuntimeError: an answer that is no success, as of a head that starts
            if not left:
                raise ClusterLost(
                    f"the job server has stopped answering ({one_line(error)}): {job_id} goes on without us; open the "
                    "tunnel again, and the same command follows it"
                ) from None
            time.sleep(AGAIN_SECONDS)
    raise AssertionError("there is a last try")


def one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}"


def _follow(client: Any, job_id: str, say: Callable[[str], None]) -> int:
    """Print the log as it grows; interrupting leaves the job running."""
    shown, log = 0, ""
    try:
        while True:
            status, log = _asked(client, job_id)
            lines = log[shown:].splitlines(keepends=True)
            whole = lines if status.is_terminal() else [line for line in lines if line.endswith("\n")]
            shown += sum(map(len, whole))
            for line in whole:
                if not line.startswith(EXIT_CODE):
                    say(line.rstrip("\n"))
            if status.is_terminal():
                break
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        say(f"{job_id} goes on without us; stop it with `ray job stop {job_id}`")
        return 130
    told = [line.removeprefix(EXIT_CODE) for line in log.splitlines() if line.startswith(EXIT_CODE)]
    if told:
        return int(told[-1])
    if str(status) == "SUCCEEDED":
        return 0
    raise NotEnoughResources(f"{job_id} ended as {status}: {client.get_job_info(job_id).message or 'no message'}")
