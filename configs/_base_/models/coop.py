"""CoOp: 16 learned tokens before each class's name, on the mean of the frame vectors.

From the paper: 16 tokens, shared by the classes; ``class_specific=True`` gives each class its own.
Ours: frames are averaged, as CoOp is for images; ViT-B/32 and OpenAI's weights.
"""

model = dict(
    type='CLIPRecognizer',
    backbone=dict(type='FrozenCLIP', arch='ViT-B-32-quickgelu', weights='openai'),
    cls_head=dict(type='CoOpHead', num_tokens=16, class_specific=False),
)
