"""A small training toolkit that knows nothing of its task: torch with tensorboard, tqdm and the standard library."""
