"""What codecs cost: encode and decode as ratios to json.dumps and json.loads in the same run, and sizes.

    python benchmarks/codecs.py [--seconds 0.2]

Each round measures all of them once, in turn, so that what else the machine does hits all alike; the median
of the rounds' ratios is printed.
"""

import argparse
import json
import statistics
import time

from cacheflow.codecs import JsonCodec, KeyRing, MsgpackCodec

ROW = {"id": 42, "name": "Ada Lovelace", "price": 9.5, "of": [1, 2, 3]}
VALUES = {"one row": ROW, "100 rows": [ROW | {"id": number} for number in range(100)]}
ROUNDS = 15
RING = KeyRing("k", {"k": bytes(32)})
CODECS = {
    "JSON": JsonCodec(),
    "JSON, zstd": JsonCodec(compress="zstd"),
    "JSON, LZ4": JsonCodec(compress="lz4"),
    "JSON, encrypted": JsonCodec(keys=RING),
    "MessagePack": MsgpackCodec(),
    "MessagePack, zstd, encrypted": MsgpackCodec(compress="zstd", keys=RING),
}


def dumps(value):
    """The bare library, as most caches call it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def took(seconds, work, *args):
    """Seconds that work(*args) takes, measured for about so many seconds."""
    calls, spent = 0, 0.0
    while spent < seconds:
        began = time.perf_counter()
        for _ in range(20):
            work(*args)
        spent += time.perf_counter() - began
        calls += 20
    return spent / calls


def main():
    """Print a table a value."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=0.2, help="of each measurement, over all rounds")
    share = parser.parse_args().seconds / ROUNDS
    for name, value in VALUES.items():
        text = dumps(value)
        written = {codec: CODECS[codec].encode("k", value) for codec in CODECS}
        ratios = {codec: ([], []) for codec in CODECS}
        bare = []
        for _ in range(ROUNDS):
            dump, load = took(share, dumps, value), took(share, json.loads, text)
            bare.append((dump, load))
            for codec, (encode, decode) in ratios.items():
                this, data = CODECS[codec], written[codec]
                encode.append(took(share, this.encode, "k", value) / dump)
                decode.append(took(share, this.decode, "k", data) / load)
        dump, load = (statistics.median(column) * 1e6 for column in zip(*bare, strict=True))
        print(f"{name}: json.dumps {dump:.1f} µs, json.loads {load:.1f} µs, {len(text)} bytes")
        for codec, columns in ratios.items():
            encode, decode = map(statistics.median, columns)
            print(f"  {codec:30} encode {encode:5.2f}x  decode {decode:5.2f}x  {len(written[codec]):6} bytes")


if __name__ == "__main__":
    main()
