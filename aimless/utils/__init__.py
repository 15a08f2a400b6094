"""Published names, kept where configurations and other repositories look for them."""

from aimless.sources import MDX_SOURCES, SDX_SOURCES, SE_SOURCES
from aimless.wiener import MWF

__all__ = ["MDX_SOURCES", "MWF", "SDX_SOURCES", "SE_SOURCES"]
