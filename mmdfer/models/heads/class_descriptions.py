"""Describe in words how a face looks in each expression, for the prompts of DFER-CLIP.

The descriptions were written for this package. They follow the action units (AU) that the Facial
Action Coding System gives for the basic emotions and contempt (Friesen and Ekman, "EMFACS-7", 1983;
Ekman, Friesen and Hager, "Facial Action Coding System: Investigator's Guide", 2002). The system
gives no action units for anxiety, helplessness and disappointment, which are classes of MAFW. Our
choice: the descriptions of these three classes, in the same terms.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmdfer.errors import DFERError

DESCRIPTIONS: dict[str, str] = {
    # AU6, AU12, AU25
    'happiness': 'cheeks lifted, corners of the mouth pulled up and back, creases beside the eyes',
    # AU1, AU4, AU15, AU17
    'sadness': 'inner brows drawn up and together, corners of the mouth pulled down, chin raised',
    # no action units
    'neutral': 'brows, eyes and mouth at rest, no muscle of the face drawn',
    # AU4, AU5, AU7, AU23
    'anger': 'brows pulled down and together, eyes fixed under tense lids, lips pressed tight',
    # AU1, AU2, AU5, AU26
    'surprise': 'brows raised high, upper lids lifted, jaw dropped and mouth hanging open',
    # AU9, AU10, AU17
    'disgust': 'nose wrinkled, upper lip raised, eyes narrowed, chin pushed up',
    # AU1, AU2, AU4, AU5, AU7, AU20, AU26
    'fear': 'brows raised and drawn together, eyes wide and tense, lips stretched to the sides',
    # AU12 and AU14 on one side
    'contempt': 'one corner of the mouth tightened and raised, the rest of the face still',
    # our choice: AU1, AU4, AU20, AU24, AU45, AU61 and AU62
    'anxiety': 'inner brows raised and tense, eyes blinking and shifting, lips stretched thin',
    # our choice: AU1, AU4, AU15, AU25, AU64
    'helplessness': 'inner brows raised, eyes turned down and tired, mouth slack and a little open',
    # our choice: AU4, AU15, AU24, AU54, AU64
    'disappointment': 'brows slightly lowered, eyes and head sinking, lips pressed, corners down',
}


def describe(classes: Sequence[str], written: dict[str, str] = DESCRIPTIONS) -> list[str]:
    """Return the description of each class, in the order of the classes.

    Args:
        classes: Names of the classes.
        written: Description of each class name. The default is this package's ``DESCRIPTIONS``.

    Raises:
        DFERError: If a class has no description.
    """
    if missing := [name for name in classes if name not in written]:
        raise DFERError(
            f'there is no description of the classes {", ".join(missing)}: set '
            'cls_head.descriptions to a dict that contains a text for each class'
        )
    return [written[name] for name in classes]
