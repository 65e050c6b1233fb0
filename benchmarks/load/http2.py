"""HTTP/2 by hand, for clients that misbehave: frames, and the head of an inference call over gRPC.

connection.sendall(PREFACE + frame(4, 0, 0, b"") + frame(1, 4, 1, CALL_HEAD))
"""

import struct

from benchmarks.load.messages import INFER

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_FIELDS = {
    b":method": b"POST",
    b":scheme": b"http",
    b":path": INFER.encode(),
    b":authority": b"a",
    b"te": b"trailers",
    b"content-type": b"application/grpc",
}
# HPACK's literal fields without indexing (RFC 7541, 6.2.2): what a HEADERS frame holds.
CALL_HEAD = b"".join(b"\0%c%s%c%s" % (len(name), name, len(value), value) for name, value in _FIELDS.items())


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One frame (RFC 9113, 4.1)."""
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload
