"""What is in a store?  A static site with a page per study, arm and run, that needs no server and no network."""

from algoprogress.analysis.site.write import write_site

__all__ = ["write_site"]
