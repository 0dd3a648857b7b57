"""{% load cacheflow %}: Django's {% cache %} with tags.

{% cache 600 sidebar user.id tags=sidebar_tags %} … {% endcache %}
{% cache 600 sidebar user.id tags="user:1 shelf:3" using="pages" %} … {% endcache %}
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.core.cache import caches
from django.core.cache.utils import make_template_fragment_key
from django.template import Library, TemplateSyntaxError
from django.template.base import FilterExpression, NodeList, Parser, Token
from django.templatetags.cache import CacheNode

from ..backend import CacheFlowCache

register = Library()


class TaggedCacheNode(CacheNode):
    """A fragment, rendered by one process at a time. In a cache of another kind it is as Django's own."""

    def __init__(self, *args: Any, tags: FilterExpression | None) -> None:
        super().__init__(*args)
        self.tags = tags

    def render(self, context: Any) -> Any:
        """What is cached, or rendered and stored with its tags. In this thread, and never behind the answer
        (no grace, no early refresh): a context belongs to the request that made it."""
        alias = self.cache_name.resolve(context) if self.cache_name else _default_alias()
        cache = caches[alias] if isinstance(alias, str) and alias in caches.settings else None
        if not isinstance(cache, CacheFlowCache):
            return super().render(context)
        timeout = self.expire_time_var.resolve(context)
        if timeout is not None:
            try:
                timeout = int(timeout)
            except (TypeError, ValueError):
                raise TemplateSyntaxError(f'"cache" tag got a non-integer timeout value: {timeout!r}') from None
        key = make_template_fragment_key(self.fragment_name, [var.resolve(context) for var in self.vary_on])
        tags = _tag_names(self.tags.resolve(context)) if self.tags is not None else ()
        return cache.get_or_set(
            key, lambda: self.nodelist.render(context), timeout, tags=tags, grace=0, max_stale=0, beta=0
        )


def _default_alias() -> str:
    return "template_fragments" if "template_fragments" in caches.settings else "default"


def _tag_names(value: Any) -> tuple[str, ...]:
    """Tags in a text, parted by blanks, or in a list."""
    if isinstance(value, str):
        return tuple(str(part) for part in value.split())
    if isinstance(value, Iterable):
        return tuple(str(tag) for tag in value)
    raise TemplateSyntaxError(f'"cache" tag: tags={value!r} is neither a text nor a list')


@register.tag("cache")
def do_cache(parser: Parser, token: Token) -> TaggedCacheNode:
    """{% cache timeout name [vary …] [tags=…] [using=…] %} … {% endcache %}"""
    nodelist: NodeList = parser.parse(("endcache",))
    parser.delete_first_token()
    words = token.split_contents()
    named: dict[str, FilterExpression] = {}
    while len(words) > 3 and words[-1].startswith(("tags=", "using=")):
        name, _, text = words.pop().partition("=")
        named[name] = parser.compile_filter(text)
    if len(words) < 3:
        raise TemplateSyntaxError(f"{words[0]!r} tag requires at least 2 arguments.")
    return TaggedCacheNode(
        nodelist,
        parser.compile_filter(words[1]),
        words[2],
        [parser.compile_filter(word) for word in words[3:]],
        named.get("using"),
        tags=named.get("tags"),
    )
