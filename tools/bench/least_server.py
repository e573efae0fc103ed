"""The least that can be a runtime: every request on the port it is told is answered with 200.

    python -S -E tools/bench/least_server.py PORT

Some 8 MiB resident on Linux, of which 3 are its own.
"""

import _socket
import sys

listener = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
listener.bind(("127.0.0.1", int(sys.argv[1])))
listener.listen(64)
while True:
    # What `socket` does; importing it would take half of the start.
    descriptor, _ = listener._accept()  # type: ignore[attr-defined]  # noqa: SLF001
    connection = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM, 0, fileno=descriptor)
    connection.recv(65536)
    connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
    connection.close()
