"""DFER-CLIP: learned tokens before a description of each class, a temporal transformer.

From the paper and the authors' code (zengqunzhao/DFER-CLIP): ViT-B/32 with OpenAI's weights, whose
image tower trains; 8 tokens of each class's own before its description; a transformer of one layer,
8 heads and MLP 1024 with a class token over 16 frames, whose vectors are not normalised; cosines
over 0.01; pixels in 0..1 without CLIP's mean and std. Ours: the descriptions
(mmdfer/models/heads/class_descriptions.py).
"""

model = dict(
    type='CLIPRecognizer',
    backbone=dict(
        type='FrozenCLIP', arch='ViT-B-32-quickgelu', weights='openai', trains=[r'^visual\.']
    ),
    neck=dict(type='TemporalTransformer', depth=1, heads=8, mlp=1024, num_frames=16),
    cls_head=dict(type='DFERCLIPHead', num_tokens=8, temperature=0.01),
    data_preprocessor=dict(type='CLIPDataPreprocessor', mean=[0.0] * 3, std=[255.0] * 3),
    normalize_frames=False,
)
