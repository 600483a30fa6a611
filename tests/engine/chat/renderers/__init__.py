"""Tests of the prompts of known families."""
