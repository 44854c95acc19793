"""Training many runs and comparing them: folds, seeds and methods."""
