"""A receiver that keeps nothing and takes its time: `python -m scripts.benchmark.sink PORT MS`.

It answers each object after so many milliseconds, whatever else it is doing; associations do not
wait for each other. DCMTK's storescp can only wait for whole seconds.
"""

from __future__ import annotations

import signal
import sys
import threading
import time

from dgate.config.settings import SopList
from dgate.net import STORAGE, Association, CommandField, Listener, Message, Policy, Router, Terms


def main() -> None:
    """Serve until SIGTERM."""
    port, pause_s = int(sys.argv[1]), float(sys.argv[2]) / 1000

    def store(association: Association, message: Message) -> None:
        if pause_s:
            time.sleep(pause_s)
        association.respond(message, 0)

    router = Router({(CommandField.C_STORE_RQ, STORAGE): store})
    listener = Listener("127.0.0.1", port, lambda: Terms(Policy(SopList()), router.run))
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    listener.start()
    print("ready", flush=True)
    ended.wait()
    listener.stop(0.5)


if __name__ == "__main__":
    main()
