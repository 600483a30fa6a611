"""Tests of models at rest."""
