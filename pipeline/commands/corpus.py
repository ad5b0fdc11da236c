"""Commands on texts to train on: corpus list, build, check."""

from __future__ import annotations

from typing import Annotated

import typer

from algoprogress.pipeline.output import JsonOption, emit

Corpus = Annotated[str, typer.Argument(help="A built-in corpus or a path.")]
Tokenizer = Annotated[str, typer.Option(help="bytes or bpe-V.")]


def list_(as_json: JsonOption = False) -> None:
    """List the built-in corpora."""
    from algoprogress.pipeline.data import list_corpora

    emit(list_corpora(), as_json)


def build(corpus: Corpus = "english", tokenizer: Tokenizer = "bytes", as_json: JsonOption = False) -> None:
    """Fetch or read a corpus and write its token shards."""
    from algoprogress.pipeline.data import build

    emit(build(corpus, tokenizer), as_json)


def check(corpus: Corpus = "english", tokenizer: Tokenizer = "bytes", as_json: JsonOption = False) -> None:
    """Hash the shards again, and measure the overlap of validation with training text."""
    from algoprogress.pipeline.data import check

    emit(check(corpus, tokenizer), as_json)
