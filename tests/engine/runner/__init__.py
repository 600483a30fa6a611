"""Tests of the child, on the small bundled model where llama.cpp takes part."""
