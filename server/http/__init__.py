"""HTTP itself: connections, the guard, bodies, answers and errors, the same for all dialects."""
