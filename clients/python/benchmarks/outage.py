"""Redis is killed under load, and comes back; or it is stopped (SIGSTOP), and goes on.

    python benchmarks/outage.py [--how kill|stop] [--threads 8] [--away 3]

Threads ask for 200 keys by get_or_set with a loader of 1 ms all the while. Printed: which share was answered
(rightly, and without an error), by how much the p99 of the time of a call while the server is away is above the
loader's own, and how long after the server's return the first hit came from it. The bound for the second is the
client's timeout, for the third 2 s.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time

from servers import server

from cacheflow import CacheFlow

LOAD = 0.001


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--how", choices=["kill", "stop"], default="kill")
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--away", type=float, default=3.0)
    args = parser.parse_args()
    with server() as started:
        cache = CacheFlow(f"redis://127.0.0.1:{started.port}", namespace="bench")
        stop, calls, lock = threading.Event(), [], threading.Lock()

        def load() -> int:
            time.sleep(LOAD)
            return 1

        def work(seed: int) -> None:
            number = 0
            while not stop.is_set():
                began = time.monotonic()
                try:
                    right = cache.get_or_set(f"k{number * seed % 200}", load, ttl=600) == 1
                except Exception as error:
                    print("an error reached the caller:", repr(error))
                    right = False
                with lock:
                    calls.append((began, time.monotonic() - began, right))
                number += 1

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3, 3 + args.threads)]
        for thread in threads:
            thread.start()
        time.sleep(1.5)
        away = time.monotonic()
        if args.how == "kill":
            started.kill9()
        else:
            started.pause()
        time.sleep(args.away)
        if args.how == "kill":
            started.restart()
        else:
            started.resume()
        back, hits = time.monotonic(), cache.client_stats()["hit"]
        while cache.client_stats()["hit"] == hits:
            time.sleep(0.005)
        recovered = time.monotonic() - back
        time.sleep(1.0)
        stop.set()
        for thread in threads:
            thread.join()
        cache.close()
        during = sorted(took for began, took, _ in calls if away <= began < back)
        p99 = during[int(len(during) * 0.99)]
        print(
            f"answered          {100 * statistics.mean(right for *_, right in calls):.2f} % of {len(calls)} calls"
        )
        print(
            f"while away        {len(during)} calls, median {statistics.median(during) * 1000:.1f} ms,"
            f" added at p99 {(p99 - LOAD) * 1000:.1f} ms, longest {during[-1] * 1000:.0f} ms"
            f" (timeout {cache.core.timeout * 1000:.0f} ms)"
        )
        print(f"recovered         {recovered:.2f} s after it was back")


if __name__ == "__main__":
    main()
