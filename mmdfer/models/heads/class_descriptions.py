"""What a face does in each expression, in words.

Written for this package after the action units (AU) that the Facial Action Coding System gives for
the basic emotions and contempt (Friesen and Ekman, "EMFACS-7", 1983; Ekman, Friesen and Hager,
"Facial Action Coding System: Investigator's Guide", 2002). For anxiety, helplessness and
disappointment, which MAFW adds, it gives none: those descriptions are ours, in the same terms.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmdfer.errors import DFERError

DESCRIPTIONS: dict[str, str] = {
    # AU6, AU12, AU25
    'happiness': 'cheeks lifted, corners of the mouth pulled up and back, creases beside the eyes',
    # AU1, AU4, AU15, AU17
    'sadness': 'inner brows drawn up and together, corners of the mouth pulled down, chin raised',
    # no action unit
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
    # after AU1, AU4, AU20, AU24, AU45, AU61 and AU62
    'anxiety': 'inner brows raised and tense, eyes blinking and shifting, lips stretched thin',
    # after AU1, AU4, AU15, AU25, AU64
    'helplessness': 'inner brows raised, eyes turned down and tired, mouth slack and a little open',
    # after AU4, AU15, AU24, AU54, AU64
    'disappointment': 'brows slightly lowered, eyes and head sinking, lips pressed, corners down',
}


def describe(classes: Sequence[str], written: dict[str, str] = DESCRIPTIONS) -> list[str]:
    """Looks up the descriptions of classes.

    Raises:
        DFERError: A class has none.
    """
    if missing := [name for name in classes if name not in written]:
        raise DFERError(
            f'no description of the classes {", ".join(missing)}: give cls_head.descriptions, '
            'a dict that has a text for each class'
        )
    return [written[name] for name in classes]
