"""Tests of dogpile.cache's that cannot apply, and why."""

LEFT_OUT = {
    "tests/cache/test_*_backend.py": "of the other backends and their drivers; what is generic in them runs here",
    "test_region.py, test_decorator.py, tests/test_*.py": "of dogpile itself, with backends of their own",
}
