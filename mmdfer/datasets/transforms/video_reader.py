"""Read the frames of a video file by their number.

Every file is decoded once from its beginning to its end, and never by seeking. So the number of
frames is counted instead of being read from a header, a damaged file raises an error whichever
frames are requested, and frame i is always the i-th frame of the video.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import av
import av.filter
import numpy as np
from av.sidedata.sidedata import SideDataContainer
from av.sidedata.sidedata import Type as SideData
from av.stream import Disposition

from mmdfer.datasets.transforms.containers import find_damage
from mmdfer.errors import UnreadableClipError
from mmdfer.files import PASSING, read_patiently

# Size limit in bytes of the decoded frames that are kept in memory between counting and reading.
# A longer video is decoded twice.
KEPT_BYTES = 64 * 2**20

# Frames much larger than 8K television come from a damaged header, and would fill the memory.
MAX_PIXELS = 2**26

# A file may be a playlist that names network addresses. FFmpeg must open only local files.
_ONLY_FILES = dict(protocol_whitelist='file')


class VideoStream:
    """Decode a video file once, from its beginning to its end, in constant memory.

    The container's edit list is applied, each frame is rotated and mirrored as its display matrix
    says, and FFmpeg converts its colours to RGB. ``ffmpeg -i FILE -fps_mode passthrough`` writes
    the same frames.

    Args:
        path: Path of the video file.
        num_threads: Number of threads of the decoder. The default is 1; with 0, FFmpeg chooses.

    Attributes:
        fps: Average number of frames per second, or 0 if the file does not contain it. It is known
            after the first frame.
        duration: Duration in seconds that the file claims, or 0 if the file does not contain it. It
            is known after the first frame.
    """

    def __init__(self, path: str | os.PathLike, num_threads: int = 1) -> None:
        self.path, self.num_threads = os.fspath(path), num_threads
        self.fps = self.duration = 0.0
        self._converter = _Converter()

    def frames(self) -> Iterator[tuple[float, Callable[[], np.ndarray]]]:
        """Decode the file, and yield the time and a function for each frame.

        The function converts the frame to RGB uint8 (H, W, 3). It costs nothing for frames that are
        not needed. It must be called before the next frame is requested.

        Yields:
            The time in seconds since the first frame, and the function.

        Raises:
            UnreadableClipError: If the file is damaged, contains no video, or has a codec that the
                installed FFmpeg cannot decode. The frames before the damage are yielded.
            FileSystemError: If the file system fails to read the file.
        """
        read_patiently(self._check, self.path)
        first, last = None, -1.0
        for frame in self._decode():
            if last < 0:
                first, time = frame.time, 0.0
            elif first is None or frame.time is None or frame.time - first <= last:
                time = last + (1 / self.fps if self.fps else 0.04)  # the file has no usable time
            else:
                time = frame.time - first
            last = time
            yield time, partial(self._convert, frame)
        if last < 0:
            raise self._unreadable('no frame can be decoded')

    def _check(self) -> None:
        """Raise an error if the path is not a file, or if the file's structure shows damage."""
        if not os.path.isfile(self.path):
            os.stat(self.path)  # raises OSError if the path does not exist or cannot be accessed
            raise self._unreadable('it is not a file')
        if damage := find_damage(self.path):
            raise self._unreadable(damage)

    def _decode(self) -> Iterator[av.VideoFrame]:
        """Open the file and yield its frames in the order of presentation.

        Raises:
            UnreadableClipError: If a packet or a frame is damaged.
            OSError: If the file system fails to read the file.
        """
        try:
            # Without "file:", FFmpeg would take the part of a name before a colon for a protocol.
            with av.open(
                f'file:{self.path}', container_options=_ONLY_FILES, metadata_errors='replace'
            ) as container:
                yield from self._decode_stream(container)
        except av.FFmpegError as error:
            if error.errno in PASSING:
                _read_through(self.path)  # raises OSError if the file system is the cause
            raise self._unreadable(str(error.strerror)) from error

    def _decode_stream(self, container: av.container.InputContainer) -> Iterator[av.VideoFrame]:
        """Yield the frames of the video stream of an open file."""
        stream = self._choose_stream(container)
        stream.codec_context.thread_count = self.num_threads
        stream.codec_context.options = _decoder_options(stream.codec_context.name)
        self.fps = float(stream.average_rate or stream.guessed_rate or 0)
        self.duration = container.duration / av.time_base if container.duration else 0.0
        begun = False
        for packet in self._demux(container, stream):
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                # A recording may begin between two key frames. The packets before the first key
                # frame cannot be decoded, and are skipped.
                if begun or packet.is_keyframe:
                    raise
                continue
            begun = begun or packet.is_keyframe  # the decoder may return its frame later
            for frame in frames:
                if frame.is_corrupt:
                    raise self._unreadable('a frame is damaged')
                begun = True
                yield frame

    def _demux(
        self, container: av.container.InputContainer, stream: av.VideoStream
    ) -> Iterator[av.Packet]:
        """Yield the packets of a stream, and an empty packet after the last, to flush the decoder.

        Raises:
            UnreadableClipError: If packets are missing.
        """
        # Transport streams number their packets, and FFmpeg marks a packet as corrupt where the
        # numbers have a gap. Where two streams were joined, there is a gap up to two packets before
        # a key frame although nothing is missing.
        allowed = 3 if container.format.name == 'mpegts' else 1
        left = 0
        for packet in container.demux(stream):
            is_last = packet.size == 0 and packet.dts is None
            if packet.size == 0 and not is_last:
                continue  # FFmpeg's decoders would take a packet without data for the end
            if packet.is_corrupt:
                left = allowed
            elif packet.is_keyframe:
                left = 0
            if left == 1 or (left and is_last):
                raise self._unreadable('a part of the file is missing')
            left = max(left - 1, 0)
            yield packet
            if is_last:
                return  # PyAV fails here if FFmpeg found another stream after opening the file

    def _choose_stream(self, container: av.container.InputContainer) -> av.VideoStream:
        """Return the video stream that the ffmpeg command would choose.

        Streams that are marked as default come first, then the stream with the largest frames.
        Cover pictures are not considered.

        Raises:
            UnreadableClipError: If there is no video stream, or no decoder for its codec.
        """
        streams = [
            s for s in container.streams.video if not s.disposition & Disposition.attached_pic
        ]
        if not streams:
            raise self._unreadable('it holds no video')

        def rank(stream: av.VideoStream) -> tuple[bool, int]:
            default = bool(stream.disposition & Disposition.default)
            context = stream.codec_context
            return default, 0 if context is None else context.width * context.height

        stream = max(streams, key=rank)
        if stream.codec_context is None:
            raise UnreadableClipError(
                f'{self.path}: the installed FFmpeg has no decoder for the codec of this video; '
                'convert the video: ffmpeg -i FILE -c:v libx264 NEW.mp4'
            )
        return stream

    def _convert(self, frame: av.VideoFrame) -> np.ndarray:
        """Convert a frame to RGB uint8 (H, W, 3), and report a failure as UnreadableClipError."""
        try:
            return self._converter(frame)
        except av.FFmpegError as error:
            raise self._unreadable(f'its colours cannot be converted: {error.strerror}') from error

    def _unreadable(self, reason: str) -> UnreadableClipError:
        """Build the error for a file that cannot be read for this reason."""
        return UnreadableClipError(
            f'{self.path}: cannot be read as a video ({reason}); restore the file, or remove the '
            'clip from the label file'
        )


class VideoReader(VideoStream):
    """Read the frames of a video file by their number.

    Frame i is the i-th frame of a full decode, in the order of presentation. The container's edit
    list is applied, the frame is rotated and mirrored as its display matrix says, and FFmpeg
    converts its colours to RGB. ``ffmpeg -i FILE -fps_mode passthrough`` writes the same frames.

    Args:
        path: Path of the video file.
        num_threads: Number of threads of the decoder. The default is 1.

    Attributes:
        fps: Average number of frames per second, or 0 if the file does not contain it.

    Raises:
        UnreadableClipError: If the file is damaged, contains no video, or has a codec that the
            installed FFmpeg cannot decode.
        FileSystemError: If the file system fails to read the file. The file itself may be intact.
    """

    def __init__(self, path: str | os.PathLike, num_threads: int = 1) -> None:
        super().__init__(path, num_threads)
        self._kept: list[av.VideoFrame] | None = []
        read_patiently(self._open, path)

    def __len__(self) -> int:
        """Return the number of frames."""
        return self._length

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield all frames in order, each RGB uint8 (H, W, 3)."""
        for frame in self._decode() if self._kept is None else self._kept:
            yield self._convert(frame)

    def read(self, numbers: Sequence[int]) -> list[np.ndarray]:
        """Return the frames with the given numbers.

        Args:
            numbers: Numbers of the frames, each in 0..len - 1, in any order. A number may occur
                more than once.

        Returns:
            One RGB uint8 array (H, W, 3) for each number, in the frame's original size.

        Raises:
            IndexError: If a number is not in 0..len - 1.
        """
        wanted = {int(number) for number in numbers}
        for number in wanted:
            if not 0 <= number < len(self):
                raise IndexError(
                    f'{self.path}: no frame {number}; the video has frames 0..{len(self) - 1}'
                )
        if self._kept is not None:
            found = {number: self._convert(self._kept[number]) for number in wanted}
        else:
            found = {}
            for number, frame in enumerate(self._decode()):
                if number in wanted:
                    found[number] = self._convert(frame)
                if len(found) == len(wanted):
                    break
        return [found[int(number)] for number in numbers]

    def _open(self) -> None:
        """Decode the file once to count its frames, and keep the frames if KEPT_BYTES allows it."""
        self._check()
        self._kept, self._length, size = [], 0, 0
        for frame in self._decode():
            self._length += 1
            # A frame that cannot be converted must raise an error whichever frames are requested,
            # so one frame of each kind is converted here.
            if self._converter.is_new(frame):
                self._convert(frame)
            if self._kept is not None:
                self._kept.append(frame)
                size += sum(plane.buffer_size for plane in frame.planes)
                if size > KEPT_BYTES:
                    self._kept = None
        if self._length == 0:
            raise self._unreadable('no frame can be decoded')


def _read_through(path: str) -> None:
    """Read a file to its end, so that an OSError is raised only if the file system fails.

    An I/O error of FFmpeg may also come from a damaged file.
    """
    with open(path, 'rb') as file:
        while file.read(2**20):
            pass


def _decoder_options(codec: str) -> dict[str, str]:
    """Return the options for FFmpeg's decoder of this codec."""
    options = dict(max_pixels=str(MAX_PIXELS))
    if codec == 'hevc':  # by default, this decoder drops a damaged frame without an error
        options['err_detect'] = 'explode'
    return options


class _Converter:
    """Convert decoded frames to upright RGB with the filters that the ffmpeg command applies."""

    def __init__(self) -> None:
        self._graphs: dict[tuple, av.filter.Graph] = {}

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        """Return the frame as RGB uint8 (H, W, 3)."""
        filters, key = self._settings(frame)
        if key not in self._graphs:
            self._graphs[key] = _build_graph(frame, filters)
        graph = self._graphs[key]
        graph.push(frame)
        return np.ascontiguousarray(graph.pull().to_ndarray())

    def is_new(self, frame: av.VideoFrame) -> bool:
        """Return whether this is the first frame of its size, format, rotation and colour space."""
        return self._settings(frame)[1] not in self._graphs

    @staticmethod
    def _settings(frame: av.VideoFrame) -> tuple[Sequence[tuple[str, str]], tuple]:
        """Return the filters that rotate a frame, and the key of the filter graph for the frame."""
        filters = _rotation_filters(_read_display_matrix(frame))
        key = (frame.width, frame.height, frame.format.name, *filters)
        return filters, (*key, frame.colorspace, frame.color_range)


def _build_graph(frame: av.VideoFrame, filters: Sequence[tuple[str, str]]) -> av.filter.Graph:
    """Build the graph of FFmpeg filters that converts frames like this one to upright RGB."""
    graph = av.filter.Graph()
    if hasattr(graph, 'threads'):  # PyAV before 18 cannot set the number of threads
        graph.threads = 1  # the frames are small, and each worker of a data loader has one CPU
    chain = [
        graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
        )
    ]
    for name, arguments in (*filters, ('format', 'pix_fmts=rgb24'), ('buffersink', '')):
        chain.append(graph.add(name, arguments) if arguments else graph.add(name))
    for before, after in zip(chain, chain[1:]):
        before.link_to(after)
    graph.configure()
    return graph


def _read_display_matrix(frame: av.VideoFrame) -> Sequence[int] | None:
    """Return the first six of the nine numbers of a frame's display matrix, or None without one."""
    # frame.side_data is not used, because it and the frame refer to each other. Both would stay in
    # memory until Python's garbage collection.
    container = SideDataContainer(frame)  # type: ignore[call-arg]  # the stub has no constructor
    data: Any = container.get(SideData.DISPLAYMATRIX)
    return None if data is None else np.frombuffer(data, np.int32)[:6].tolist()


def _rotation_filters(matrix: Sequence[int] | None) -> Sequence[tuple[str, str]]:
    """Return the filters (name, arguments) that ffmpeg inserts for a display matrix."""
    if matrix is None:
        return ()
    a, b, _, c, d, _ = matrix
    angle = math.degrees(math.atan2(b / (math.hypot(b, d) or 1), a / (math.hypot(a, c) or 1))) % 360
    if abs(angle - 90) < 1:
        return [('transpose', 'cclock_flip' if c > 0 else 'clock')]
    if abs(angle - 180) < 1:
        return [('hflip', '')] * (a < 0) + [('vflip', '')] * (d < 0)
    if abs(angle - 270) < 1:
        return [('transpose', 'clock_flip' if c < 0 else 'cclock')]
    if 1 <= angle <= 359:
        return [('rotate', f'{angle}*PI/180')]
    return [('vflip', '')] * (d < 0)
