"""Align-DFER on DFEW, over CLIP ViT-B/32.

    python tools/cross_validate.py configs/align_dfer_dfew.py

The paper's figures on DFEW, WAR / UAR in %: 74.20 / 64.09, the mean of five folds.
Which backbone they belong to is not said; a second source has them as ViT-L/14's, of
align_dfer_dfew_vitl14.py. Ours: not measured, since nobody here holds the data.

One fold is never a result: folds differ by more than methods do. ``tools/train.py`` runs fold 1.

From the paper: the parts and their sizes, the stages and their epochs, SGD with momentum 0.9, batch
64. Ours, where it is silent: all that the files under _base_ call ours, the rates before all.
"""

_base_ = [
    '_base_/models/align_dfer.py',
    '_base_/datasets/dfew.py',
    '_base_/schedules/bap_100e.py',
    '_base_/default_runtime.py',
]
