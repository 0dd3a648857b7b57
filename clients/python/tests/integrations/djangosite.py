"""Django, set up once in this process, and CACHES of a test's own."""

from contextlib import contextmanager

import django
from conftest import url_of
from django.conf import settings
from django.core.cache import caches
from django.test import override_settings

BACKEND = "cacheflow.integrations.django.CacheFlowCache"

if not settings.configured:
    settings.configure(
        SECRET_KEY="for tests",
        INSTALLED_APPS=["django.contrib.sessions", "cacheflow.integrations.django"],
        SESSION_ENGINE="django.contrib.sessions.backends.cache",
        TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}],
        ALLOWED_HOSTS=["testserver"],
        ROOT_URLCONF=__name__,
    )
    django.setup()

urlpatterns = []


@contextmanager
def caching(server, namespace, more=(), **options):
    """The default cache, on a server; `more`: settings beside OPTIONS."""
    url = server if isinstance(server, str) else url_of(server)
    setting = {"BACKEND": BACKEND, "LOCATION": url, "OPTIONS": {"namespace": namespace, **options}, **dict(more)}
    with override_settings(CACHES={"default": setting}):
        cache = caches["default"]
        yield cache
        cache.client.close()
