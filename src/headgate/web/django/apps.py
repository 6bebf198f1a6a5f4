"""The Django app: it has no models; it brings the checks and the command `headgate_limits`."""

from __future__ import annotations

from django.apps import AppConfig
from django.core.checks import Tags, register


class HeadgateConfig(AppConfig):
    """`INSTALLED_APPS = [..., "headgate.web.django"]`"""

    name = "headgate.web.django"
    label = "headgate"
    verbose_name = "Rate limits"

    def ready(self) -> None:
        """Register the checks."""
        from headgate.web.django import checks

        register(checks.check_settings, Tags.security)
        register(checks.check_deployment, Tags.security, deploy=True)
