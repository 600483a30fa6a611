"""Tests of `modelfile`."""
