"""Throttles that the settings name: REST framework imports them itself, whatever a project imports first."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

import pytest

PROJECT: Final = """
import django
from django.conf import settings
from django.http import HttpRequest

settings.configure(
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["rest_framework"],
    REST_FRAMEWORK={
        "DEFAULT_AUTHENTICATION_CLASSES": [],
        "DEFAULT_PERMISSION_CLASSES": [],
        "UNAUTHENTICATED_USER": None,
        "DEFAULT_THROTTLE_CLASSES": ["headgate.web.django.drf.AnonRateThrottle"],
        "DEFAULT_THROTTLE_RATES": {"anon": "2/hour"},
    },
)
django.setup()
import FIRST
from django.test import Client
from django.urls import path
from rest_framework.response import Response
from rest_framework.views import APIView


class View(APIView):
    def get(self, request):
        return Response({})


urlpatterns = [path("", View.as_view())]
print([Client().get("/").status_code for _ in range(3)])
"""


@pytest.mark.parametrize(
    "first",
    ["rest_framework.views", "rest_framework.decorators", "headgate.web.django.drf", "rest_framework.throttling"],
)
def test_a_project_starts_whatever_it_imports_first(first: str) -> None:
    program = PROJECT.replace("FIRST", first)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "[200, 200, 429]\n", done.stderr
