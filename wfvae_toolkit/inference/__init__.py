"""Trained models at work: evaluation of checkpoints."""
