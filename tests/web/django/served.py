"""The project that the tests share, as real servers serve it."""

from __future__ import annotations

import os

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.web.django.settings"

from django.conf import settings

settings.HEADGATE = {"store": os.environ["REDIS_URL"], "prefix": os.environ["HEADGATE_PREFIX"]}
settings.DATABASES = {}

from django.core.asgi import get_asgi_application  # noqa: E402 - the settings are whole first
from django.core.wsgi import get_wsgi_application  # noqa: E402

application = get_wsgi_application()
asgi = get_asgi_application()
