"""pickle: any Python object, read by Python alone. **Whoever can write to the server can then run code
in every process that reads from it.** No codec reads it unless it was given by name, and with a key
ring (`keys=`) only who has the key can write what is unpickled. Prefer a hook of JsonSerializer.
"""

from __future__ import annotations

import pickle

from . import frame
from .errors import DecodeError, EncodeError


class PickleSerializer:
    """pickle in a fixed protocol: 5, which Python 3.8 and later read."""

    id = frame.PICKLE
    protocol = 5

    def dumps(self, value: object) -> bytes:
        """EncodeError unsupported_type, with what pickle, or the object's own methods, said."""
        try:
            return pickle.dumps(value, protocol=self.protocol)
        except RecursionError:
            raise EncodeError("not_encodable", "nested too deep") from None
        except Exception as error:  # a __reduce__ may raise anything
            raise EncodeError("unsupported_type", f"{type(value).__qualname__}: {error}") from error

    def loads(self, data: bytes) -> object:
        """DecodeError corrupt: also where a class has moved, or its own code raised."""
        try:
            return pickle.loads(data)
        except Exception as error:  # a hostile or outdated pickle may raise anything
            raise DecodeError("corrupt", f"{type(error).__name__}: {error}") from error
