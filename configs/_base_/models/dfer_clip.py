"""DFER-CLIP: learned tokens before a description of each class, a temporal transformer.

From the paper: ViT-B/32, whose image tower trains; 8 tokens of each class's own before its
description; a transformer of one layer, 8 heads and MLP 1024 with a class token over 16 frames;
cosines over 0.01. Ours: the descriptions (mmdfer/models/descriptions.py), frame vectors of unit
length, OpenAI's weights.
"""

model = dict(
    type='CLIPRecognizer',
    backbone=dict(
        type='FrozenCLIP', arch='ViT-B-32-quickgelu', weights='openai', trains=[r'^visual\.']
    ),
    neck=dict(type='TemporalTransformer', depth=1, heads=8, mlp=1024, num_frames=16),
    cls_head=dict(type='DFERCLIPHead', num_tokens=8, temperature=0.01),
)
