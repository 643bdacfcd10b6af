"""Helpers below every other part: files, seeds, processes, configs, the torchvision shim."""
