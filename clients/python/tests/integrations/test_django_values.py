"""What Django puts into a cache, in JSON; sessions; template fragments."""

import datetime
import decimal
import uuid

import djangosite
import pytest
from django.contrib.sessions.backends.cache import SessionStore
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.template import Context, Template, TemplateSyntaxError
from django.test import RequestFactory
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import cache_page
from hypothesis import given
from hypothesis import strategies as st

from cacheflow.codecs import DecodeError, EncodeError, Framed
from cacheflow.integrations.django.values import django_json

CODEC = Framed(django_json())

plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
zones = st.none() | st.just(datetime.timezone.utc)
framework = (
    plain
    | st.text().map(mark_safe)
    | st.datetimes(timezones=zones)
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.binary()
)
values = st.recursive(
    framework,
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def there_and_back(value):
    return CODEC.decode("k", CODEC.encode("k", value))


def same(one, other):
    """Equal, and of the same types all through."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return one == other


@given(values)
def test_values_come_back_as_they_were(value):
    assert same(there_and_back(value), value)


@pytest.mark.parametrize("value", [{1, 2}, frozenset({"a"}), set(), uuid.uuid4(), decimal.Decimal("1.10")])
def test_sets_and_numbers(value):
    assert same(there_and_back(value), value)


def test_lazy_text_comes_back_as_text():
    assert there_and_back([gettext_lazy("Yes")]) == ["Yes"]


@pytest.mark.parametrize(
    "forged",
    [
        {"$type": ["safe", "<script>"]},
        {"a": 1, "$type": 2},
        [(1,), {"b": {"$type": ["safe", "x"]}}],
    ],
)
def test_data_cannot_pass_for_markup(forged):
    with pytest.raises(EncodeError):
        CODEC.encode("k", forged)


def test_text_that_looks_like_a_mark_is_text():
    text = '{"$type":["safe","<b>"]}'
    assert there_and_back([text, {text: text}]) == [text, {text: text}]


@pytest.mark.parametrize("data", [b'{"$type":["none",1]}', b'{"$type":["date","x"]}', b'{"$type":3}'])
def test_what_cannot_be_read_is_corrupt(data):
    with pytest.raises(DecodeError) as caught:
        CODEC.decode("k", data)
    assert caught.value.code == "corrupt"


def test_responses():
    response = JsonResponse({"ä": 1}, status=201, reason="Made", headers={"X-One": "1"})
    response.set_cookie("name", "a value; with signs", max_age=60, httponly=True)
    found = there_and_back(response)
    assert (found.status_code, found.reason_phrase, found.content) == (201, "Made", response.content)
    assert dict(found.items()) == dict(response.items())
    assert found.cookies == response.cookies
    assert found.cookies["name"]["httponly"] and found.cookies.output() == response.cookies.output()
    assert found.charset == response.charset
    with pytest.raises(EncodeError):
        CODEC.encode("k", StreamingHttpResponse(["a"]))


def test_cache_page_needs_no_pickle(server, namespace):
    with djangosite.caching(server, namespace, timeout=5):
        calls = []

        @cache_page(60)
        def view(request):
            calls.append(request)
            response = HttpResponse(f"<p>{len(calls)}</p>")
            response.set_cookie("seen", "yes")
            return response

        one, two = (view(RequestFactory().get("/page")) for _ in range(2))
        assert one.content == two.content == b"<p>1</p>"
        assert two.cookies["seen"].value == "yes"


def test_sessions(server, namespace):
    with djangosite.caching(server, namespace, timeout=5) as cache:
        session = SessionStore()
        session["since"] = when = datetime.datetime.now(datetime.timezone.utc)
        session["basket"] = [("chair", 2)]
        session.set_expiry(300)
        session.create()
        key = session.session_key
        assert SessionStore(key)["since"] == when
        assert SessionStore(key)["basket"] == [("chair", 2)]
        assert SessionStore().exists(key)
        session.cycle_key()
        assert not SessionStore().exists(key)
        key = session.session_key
        assert cache.has_key(session.cache_key)
        session.flush()
        assert not SessionStore().exists(key)


def render(text, **context):
    return Template("{% load cacheflow %}" + text).render(Context(context))


def test_fragments_with_tags(server, namespace):
    with djangosite.caching(server, namespace, timeout=5) as cache:
        text = "{% cache 60 sidebar user tags=tags %}{{ shown }}{% endcache %}"
        assert render(text, user=1, tags=["user:1", "all"], shown="a<b") == "a&lt;b"
        found = render(text, user=1, tags=["user:1"], shown="other")
        assert found == "a&lt;b" and isinstance(found, SafeString)
        assert render(text, user=2, tags=["user:2", "all"], shown="two") == "two"
        assert cache.invalidate("user:1") == 1
        assert render(text, user=1, tags=["user:1", "all"], shown="new") == "new"
        assert render(text, user=2, tags=[], shown="other") == "two"
        assert cache.invalidate("all") == 2


def test_tags_of_a_fragment_as_text(server, namespace):
    with djangosite.caching(server, namespace, timeout=5) as cache:
        text = '{% cache None news tags="a b" using="default" %}{{ shown }}{% endcache %}'
        assert render(text, shown="1") == "1"
        assert cache.invalidate("b") == 1
        assert render(text, shown="2") == "2"


@pytest.mark.parametrize(
    "text",
    [
        "{% cache 60 %}{% endcache %}",
        '{% cache "soon" name %}{% endcache %}',
        '{% cache 60 name using="none" %}{% endcache %}',
        "{% cache 60 name tags=1 %}{% endcache %}",
        "{% cache missing name %}{% endcache %}",
    ],
)
def test_fragments_that_make_no_sense(server, namespace, text):
    with djangosite.caching(server, namespace), pytest.raises(TemplateSyntaxError):
        render(text)
