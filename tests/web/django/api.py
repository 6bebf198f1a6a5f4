"""The part of the project that REST framework serves."""

from __future__ import annotations

from typing import Any, ClassVar

from django.urls import path
from django.utils.decorators import method_decorator
from rest_framework.authentication import BaseAuthentication
from rest_framework.decorators import action, api_view, throttle_classes
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.urlpatterns import format_suffix_patterns
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSet

from headgate.rules import Rule
from headgate.web.django import limit
from headgate.web.django.drf import AnonRateThrottle, HeadgateThrottle, ScopedRateThrottle, UserRateThrottle

# mypy: disable-error-code="misc, untyped-decorator"
# REST framework has no types.


class Caller:
    """A user whom a token names."""

    is_authenticated = True

    def __init__(self, pk: str) -> None:
        self.pk = pk


class Token(BaseAuthentication):
    """`Authorization: Token 42` is user 42: nobody knows it before the view does."""

    def authenticate(self, request: Request) -> tuple[Caller, None] | None:
        name = request.headers.get("Authorization", "")
        return (Caller(name.removeprefix("Token ")), None) if name else None


class Plain(APIView):
    authentication_classes: ClassVar = [Token]

    def get(self, request: Request) -> Response:
        return Response({"user": str(request.user)})


class Anonymous(Plain):
    throttle_classes: ClassVar = [AnonRateThrottle]


class Users(Plain):
    throttle_classes: ClassVar = [UserRateThrottle]


class Burst(UserRateThrottle):
    scope = "burst"


class Several(Plain):
    throttle_classes: ClassVar = [UserRateThrottle, Burst, AnonRateThrottle]


class Own(HeadgateThrottle):
    rate = "sliding-log 2/10s"


class OwnRate(Plain):
    throttle_classes: ClassVar = [Own]


class Closed(HeadgateThrottle):
    rule = Rule("5/minute", name="closed", on_outage="closed")


class ClosedView(Plain):
    throttle_classes: ClassVar = [Closed]


class Failing(HeadgateThrottle):
    rule = Rule("1/minute", name="failing", charge_when=lambda response: response.status_code >= 400)


class FailingView(Plain):
    throttle_classes: ClassVar = [Failing]


class Nothing(HeadgateThrottle):
    pass


class NothingView(Plain):
    throttle_classes: ClassVar = [Nothing]


class Items(ViewSet):
    authentication_classes: ClassVar = [Token]
    throttle_classes: ClassVar = [ScopedRateThrottle]
    throttle_scope: ClassVar[Any] = {"create": "writes"}

    def list(self, request: Request, format: str | None = None) -> Response:  # noqa: A002 - REST framework's name
        return Response([])

    def create(self, request: Request) -> Response:
        return Response(status=201)

    @action(detail=False, throttle_scope="exports")
    def export(self, request: Request) -> Response:
        return Response("all")

    @action(detail=False)
    @method_decorator(limit("2/minute", key="user"))
    def mine(self, request: Request) -> Response:
        return Response("mine")


@api_view(["GET"])
@throttle_classes([Own])
def function(request: Request) -> Response:
    return Response("function")


@api_view(["GET"])
@limit("1/minute")
def limited_function(request: Request) -> Response:
    return Response("function")


router = SimpleRouter()
router.register("items", Items, basename="item")

api_patterns = [
    path("anonymous/", Anonymous.as_view()),
    path("users/", Users.as_view()),
    path("several/", Several.as_view()),
    path("own/", OwnRate.as_view()),
    path("closed/", ClosedView.as_view()),
    path("failing/", FailingView.as_view()),
    path("nothing/", NothingView.as_view()),
    path("function/", function),
    path("limited/", limited_function),
    *format_suffix_patterns([path("formats/", limited_function, name="formats")]),
    *router.urls,
]
