"""Define DFER-CLIP: learned tokens before a description of each class, and a temporal transformer.

The values are those of the paper and of the authors' code (zengqunzhao/DFER-CLIP). CLIP is ViT-B/32
with OpenAI's weights, and its image tower trains. Each class has 8 learned tokens of its own before
its description. The temporal transformer has one layer, 8 heads, an MLP of width 1024 and a class
token, and reads 16 frame vectors that are not normalised. Cosines are divided by the temperature
0.01. Pixels are between 0 and 1, without CLIP's mean and std. Our choice: the descriptions
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
