"""The generator: labels, datasets, noise schedules, networks, training, guidance, sampling, checkpoints, sweep."""
