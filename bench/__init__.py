"""Benchmark: Pronk's overhead over llama.cpp, by the same work over HTTP and in a bare loop, in one run."""
