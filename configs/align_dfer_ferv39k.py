"""Train Align-DFER on FERV39k, with CLIP ViT-B/32."""

_base_ = [
    '_base_/models/align_dfer.py',
    '_base_/datasets/ferv39k_encoded.py',
    '_base_/schedules/bap_100e.py',
    '_base_/default_runtime.py',
]
