"""Scenes are drawn, described and broken from a seed alone: an image-text retrieval set that needs no download."""

from raybench.sources.scenes.collection import Sample, Summary, build, write

__all__ = ["Sample", "Summary", "build", "write"]
