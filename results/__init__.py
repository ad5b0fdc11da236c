"""What is kept: every run as one Parquet file, and every study, readable with neither torch nor Ray."""

from algoprogress.results.store import CorruptRun, Store, StoreError, UnknownRun

__all__ = ["CorruptRun", "Store", "StoreError", "UnknownRun"]
