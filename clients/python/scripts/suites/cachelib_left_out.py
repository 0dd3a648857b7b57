"""Tests of cachelib's that cannot apply, and why."""

LEFT_OUT = {
    "SerializerTests": "assign cache.serializer, which backends of cachelib's own have; ours has a codec",
    "TestRedisCache.test_callable_key": "is of RedisCache alone: keys that are functions",
    "test_interface_uniformity": "names cachelib's own backends; the same is asked of ours here",
    "sample 4096 (with JSON)": "a dict with an int as key, which JSON would change: the codec refuses it",
}
