"""The short way for chunks that may go on as they came."""

from collections.abc import Callable

from herdgate.upstream.chunks import SIZES, ChunkReader

Sink = Callable[[bytes], None]


class Passage:
    """Takes the reads of a socket that are exactly one chunk, as nearly all are while a model writes.

    For a reply that is relayed as it is, to somebody who is sent chunks as well: such a chunk is sent on with its frame
    instead of being taken out of one and put into another.

    write: gets the chunk as it came.
    note: gets what is in it.
    """

    __slots__ = ("_note", "_reader", "_write")

    def __init__(self, reader: ChunkReader, write: Sink, note: Sink) -> None:
        self._reader = reader
        self._write = write
        self._note = note

    def take(self, data: bytes) -> bool:
        """Send this on, if it is one chunk; anything else is left to the parser of the response."""
        line = data.find(b"\r\n")
        size, begin = SIZES.get(data[:line]), line + 2
        if size is None or data[begin + size :] != b"\r\n" or not self._reader.between:
            return False
        self._write(data)
        self._note(data[begin:-2])
        return True
