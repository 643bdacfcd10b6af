"""Records, curves and pictures of a run."""
