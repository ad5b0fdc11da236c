"""The command line: chooses the study, the store and the cluster, and tunes nothing.

Nothing heavy is imported at the top: `--help` and `status` need neither torch nor ray.
"""

from __future__ import annotations

import signal
import sys
import warnings
from typing import NoReturn

import typer

from algoprogress.pipeline import threads
from algoprogress.pipeline.commands import (
    accounting,
    analysis,
    bench,
    cancel,
    corpus,
    curvature,
    fit,
    gains,
    store,
    studies,
    trend,
)
from algoprogress.pipeline.executors import ClusterLost, NotEnoughResources
from algoprogress.pipeline.output import RUNS_FAILED, Refused, note

DONE, WRONG_USE, REFUSED, INTERRUPTED = 0, 2, 3, 130

app = typer.Typer(
    help="Measures algorithmic progress in language-model training. "
    "Exit codes: 0 done, 1 runs failed, 2 wrong use, 3 refused.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
corpus_app = typer.Typer(help="Texts to train on: list, build, check.", no_args_is_help=True, rich_markup_mode=None)
for command in (
    studies.studies,
    studies.plan,
    studies.submit,
    store.status,
    store.logs,
    cancel.cancel,
    studies.diff,
    store.verify,
    store.compact,
    store.copy,
    store.runs,
    analysis.tables,
    analysis.figures,
    analysis.report,
    fit.fit,
    gains.gains,
    accounting.accounting,
    trend.trend,
    bench.bench,
):
    app.command()(command)
corpus_app.command("list")(corpus.list_)
corpus_app.command()(corpus.build)
corpus_app.command()(corpus.check)
app.add_typer(corpus_app, name="corpus")
app.add_typer(curvature.curvature_app, name="curvature")


def stop(message: str, code: int) -> NoReturn:
    note(f"algoprogress: {message}")
    sys.exit(code)


def main() -> None:
    """Run a command; an error that a user can mend is one sentence and an exit code, never a traceback."""
    threads.one()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a batch system ends a job so: workers are taken along
    warnings.showwarning = lambda message, *_, **__: note(f"warning: {message}")
    try:
        code = app(standalone_mode=False) or DONE
        if code == INTERRUPTED:  # typer makes Ctrl-C an exit code
            raise KeyboardInterrupt
        sys.exit(code)
    except KeyboardInterrupt:
        kept = "; every finished run is kept, and the same command goes on from there" * (sys.argv[1:2] == ["submit"])
        stop(f"interrupted{kept}", INTERRUPTED)
    except BrokenPipeError:
        sys.stdout = None  # the reader has gone: nothing is left to flush
        sys.exit(DONE)
    except (Refused, NotEnoughResources) as refusal:
        stop(str(refusal), REFUSED)
    except ClusterLost as lost:
        stop(str(lost), RUNS_FAILED)
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # the command line itself was wrong
            error.show()
            sys.exit(error.exit_code)
        if not can_be_mended(error):
            raise
        stop(one_sentence(error), WRONG_USE)


def can_be_mended(error: Exception) -> bool:
    """Bad input, or a store or folder that cannot be used; anything else is our fault and keeps its traceback."""
    from algoprogress.results import StoreError

    return isinstance(error, ValueError | StoreError)


def one_sentence(error: Exception) -> str:
    errors = getattr(error, "errors", None)
    if callable(errors):  # pydantic lists its complaints; the first will do
        first = errors()[0]
        where = ".".join(map(str, first["loc"]))
        return f"{where}: {first['msg']}" if where else str(first["msg"])
    return str(error)


if __name__ == "__main__":
    main()
