"""Align-DFER on FERV39k, over CLIP ViT-B/32.

    python tools/train.py configs/align_dfer_ferv39k.py

No figure is published for this backbone: the paper's belong to ViT-L/14
(align_dfer_ferv39k_vitl14.py). Ours: not measured, since nobody here holds the data.

From the paper: the parts and their sizes, the stages and their epochs, SGD with momentum 0.9, batch
64. Ours, where it is silent: all that the files under _base_ call ours, the rates before all.
"""

_base_ = [
    '_base_/models/align_dfer.py',
    '_base_/datasets/ferv39k_encoded.py',
    '_base_/schedules/bap_100e.py',
    '_base_/default_runtime.py',
]
