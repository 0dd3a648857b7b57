"""Tests of Django's that cannot apply, and why."""

CULLING = "MAX_ENTRIES and CULL_FREQUENCY are of backends without a memory limit; Redis has maxmemory"
UNSTORABLE = "stores what only pickle has a place for (functions, classes, model instances, querysets)"

#: Of every codec.
ALWAYS = {"test_cull": CULLING, "test_zero_cull": CULLING, "test_cull_delete_when_store_empty": CULLING}
#: Of the default codec beside.
JSON = dict.fromkeys(
    (
        "test_data_types",
        "test_cache_read_for_model_instance",
        "test_cache_write_for_model_instance_with_deferred",
        "test_cache_read_for_model_instance_with_deferred",
    ),
    UNSTORABLE,
)
#: Of the asynchronous methods beside.
ASYNC = dict.fromkeys(
    (
        "test_cache_write_for_model_instance_with_deferred",
        "test_cache_read_for_model_instance_with_deferred",
    ),
    "stores a queryset, which pickle evaluates: Django has no queries in an event loop",
)
LEFT_OUT = {
    **ALWAYS,
    **{f"{name} (asynchronously)": why for name, why in ASYNC.items()},
    **{f"{name} (with the default codec)": why for name, why in JSON.items()},
}
