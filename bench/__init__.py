"""What Pronk costs on top of llama.cpp: the same work through our HTTP path and through a bare loop, in one run."""
