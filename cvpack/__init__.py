"""A small training toolkit that knows nothing of poses: torch, tqdm and the standard library only."""
