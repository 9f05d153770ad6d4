"""The server as a program: `python -m serving.embedded`, and what `pipeline serve` forwards to."""

import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence

from serving.embedded.errors import ServingError
from serving.embedded.flags import parse
from serving.embedded.server import Server
from serving.server_config import ServerConfigError


def main(argv: Sequence[str] | None = None, prog: str = "python -m serving.embedded") -> int:
    """Serve until SIGTERM or SIGINT, then drain and return.

    The line `serving gRPC on HOST:PORT, REST on HOST:PORT` on standard output says that the ports
    are open, and so that every model has something to serve.

    Returns:
        0 after a drained stop, 1 when the server could not start, 2 for impossible flags.
    """
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname).1s %(message)s"
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    try:
        options = parse(sys.argv[1:] if argv is None else argv, prog)
    except ServerConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options is None:
        return 0
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    server = Server(options)
    try:
        server.start(cancelled=stop.is_set)
    except ServingError as error:
        if stop.is_set():
            return 0
        print(f"Failed to start server. Error: {error.message}", file=sys.stderr)
        return 1
    # What is loaded by now stays: without this every collection would walk all of TensorFlow.
    gc.collect()
    gc.freeze()
    print(server.address_line(), flush=True)
    stop.wait()
    if not server.stop():
        # Python would wait for the threads that are stuck in the graph.
        logging.getLogger(__name__).warning("Requests were still running after the drain time")
        logging.shutdown()
        os._exit(0)
    return 0
