"""The folder that pages are written to, each from its template, with the style and scripts that all share."""

from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd

from algoprogress.analysis.site.tables import download
from algoprogress.analysis.templates import template
from algoprogress.results import Store

PACKAGE = "algoprogress.analysis.site"
ASSETS = ("site.css", "site.js")


class Site:
    """A folder that pages are written to, each from a template."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")

    def page(self, kind: str, address: str, **content: Any) -> Path:
        """Write one page; `root` in it leads back to the front page's folder."""
        path = self.out / address
        path.parent.mkdir(parents=True, exist_ok=True)
        root = "../" * address.count("/")
        html = template(PACKAGE, kind).render(root=root, here=address, made=self.made, **content)
        path.write_text(html, encoding="utf-8")
        return path

    def download(self, numbers: pd.DataFrame, folder: str, name: str) -> list[tuple[str, str]]:
        return download(numbers, self.out / "data" / folder, self.out, name)

    def copy(self, store: Store, run_id: str) -> str:
        """The run's own file of the store, its curve as rows and its record in the footer; returns its address."""
        path = self.out / "data" / "runs" / f"{run_id}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(store.folder.read(f"runs/{run_id}.parquet"))
        return path.relative_to(self.out).as_posix()

    def assets(self) -> None:
        """The style and scripts that all pages share: plotly's is copied from its package, and fetched by no page."""
        folder = self.out / "assets"
        folder.mkdir(parents=True, exist_ok=True)
        for name in ASSETS:
            (folder / name).write_bytes((files(PACKAGE) / name).read_bytes())
        (folder / "plotly.min.js").write_bytes((files("plotly") / "package_data" / "plotly.min.js").read_bytes())
