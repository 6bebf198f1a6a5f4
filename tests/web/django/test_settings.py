"""What the setting HEADGATE may say, what the checks say of it, and the list of routes."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from django.core.checks import CheckMessage, run_checks
from django.core.management import CommandError, call_command
from django.http import HttpRequest
from django.test import Client, override_settings

from headgate import AsyncLimiter, InvalidUse, LimitSyntaxError
from headgate.errors import HeadgateError
from headgate.rules import Rule
from headgate.web.django.conf import ProjectLimits
from headgate.web.django.routes import routes
from tests.web.django.conftest import Use


def checked(*, is_deployed: bool = False, **settings: Any) -> Sequence[CheckMessage]:
    with override_settings(**settings):
        return [
            message
            for message in run_checks(include_deployment_checks=is_deployed)
            if message.id is not None and message.id.startswith("headgate")
        ]


def ids(*, is_deployed: bool = False, **settings: Any) -> list[str | None]:
    return [message.id for message in checked(is_deployed=is_deployed, **settings)]


def tier(request: HttpRequest) -> str | None:
    return request.GET.get("tier")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"limit": ["5/minute"]}, "HEADGATE has no 'limit': did you mean 'limits'"),
        ({"colour": 1}, "HEADGATE has no 'colour'; it may have allow, "),
        (["5/minute"], "HEADGATE is a dict"),
        ({"rules": [{"limits": "5/minute", "pahts": ["/"]}]}, "a rule has no 'pahts': did you mean 'paths'"),
        ({"limits": ["5 per fortnight"]}, "fortnight"),
        ({"on_denied": "nowhere.at_all"}, "on_denied names 'nowhere.at_all', which cannot be imported"),
        ({"rules": [{"limits": "1/s", "tiers": {"a": "2/s"}, "tier": "tests.no"}]}, "tier names 'tests.no'"),
        ({"store": "redsi://localhost"}, "store URL redsi://... is not understood"),
    ],
)
def test_a_setting_that_is_not_understood_says_so_when_it_is_used_and_checked(given: Any, said: str) -> None:
    with pytest.raises(HeadgateError) as caught:
        _ = ProjectLimits(given).blocking
    assert said in str(caught.value)
    (message,) = checked(HEADGATE=given)
    assert message.id == "headgate.E001"
    assert message.is_serious()
    assert said in message.msg
    assert message.hint


def test_a_project_without_the_setting_has_no_limits() -> None:
    assert ProjectLimits({}).blocking.rules.all == ()
    assert ids() == []


def test_rules_may_be_dicts_whose_functions_are_named(use: Use) -> None:
    rule = {
        "limits": "1/minute",
        "name": "tiered",
        "tiers": {"pro": "3/minute"},
        "tier": f"{__name__}.tier",
        "cost": 1,
        "key": "ip",
    }
    use(rules=[rule])
    client = Client()
    assert [client.get("/?tier=pro").status_code for _ in range(4)] == [200, 200, 200, 429]


def test_a_limit_may_be_one_text() -> None:
    (rule,) = ProjectLimits({"limits": "5/minute"}).blocking.rules.all
    assert rule.is_default
    with pytest.raises(LimitSyntaxError):
        _ = ProjectLimits({"limits": ""}).blocking


def test_identity_may_have_options() -> None:
    limits = ProjectLimits({"identity": {"sources": ["user", f"{__name__}.tier", "ip"]}}).blocking
    assert limits.rules.identity.sources == ("user", tier, "ip")


def test_both_sides_have_one_store() -> None:
    limits = ProjectLimits({"limits": ["5/minute"]})
    assert limits.blocking.limiter.store is limits.awaiting.limiter.store
    assert limits.blocking is limits.blocking


def test_limits_without_the_middleware_are_warned_of() -> None:
    given = {"limits": ["5/minute"]}
    assert ids(HEADGATE=given, MIDDLEWARE=[]) == ["headgate.W002"]
    assert ids(HEADGATE={}, MIDDLEWARE=[]) == []
    for path in ("headgate.web.django.RateLimitMiddleware", "headgate.web.django.middleware.RateLimitMiddleware"):
        assert ids(HEADGATE=given, MIDDLEWARE=[path]) == []


@pytest.mark.parametrize("given", [{"identity": ("user", "ip")}, {"rules": [Rule("5/minute", key="user")]}])
def test_limits_by_user_without_authentication_are_warned_of(given: dict[str, Any]) -> None:
    ours = ["headgate.web.django.RateLimitMiddleware"]
    assert ids(HEADGATE=given, MIDDLEWARE=ours) == ["headgate.W003"]
    assert ids(HEADGATE=given) == []


def test_a_deployment_is_warned_of_memory_and_of_proxies() -> None:
    given = {"limits": ["5/minute"]}
    assert ids(HEADGATE=given) == []
    assert ids(HEADGATE=given, is_deployed=True) == ["headgate.W004"]
    shared = {**given, "store": "redis://localhost:6379/0"}
    assert ids(HEADGATE=shared, is_deployed=True) == []
    behind = {"SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https")}
    assert ids(HEADGATE=shared, is_deployed=True, **behind) == ["headgate.W005"]
    assert ids(HEADGATE={"limit": 1}, is_deployed=True) == ["headgate.E001"]


def test_rates_of_rest_framework_that_are_no_limits_are_errors() -> None:
    rest = {
        "DEFAULT_THROTTLE_CLASSES": ["headgate.web.django.drf.AnonRateThrottle"],
        "DEFAULT_THROTTLE_RATES": {"anon": "5/fortnight", "user": None},
    }
    (message,) = checked(REST_FRAMEWORK=rest)
    assert message.id == "headgate.E006"
    assert "fortnight" in message.msg
    rest["DEFAULT_THROTTLE_CLASSES"] = ["rest_framework.throttling.AnonRateThrottle"]
    assert ids(REST_FRAMEWORK=rest) == []


def listed(**options: Any) -> str:
    out = io.StringIO()
    call_command("headgate_limits", stdout=out, **options)
    return out.getvalue()


def test_the_command_lists_routes_and_limits(use: Use) -> None:
    use("7/minute", exempt=["/file/"])
    lines = {line.split()[0]: line for line in reversed(listed().splitlines())}
    assert lines["/"].split() == ["/", "any", "tests.web.django.urls.home", "default:", "7/minute"]
    assert lines["/limited/"].endswith("2/minute")
    assert lines["/health/"].endswith("exempt")
    assert lines["/health/class/"].endswith("exempt")
    assert lines["/file/"].endswith("exempt")
    assert lines["/users/<int:pk>/"].endswith("2/minute")
    assert lines["/api/anonymous/"].endswith("default: 7/minute; anon: 3/minute")
    assert lines["/api/own/"].endswith("Own: sliding-log 2/10s")
    methods = [line.split()[1:] for line in listed().splitlines() if line.startswith("/class/method/ ")]
    assert [(row[0], row[-1]) for row in methods] == [("GET", "2/minute"), ("POST", "1/minute"), ("PUT", "7/minute")]
    assert lines["/api/items/mine/"].endswith("2/minute")


def test_the_command_fails_if_it_is_strict_and_a_route_has_no_limit(use: Use) -> None:
    use()
    with pytest.raises(CommandError, match=r"\d+ of \d+ routes meet no limit"):
        listed(strict=True)
    use("7/minute")
    assert listed(strict=True)


def test_routes_are_listed_for_rules_that_are_async(use: Use) -> None:
    use(rules=[Rule(limiter=AsyncLimiter("1/minute"), name="all")])
    assert "all: 1/minute" in listed()


def test_patterns_of_paths_fit_templates(use: Use) -> None:
    use(rules=[Rule("9/minute", name="users", paths=["/users/{id}"])])
    (found,) = [entry for entry in _entries() if entry.path == "/users/<int:pk>/"]
    assert [rule.name for rule in found.rules] == ["users", ""]


def _entries() -> Any:
    from headgate.web.django.conf import project_limits

    limits = project_limits()
    assert list(limits.blocking.routes(None)) == list(limits.awaiting.routes(None))
    return routes(limits.blocking.rules)


def test_unknown_use_of_a_rule_is_refused() -> None:
    with pytest.raises(InvalidUse, match="HEADGATE has no"):
        ProjectLimits({"Limits": ["5/minute"]})


@pytest.mark.parametrize(
    ("library", "module", "said"),
    [
        ("django", "headgate.web.django", "Django is not installed: pip install 'headgate[django]'"),
        ("rest_framework", "headgate.web.django.drf", "REST framework is not installed: pip install 'headgate[drf]'"),
    ],
)
def test_a_missing_framework_says_what_to_install(library: str, module: str, said: str) -> None:
    program = f"import sys; sys.modules[{library!r}] = None; import {module}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert said in done.stderr
