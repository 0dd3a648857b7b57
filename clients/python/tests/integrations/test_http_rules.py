"""What headers say, by RFC 9111, RFC 5861 and RFC 9110."""

from __future__ import annotations

import pytest

from cacheflow.integrations.asgi import rules


def headers(**named):
    return [
        (name.replace("_", "-").encode(), value.encode())
        for name, values in named.items()
        for value in (values if isinstance(values, list) else [values])
    ]


def judge(status=200, authorized=False, ttl=60.0, negative_ttl=5.0, grace=300.0, **named):
    return rules.verdict(status, headers(**named), authorized, ttl, negative_ttl, grace)


def test_directives_are_read_with_quotes_commas_and_case():
    said = rules.directives(
        headers(cache_control=['Max-Age=60, private="set-cookie, x"', 'ext="a\\"b", no-transform'])
    )
    assert said == {
        "max-age": "60",
        "private": "set-cookie, x",
        "ext": 'a\\"b',
        "no-transform": None,
    }


@pytest.mark.parametrize(
    "text, seconds",
    [
        ("max-age=60", 60),
        ('max-age="60"', 60),
        ("max-age=-1", 0),
        ("max-age=1.5", 0),
        ("max-age", 0),
        ("max-age=9999999999999", 2**31),
        ("max-age=60, max-age=61", 0),
        ("max-age=60, max-age=60", 60),
        ("max-age=٣", 0),
        ("public", None),
    ],
)
def test_seconds_that_are_none_are_none(text, seconds):
    assert rules.delta(rules.directives([(b"cache-control", text.encode())]), "max-age") == seconds


@pytest.mark.parametrize(
    "named",
    [
        {"cache_control": "no-store"},
        {"cache_control": "private, max-age=60"},
        {"cache_control": 'private="x-user"'},
        {"cache_control": "no-cache"},
        {"cache_control": "max-age=0"},
        {"cache_control": "max-age=60", "age": "60"},
        {"set_cookie": "a=b"},
        {"vary": "accept, *"},
        {"expires": "0"},
        {"expires": "Thu, 26 Nov 2026 18:00:00 GMT", "date": "Thu, 26 Nov 2026 18:00:00 GMT"},
    ],
)
def test_what_is_not_stored(named):
    assert not judge(**named).store


@pytest.mark.parametrize("status", [206, 304, 500, 503, 302, 401, 403, 405])
def test_statuses_that_are_not_stored_unless_they_say_so(status):
    assert not judge(status).store


def test_a_status_that_says_so_is_stored_but_for_those_that_never_are():
    assert judge(302, cache_control="max-age=5").store
    assert not judge(500, cache_control="max-age=5").store
    assert not judge(206, cache_control="max-age=5").store


@pytest.mark.parametrize(
    "named, ttl, grace",
    [
        ({}, 60, 300),
        ({"cache_control": "max-age=5"}, 5, 300),
        ({"cache_control": "max-age=5, s-maxage=9"}, 9, 0),
        ({"cache_control": "s-maxage=9, stale-while-revalidate=30"}, 9, 30),
        ({"cache_control": "max-age=5, stale-if-error=60, stale-while-revalidate=30"}, 5, 60),
        ({"cache_control": "max-age=5, must-revalidate"}, 5, 0),
        ({"cache_control": "max-age=5, proxy-revalidate"}, 5, 0),
        ({"cache_control": "max-age=60", "age": "20"}, 40, 300),
        ({"expires": "Thu, 26 Nov 2026 18:01:00 GMT", "date": "Thu, 26 Nov 2026 18:00:30 GMT"}, 30, 300),
        (
            {
                "expires": "Thu, 26 Nov 2026 18:01:00 GMT",
                "date": "Thu, 26 Nov 2026 18:00:30 GMT",
                "cache_control": "max-age=7",
            },
            7,
            300,
        ),
    ],
)
def test_for_how_long(named, ttl, grace):
    judged = judge(**named)
    assert judged.store
    assert (judged.ttl, judged.grace) == (ttl, grace)


def test_what_is_not_there_is_remembered_shortly():
    judged = judge(404)
    assert (judged.store, judged.ttl, judged.grace) == (True, 5, 0)
    assert judge(404, cache_control="max-age=50").ttl == 50


def test_without_a_time_of_the_application_only_what_says_so():
    assert not judge(ttl=None).store
    assert judge(ttl=None, cache_control="max-age=5").store


@pytest.mark.parametrize("words, stored", [("public", True), ("s-maxage=9", True), ("must-revalidate", True)])
def test_of_requests_with_credentials_only_what_is_for_everybody(words, stored):
    assert not judge(authorized=True, cache_control="max-age=60").store
    assert judge(authorized=True, cache_control=words).store is stored


@pytest.mark.parametrize(
    "named, bypass, no_cache, only",
    [
        ({}, False, False, False),
        ({"cache_control": "no-store"}, True, False, False),
        ({"range": "bytes=0-1"}, True, False, False),
        ({"content_length": "5"}, True, False, False),
        ({"transfer_encoding": "chunked"}, True, False, False),
        ({"cache_control": "no-cache"}, False, True, False),
        ({"cache_control": "max-age=0"}, False, True, False),
        ({"pragma": "no-cache"}, False, True, False),
        ({"pragma": "no-cache", "cache_control": "max-age=5"}, False, False, False),
        ({"cache_control": "only-if-cached"}, False, False, True),
    ],
)
def test_what_requests_want(named, bypass, no_cache, only):
    asked = rules.asked(headers(**named), True)
    assert (asked.bypass, asked.no_cache, asked.only_if_cached) == (bypass, no_cache, only)


def test_clients_need_not_be_obeyed():
    asked = rules.asked(headers(cache_control="no-cache, max-age=1, min-fresh=5"), False)
    assert not asked.no_cache
    assert asked.content_with(50, 60)


def test_age_and_freshness_that_a_request_accepts():
    asked = rules.asked(headers(cache_control="max-age=10, min-fresh=5"), True)
    assert asked.content_with(10, 60)
    assert not asked.content_with(11, 60)
    assert not asked.content_with(8, 12)


@pytest.mark.parametrize(
    "said, same",
    [
        ('"a"', True),
        ('W/"a"', True),
        ('"b", W/"a"', True),
        ("*", True),
        ('"b"', False),
        ('"a,b"', False),
        ("a", False),
    ],
)
def test_validators_are_compared_weakly(said, same):
    assert rules.matches(said, '"a"') is same
    assert rules.matches(said, 'W/"a"') is same
