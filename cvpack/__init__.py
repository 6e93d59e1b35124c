"""A small, task-agnostic training toolkit: torch with numpy and tensorboard, tqdm, the standard library."""
