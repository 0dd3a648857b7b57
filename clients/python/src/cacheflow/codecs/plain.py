"""The check before a value is serialized: that it will come back as it is, or is made such by a hook.

Types are compared exactly. A subclass of str, int, list or dict would come back as its base (a
namedtuple as a list, an enum as its number), which is a change that nobody notices until the value is
served from the cache for the first time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from .errors import EncodeError

Default = Callable[[object], object]
ObjectHook = Callable[[dict[str, object]], object]


class Plain:
    """Values of one format. `atoms` are its types beside list and dict, `also` admits single values
    beyond them, `default` is the user's hook (see JsonSerializer)."""

    def __init__(
        self,
        name: str,
        atoms: frozenset[type],
        default: Default | None,
        also: Callable[[object], bool] = lambda _: False,
    ) -> None:
        self._name, self._atoms, self._default, self._also = name, atoms, default, also

    def __call__(self, value: object) -> object:
        """The value; or, where a hook must be applied to something in it, a copy. EncodeError."""
        try:
            # Most values are plain, and only looked through: that takes a third of what json.dumps does, and
            # copying two thirds (benchmarks/codecs.py).
            return value if self._is_plain(value) else self._plain(value, "value", hooked=False)
        except RecursionError:
            raise EncodeError("not_encodable", "nested too deep, or in a cycle") from None

    def _is_plain(self, value: object) -> bool:
        kind, atoms = type(value), self._atoms
        if kind is list:
            for item in value:  # type: ignore[attr-defined]
                if type(item) in atoms:
                    continue
                if not self._is_plain(item):
                    return False
            return True
        if kind is dict:
            for name, item in value.items():  # type: ignore[attr-defined]
                if type(name) is not str or (type(item) not in atoms and not self._is_plain(item)):
                    return False
            return True
        return kind in atoms or self._also(value)

    def _plain(self, value: object, path: str, hooked: bool) -> object:
        # `path` is for errors, and names keys but not indices.
        kind = type(value)
        if kind in self._atoms:
            return value
        if kind is list:
            return [self._plain(item, path, False) for item in value]  # type: ignore[attr-defined]
        if kind is dict:
            plain: dict[str, object] = {}
            for name, item in value.items():  # type: ignore[attr-defined]
                if type(name) is not str:
                    self._refuse(name, f"a key of {path}")
                plain[name] = self._plain(item, f"{path}.{name}", False)
            return plain
        if self._also(value):
            return value
        if self._default is None or hooked:
            self._refuse(value, path)
        try:
            replaced = self._default(value)
        except (TypeError, ValueError) as error:
            raise EncodeError("unsupported_type", f"default= refused {_type(value)} ({path}): {error}") from error
        return self._plain(replaced, path, hooked=True)

    def _refuse(self, value: object, path: str) -> NoReturn:
        raise EncodeError(
            "unsupported_type",
            f"{_type(value)} would not come back from {self._name} as it is ({path}): "
            "convert it, or give the codec default= and its inverse",
        )


def _type(value: object) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


class HookFailed(Exception):
    """Carries what the user's object_hook raised past the parser's own errors."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def guarded(hook: ObjectHook | None) -> ObjectHook | None:
    """The hook, raising HookFailed for whatever it raises: a bug of its own is no corrupt value."""
    if hook is None:
        return None
    user = hook

    def call(read: dict[str, object]) -> object:
        try:
            return user(read)
        except Exception as error:
            raise HookFailed(error) from error

    return call
