"""Tests of `modelfile.convert`."""
