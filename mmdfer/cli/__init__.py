"""The commands `mmdfer <name>`, one module for each, which has a `main(argv)`."""

# The name of each command, which is its module's, and what `mmdfer --help` says about it.
COMMANDS = {
    'train': 'Train what a config describes',
    'test': 'Test a checkpoint of what a config describes',
    'extract_features': 'Encode every view of a dataset once, into a feature bank',
    'cross_validate': 'Train and test a config on each fold of its dataset',
    'leaderboard': 'Train and test methods on one dataset with several seeds, and compare them',
    'check_dataset': 'Check whether a dataset on disk is the release',
    'complexity': 'Count parameters and FLOPs of a config, and measure its clips per second',
    'publish_model': 'Make a small checkpoint for others out of one of training',
    'make_synthetic': 'Make the synthetic benchmark, or a tree in the layout of a licensed dataset',
    'train_synth_clip': 'Train the small CLIP of the synthetic benchmark on rendered faces',
}
