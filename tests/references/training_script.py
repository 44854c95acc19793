"""Write checkpoints as the training scripts of DFER-CLIP and Former-DFER do.

The source is save_checkpoint, its call and RecorderMeter in main.py of zengqunzhao/DFER-CLIP and in
main_DFEW.py of zengqunzhao/Former-DFER, which are alike.
"""

import sys
from unittest import mock

import numpy as np
import torch


class RecorderMeter:
    """Record losses and accuracies (epochs, 2); the first column is that of training."""

    def __init__(self, epochs):
        self.total_epoch, self.current_epoch = epochs, 0
        self.epoch_losses = np.zeros((epochs, 2), dtype=np.float32)
        self.epoch_accuracy = np.zeros((epochs, 2), dtype=np.float32)


# A pickle names a class by its module, and a script is the module `__main__`.
RecorderMeter.__module__ = '__main__'


def save(path, state, recorder=None, **options):
    """Save a state dict, as from an epoch of training on a GPU under DataParallel.

    Args:
        path: The file to write.
        state: Tensors by name, without the prefix of DataParallel.
        recorder: The object to save as the recorder. By default, a RecorderMeter.
        options: Passed to torch.save.
    """
    recorder = RecorderMeter(50) if recorder is None else recorder
    momentum = {0: {'momentum_buffer': torch.ones(3)}, 1: {'momentum_buffer': torch.ones(2, 2)}}
    checkpoint = {
        'epoch': 31,
        'state_dict': {f'module.{name}': tensor for name, tensor in state.items()},
        'best_acc': torch.tensor(71.25),
        'optimizer': {'state': momentum, 'param_groups': [{'lr': 0.01, 'params': [0, 1]}]},
        'recorder': recorder,
    }
    script = mock.patch.object(sys.modules['__main__'], 'RecorderMeter', RecorderMeter, create=True)
    on_gpu = mock.patch('torch.serialization.location_tag', lambda storage: 'cuda:0')
    with script, on_gpu:
        torch.save(checkpoint, path, **options)
