"""A list of strings that holds millions of paths in little memory."""

from array import array
from collections.abc import Sequence

import numpy as np


class PathList(Sequence):
    """Strings as one buffer of UTF-8 and an array of offsets: 8 bytes per string beside its characters.

    A list needs about 60 bytes more per string. Worker processes share this buffer with the process that forked them.
    The objects of a list are copied into each worker when their reference counts change.
    """

    def __init__(self, strings=()):
        buffer, offsets = bytearray(), array('q', [0])
        for string in strings:
            # File names and JSON can hold half a surrogate pair, which strict UTF-8 refuses.
            buffer += string.encode('utf-8', 'surrogatepass')
            offsets.append(len(buffer))
        self._buffer = bytes(buffer)
        self._offsets = np.array(offsets)

    def __len__(self):
        return len(self._offsets) - 1

    def __getitem__(self, index):
        start, stop = self._offsets[range(len(self))[index]:][:2]  # the range raises IndexError
        return self._buffer[start:stop].decode('utf-8', 'surrogatepass')
