"""Provide the commands `mmdfer NAME`, each in a module of its name with a function `main(argv)`.

`argv` is the list of the command's arguments. By default, the arguments of the process are used.
"""

# The name of each command, which is also the name of its module, and its line in `mmdfer --help`.
COMMANDS = {
    'train': 'Train the model of a config',
    'test': 'Test a checkpoint with the config that it was trained with',
    'zero_shot': 'Test a checkpoint on another dataset than it was trained on',
    'predict': 'Recognise the expressions in films over time',
    'prepare_faces': 'Turn films and labels of your own into a dataset of face crops',
    'prepare_levels': 'Make landmarks, part masks and captions of the clips of a dataset',
    'extract_features': 'Encode every view of a dataset once, into a feature bank on disk',
    'cross_validate': 'Train and test a config on each fold of its dataset',
    'leaderboard': 'Train and test several methods on one dataset, and compare them in a table',
    'check_dataset': 'Check that a dataset on disk is complete and matches its release',
    'complexity': "Count the parameters and FLOPs of a config's model, and measure its speed",
    'publish_model': 'Write a small copy of a training checkpoint for publication',
    'import_checkpoint': "Convert a checkpoint that a method's authors publish",
    'make_synthetic': 'Make the synthetic benchmark, or drawn clips in the layout of a dataset',
    'train_synth_clip': 'Train the small CLIP of the synthetic benchmark on rendered faces',
    'train_synth_clip_vit': 'Train the image tower of the small ViT CLIP on rendered faces',
}
