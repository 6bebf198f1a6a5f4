"""The settings of the project that the tests share."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

SECRET_KEY = "only for tests, and of no use to anybody"
DEBUG = False
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "tests.web.django.urls"
DATABASE = Path(tempfile.gettempdir()) / f"headgate-django-{os.getpid()}.sqlite3"
"""Made by the tests that need it, and removed by them."""
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": DATABASE}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
LANGUAGES = [("en", "English"), ("de", "German")]
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "rest_framework",
    "headgate.web.django",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "headgate.web.django.RateLimitMiddleware",
]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
REST_FRAMEWORK = {
    "DEFAULT_THROTTLE_RATES": {"anon": "3/min", "user": "5/min", "burst": "2/s", "exports": "1/hour", "writes": "2/h"},
    "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.SessionAuthentication"],
}
LOGGING = {"version": 1, "disable_existing_loggers": False, "loggers": {"django": {"level": "CRITICAL"}}}
