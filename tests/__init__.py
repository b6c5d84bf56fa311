"""Tests, in the wings of the package."""
