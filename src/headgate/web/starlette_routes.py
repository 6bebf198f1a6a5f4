"""The routes of an app of Starlette or FastAPI: the one that a request takes, and all of them.

Routes are asked by the framework's own matching, so that what is found is what is routed. Routers that FastAPI keeps
nested are looked into. This module imports no framework: routes say by their attributes what they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from headgate.web.exchange import Scope
from headgate.web.names import name_of, named


class Route(NamedTuple):
    """One route."""

    path: str
    """Its template, mounts and prefixes included."""
    methods: tuple[str, ...]
    """In alphabetical order, without HEAD where there is GET; none for whatever comes."""
    endpoint: Any
    """The function, class or app that answers."""
    dependant: Any
    """The dependencies of a route of FastAPI; None if there are none."""
    is_open: bool = True
    """Is it known how it answers? False for apps that are mounted and not looked into."""

    @property
    def name(self) -> str:
        """The name by which it has a share of its own."""
        return named(self.methods, self.path)


def methods_of(route: Any) -> tuple[str, ...]:
    """The methods of a route, as `Route.methods`."""
    methods = set(getattr(route, "methods", None) or ())
    if "GET" in methods:
        methods.discard("HEAD")
    return tuple(sorted(methods))


def find(routes: Iterable[Any], scope: Scope, prefix: str = "") -> Route | None:
    """The route that a request takes; None if there is none, or it cannot be told."""
    for route in _flat(routes):
        match, child_scope = route.matches(scope)
        if match.name != "FULL":  # of a path, but not of the method: its endpoint is not called
            continue
        inner = getattr(route, "starlette_route", None) or route
        nested = getattr(inner, "routes", None)
        if nested is None:
            return _route(route, prefix)
        return find(nested, {**scope, **child_scope}, prefix + getattr(inner, "path", ""))
    return None


def every(routes: Iterable[Any], prefix: str = "") -> Iterator[Route]:
    """All routes, in their order."""
    for route in _flat(routes):
        inner = getattr(route, "starlette_route", None) or route
        nested = getattr(inner, "routes", None)
        if nested is None:
            yield _route(route, prefix)
        elif nested:
            yield from every(nested, prefix + getattr(inner, "path", ""))
        else:
            yield Route(f"{prefix}{getattr(inner, 'path', '')}/*", (), getattr(inner, "app", inner), None, False)


def name_in(scope: Scope, first_app: Any, first_root: str | None) -> str:
    """The name of the route that a request has taken.

    :param first_app: the app that it met first, and
    :param first_root: where that is mounted; None if they are not known.
    """
    root: str = scope.get("root_path", "")
    before = scope.get("app_root_path", root) if first_root is None else first_root
    prefix = root[len(before) :]
    taken = taken_in(scope)
    template = getattr(taken, "path_format", None)  # older versions of Starlette do not say which route it is
    if first_app is not None and (prefix or template is None):
        # Mounts by their templates: whatever the request has put in for parameters.
        found = find(first_app.routes, {**scope, "root_path": before, "path_params": {}, "fastapi": {}})
        if found is not None:
            return found.name
    if template is None:
        endpoint = scope.get("endpoint")
        return f"{getattr(endpoint, '__module__', '?')}.{name_of(endpoint)}"
    of_mounts = set(scope.get("path_params") or ()) - set(getattr(taken, "param_convertors", ()))
    return named(methods_of(taken), ("/*" if prefix and of_mounts else prefix) + template)


def taken_in(scope: Scope) -> Any:
    """The route that a request has taken, as the framework says it; None where an older version does not."""
    taken = scope.get("route")
    context = (scope.get("fastapi") or {}).get("effective_route_context")
    return context if context is not None and taken is not None and context.original_route is taken else taken


def calls_of(dependant: Any) -> Iterator[Any]:
    """All dependencies of a route of FastAPI, those of dependencies included."""
    for inner in getattr(dependant, "dependencies", ()):
        yield inner.call
        yield from calls_of(inner)


def answering(endpoint: Any, method: str) -> Iterator[Callable[..., Any]]:
    """The functions that answer: an endpoint, and its method for this request if it is a class."""
    yield endpoint
    if isinstance(endpoint, type):
        handler = getattr(endpoint, method.lower(), None)
        if handler is None and method == "HEAD":
            handler = getattr(endpoint, "get", None)
        if handler is not None:
            yield handler


def _flat(routes: Iterable[Any]) -> Iterator[Any]:
    """Routes without the routers that FastAPI keeps nested: in their places, what is in them."""
    for route in routes:
        contexts = getattr(route, "effective_route_contexts", None)
        if contexts is None:
            yield route
        else:
            yield from contexts()


def _route(route: Any, prefix: str) -> Route:
    inner = getattr(route, "starlette_route", None) or route
    path: str = getattr(inner, "path_format", "") or getattr(inner, "path", "")
    endpoint = getattr(inner, "endpoint", None)
    return Route(
        prefix + path, methods_of(inner), inner if endpoint is None else endpoint, getattr(route, "dependant", None)
    )
