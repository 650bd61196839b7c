"""A tiny encoder without weights, for tests."""
