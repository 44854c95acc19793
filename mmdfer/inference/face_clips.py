"""Cut clips of one face each out of films, and write them as a dataset that training reads."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from mmdfer.cpus import count_cpus
from mmdfer.datasets.csv_dataset import FACES, read_classes, read_labels
from mmdfer.errors import DFERError
from mmdfer.faces import FaceDetector, build_detector, crop_face, follow_faces
from mmdfer.files import append_line, read_whole_lines, write_text
from mmdfer.inference.analysis import Sampling
from mmdfer.inference.film import Film, open_film
from mmdfer.inference.inputs import choose_name
from mmdfer.inference.pool import run_all

_DONE = 'prepared.jsonl'  # one line for each finished clip, so that a later run continues
_QUALITY = 95  # of the JPEG files


@dataclass(frozen=True)
class LabelledFilm:
    """Hold a film that a CSV file lists.

    Attributes:
        path: Path of the film.
        label: Its label.
        split: Name of the CSV file.
        name: Name of the folder of its crops.
    """

    path: str
    label: str
    split: str
    name: str


@dataclass(frozen=True)
class Cropping(Sampling):
    """Hold how faces are found and cropped.

    Attributes:
        detector: Name of the face detector.
        face_model: Model file of the face detector, or None.
    """

    fps: float = 25.0
    detector: str = 'centerface'
    face_model: str | None = None


@dataclass(frozen=True)
class Outcome(LabelledFilm):
    """Hold what became of a film.

    Attributes:
        frames: Number of frames that were read.
        crops: Number of frames of the face that is shown longest. Without any, the film is dropped.
        reason: Why the film was dropped, or an empty string.
    """

    frames: int
    crops: int
    reason: str = ''


def read_films(source: Path) -> tuple[list[LabelledFilm], tuple[str, ...]]:
    """Read the films and labels of a folder, and the names of the classes.

    Args:
        source: A folder with ``train.csv``, ``test.csv`` and so on, or one CSV file. The files have
            the columns ``clip`` and ``label``; clips are relative to the folder of the file. The
            classes are those of ``classes.txt`` if there is one, or else the labels in the order of
            the alphabet.

    Raises:
        DFERError: If there is no CSV file, if a file cannot be read, or if a label is not among
            the classes.
    """
    files = sorted(source.glob('*.csv')) if source.is_dir() else [source]
    if not files:
        raise DFERError(f'{source}: has no CSV file; write train.csv with the columns clip, label')
    films: list[LabelledFilm] = []
    taken: set[str] = set()
    for file in files:
        for _, row in read_labels(file):
            name = choose_name(Path(row['clip']).stem, taken)
            path = str(file.parent / row['clip'])
            films.append(LabelledFilm(path, row['label'], file.stem, name))
    listed = files[0].parent / 'classes.txt'
    labels = {film.label for film in films}
    classes = read_classes(listed) if listed.is_file() else tuple(sorted(labels))
    if unknown := sorted(labels - set(classes)):
        raise DFERError(f'{listed}: lacks the label {unknown[0]!r}; add it or correct the label')
    return films, classes


def prepare_faces(
    source: Path, out: Path, cropping: Cropping, workers: int | None = None
) -> list[Outcome]:
    """Crop the face of each film, and write a dataset of the crops.

    ``out`` gets ``frames/NAME/00001.jpg`` and so on, the CSV files and ``classes.txt``, in the form
    that :class:`mmdfer.datasets.CSVDataset` reads, and ``report/films.csv`` with all films. A
    progress bar is shown. After an interruption, the next call continues.

    Args:
        source: As in :func:`read_films`.
        out: The folder of the dataset.
        cropping: How faces are cropped.
        workers: Number of processes. By default, the number of usable CPUs.

    Returns:
        What became of each film, in the order of the lists.

    Raises:
        DFERError: If the lists cannot be read, if the detector cannot be built, or if ``out``
            contains crops of other settings or other lists.
    """
    films, classes = read_films(source)
    _build_detector(cropping)  # reports a missing package or file
    _check_settings(out, cropping)
    done = {outcome.name: outcome for outcome in _read_done(out)}
    for film in films:
        found = done.get(film.name)
        if found and (found.path, found.label, found.split) != (film.path, film.label, film.split):
            raise DFERError(
                f'{out}: contains crops of {found.path} as {film.name}, which is {film.path} now; '
                'give another folder'
            )
    todo = [film for film in films if film.name not in done]
    crop = partial(_crop, out=out, cropping=cropping)
    for outcome in run_all(crop, todo, workers or count_cpus(), 'Cropping faces', 'film'):
        done[outcome.name] = outcome
        append_line(out / _DONE, json.dumps(asdict(outcome)))
    outcomes = [done[film.name] for film in films]
    _write_lists(out, outcomes, classes)
    return outcomes


def _check_settings(out: Path, cropping: Cropping) -> None:
    """Record how faces are cropped, or compare it with the record of an earlier run."""
    path, settings = out / FACES, asdict(cropping)
    if not path.is_file():
        write_text(path, json.dumps(settings, indent=1))
    elif (then := json.loads(path.read_text())) != settings:
        raise DFERError(
            f'{path}: the folder contains crops with other settings ({then}); give another folder'
        )


def _read_done(out: Path) -> Iterator[Outcome]:
    """Yield the outcomes of earlier runs. A line that a kill has cut off is removed."""
    for line in read_whole_lines(out / _DONE):
        yield Outcome(**json.loads(line))


# ---------------------------------------------------------------- cropping

_DETECTORS: dict[tuple[str, str | None], FaceDetector] = {}  # of this process


def _build_detector(cropping: Cropping) -> FaceDetector:
    """Return the detector of this process, which is built once."""
    key = cropping.detector, cropping.face_model
    if key not in _DETECTORS:
        _DETECTORS[key] = build_detector(*key)
    return _DETECTORS[key]


def _crop(film: LabelledFilm, out: Path, cropping: Cropping) -> Outcome:
    """Crop the face of one film into its folder."""
    detector = _build_detector(cropping)
    target = out / 'frames' / film.name
    aside = target.with_name(f'.{film.name}.aside')
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    frames = crops = 0
    reason = ''
    try:
        frames, crops = write_crops(open_film(Path(film.path)), aside, detector, cropping)
        if not crops:
            reason = 'no face was found'
    except DFERError as error:
        reason = str(error)
    if reason:
        shutil.rmtree(aside)
    else:
        shutil.rmtree(target, ignore_errors=True)
        aside.rename(target)
    return Outcome(**asdict(film), frames=frames, crops=0 if reason else crops, reason=reason)


def write_crops(
    film: Film, folder: Path, detector: FaceDetector, cropping: Cropping
) -> tuple[int, int]:
    """Write the crops of the face that a film shows longest.

    Frames in which the face was not found are left out.

    Args:
        film: The film.
        folder: The empty folder for ``00001.jpg`` and so on.
        detector: The face detector.
        cropping: How the face is cropped.

    Returns:
        The number of frames that were read, and the number of crops.
    """
    frames, counts = 0, Counter[int]()
    for _, image, faces in follow_faces(film.sample(cropping.fps), detector):
        frames += 1
        for face in faces:
            if not face.carried:
                counts[face.track] += 1
                crop = crop_face(image, face.box, cropping.margin, cropping.size)
                _write_picture(folder / f'{face.track}_{counts[face.track]:05d}.jpg', crop)
    if not counts:
        return frames, 0
    longest = counts.most_common(1)[0][0]
    for path in list(folder.iterdir()):
        track, _, number = path.name.partition('_')
        if int(track) == longest:
            path.rename(folder / number)
        else:
            path.unlink()
    return frames, counts[longest]


def _write_picture(path: Path, picture: np.ndarray) -> None:
    """Write an RGB picture as a JPEG file."""
    _, code = cv2.imencode('.jpg', picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    path.write_bytes(code.tobytes())


# ---------------------------------------------------------------- lists


def _write_lists(out: Path, outcomes: Sequence[Outcome], classes: Sequence[str]) -> None:
    """Write the CSV files of the dataset, its classes, and the report of all films."""
    write_text(out / 'classes.txt', ''.join(f'{name}\n' for name in classes))
    for split in dict.fromkeys(outcome.split for outcome in outcomes):
        rows = [[f'frames/{o.name}', o.label] for o in outcomes if o.split == split and o.crops]
        write_text(out / f'{split}.csv', _to_csv(['clip', 'label'], rows))
    columns = ['film', 'split', 'label', 'frames', 'crops', 'reason']
    rows = [[o.path, o.split, o.label, str(o.frames), str(o.crops), o.reason] for o in outcomes]
    write_text(out / 'report' / 'films.csv', _to_csv(columns, rows))


def _to_csv(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator='\n').writerows([header, *rows])
    return text.getvalue()
