import sys

import pytest

from herdgate.body import BadBody
from herdgate.inflate import TooMuch, inflated

if sys.version_info >= (3, 14):
    from compression.zstd import CompressionParameter, compress
else:
    from backports.zstd import CompressionParameter, compress

MIB = 1024 * 1024


class Held:
    def __init__(self, room: int = 1 << 40) -> None:
        self.size = 0
        self.room = room

    def __call__(self, size: int) -> None:
        self.size += size
        if self.size > self.room:
            raise MemoryError


@pytest.mark.parametrize("size", [0, 1, 1000, MIB, 3 * MIB + 7])
async def test_what_was_compressed_comes_back_and_is_counted(size: int) -> None:
    data, held = bytes(range(256)) * (size // 256 + 1), Held()
    assert await inflated(compress(data[:size]), 10 * MIB, held) == data[:size]
    assert held.size == size


async def test_a_body_that_grows_past_the_limit_is_noticed_early() -> None:
    bomb, held = compress(bytes(500 * MIB)), Held()
    assert len(bomb) < 100_000
    with pytest.raises(TooMuch):
        await inflated(bomb, 2 * MIB, held)
    assert held.size <= 2 * MIB


async def test_exactly_the_limit_is_not_too_much() -> None:
    assert len(await inflated(compress(bytes(MIB)), MIB, Held())) == MIB
    with pytest.raises(TooMuch):
        await inflated(compress(bytes(MIB + 1)), MIB, Held())


async def test_whoever_holds_the_memory_may_object() -> None:
    held = Held(room=MIB)
    with pytest.raises(MemoryError):
        await inflated(compress(bytes(100 * MIB)), 200 * MIB, held)
    assert held.size <= 3 * MIB


FRAME = compress(b'{"model":"llama3.2"}')
BAD = {
    "nothing": b"",
    "no zstd": b'{"model":"llama3.2"}',
    "half a frame": FRAME[:-3],
    "the beginning of a frame": FRAME[:2],
    "two frames": FRAME + FRAME,
    "a frame and junk": FRAME + b"x",
    "a damaged frame": FRAME[:4] + bytes([FRAME[4] | 0x08]) + FRAME[5:],
    "a window beyond measure": compress(bytes(64 * MIB), options={CompressionParameter.window_log: 27}),
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD.keys())
async def test_anything_but_one_frame_is_refused(body: bytes) -> None:
    with pytest.raises(BadBody):
        await inflated(body, 100 * MIB, Held())
