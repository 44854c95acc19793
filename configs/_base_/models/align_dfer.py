"""Align-DFER's three parts, of the paper's sizes: S = 16 sentences of T = 64 tokens, 16 frames.

From the paper: the parts and their sizes, ViT-B/32. Ours: OpenAI's weights, and what methods the
docstrings of MATHead and JAS call ours.
"""

model = dict(
    type='CLIPRecognizer',
    backbone=dict(type='FrozenCLIP', arch='ViT-B-32-quickgelu', weights='openai'),
    neck=dict(type='JAS', num_frames=16, num_sentences=16),
    cls_head=dict(type='MATHead', num_classes=7, num_sentences=16, num_tokens=64),
)
