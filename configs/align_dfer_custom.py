"""Align-DFER on a dataset of your own, over CLIP ViT-B/32."""

_base_ = [
    '_base_/models/align_dfer.py',
    '_base_/datasets/custom_encoded.py',
    '_base_/schedules/bap_100e.py',
    '_base_/default_runtime.py',
]
