"""Tests of the formats in which models call tools."""
