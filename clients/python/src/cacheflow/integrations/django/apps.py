"""The application, for its template tags."""

from __future__ import annotations

from django.apps import AppConfig


class CacheFlowConfig(AppConfig):
    """What INSTALLED_APPS finds."""

    name = "cacheflow.integrations.django"
    label = "cacheflow"
    verbose_name = "CacheFlow"
