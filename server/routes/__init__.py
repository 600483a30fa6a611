"""Thin routes: parse, call the engine, format."""
