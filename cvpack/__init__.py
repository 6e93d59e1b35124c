"""A small training toolkit that knows nothing of poses: torch and the standard library only."""
