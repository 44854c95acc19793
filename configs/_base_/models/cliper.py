"""Define CLIPER: several learned text descriptors for each class, and an image tower that trains.

The values are those of the authors' code for RAF-DB (muse1998/CLIPER): ViT-B/16 with OpenAI's
weights, and 5 descriptors for each class. A descriptor consists of "an ID photo of", 4 learned
tokens and a full stop. The score of a class is the mean of the 5 cosines with its descriptors,
divided by the temperature 0.01. The loss is the sum of the margin loss and the fine-grained loss.
Our choice, because no code for video is public: the vector of a clip is the mean of its unit frame
vectors.
"""

model = dict(
    type='CLIPRecognizer',
    backbone=dict(
        type='FrozenCLIP', arch='ViT-B-16-quickgelu', weights='openai', trains=[r'^visual\.']
    ),
    cls_head=dict(type='CLIPERHead', num_classes=7, num_prompts=5, num_tokens=4, temperature=0.01),
)
