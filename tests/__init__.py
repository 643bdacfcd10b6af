"""A package, so that it comes before the package `tests` that torch-fidelity 0.4 installs by mistake."""
