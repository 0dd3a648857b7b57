"""Django's settings for its suite (see django-suite), as its own runtests.py has them where it matters."""

import os

URL = os.environ["CACHEFLOW_URL"]


def caches(**options):
    """CACHES with CacheFlow as every alias."""
    backend = {"BACKEND": "cacheflow.integrations.django.CacheFlowCache", "LOCATION": URL, "OPTIONS": options}
    return {"default": backend, "other": backend}


CACHES = caches()
SECRET_KEY = "for tests"
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
DATABASES = {
    name: {"ENGINE": "django.db.backends.sqlite3", "NAME": f"file:{name}?mode=memory&cache=shared"}
    for name in ("default", "other")
}
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sites",
    "django.contrib.sessions",
    "django.contrib.messages",
    "cacheflow.integrations.django",
    "cache",
    "sessions_tests",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
MIGRATION_MODULES = {"auth": None, "contenttypes": None, "sessions": None}
ROOT_URLCONF = "urls"
SITE_ID = 1
STATIC_URL = "static/"
LANGUAGE_CODE = "en"
USE_TZ = False
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
