"""`headgate doctor`, on each kind of store: all is well, or what is wrong, where, and what to do."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from headgate import MemoryStore
from headgate.cli.doctor import code_of, examined
from headgate.cli.findings import Finding
from headgate.errors import StoreOutage
from headgate.plans.postgres import VERSION, schema_text
from headgate.stores import ScannableStore
from headgate.stores.registry import open_store
from tests.cli.stored import in_terminal, limiter_of, told
from tests.docs.test_permissions import LISTED
from tests.nats_servers import own_nats
from tests.postgres_servers import own_postgres
from tests.servers import own_valkey


def examine(url: str, prefix: str = "headgate", **options: Any) -> dict[str, Finding]:
    """What is found, by what was looked at."""
    store = open_store(url, prefix=prefix, timeout=10, **options)
    assert isinstance(store, ScannableStore)
    try:
        return {finding.what: finding for finding in examined(store)}
    finally:
        store.close()


def test_a_store_that_is_well(url: str, prefix: str, capsys: pytest.CaptureFixture[str]) -> None:
    limiter_of(url, prefix).try_acquire("k")
    code, out, err = told(capsys, "doctor", "--store", url, "--store-prefix", prefix)
    assert err == ""
    assert code in (0, 4)  # a server's round trips may take long while others test
    for what in ("version", "deciding", "listing", "round trip", "clock"):
        assert any(f"  {what}" in line for line in out.splitlines()), what
    assert "fault" not in out
    assert "\x1b" not in out


def test_in_json(url: str, prefix: str, capsys: pytest.CaptureFixture[str]) -> None:
    limiter_of(url, prefix).try_acquire("k")
    code, out, _ = told(capsys, "doctor", "--store", url, "--store-prefix", prefix, "--json")
    found = json.loads(out)
    assert found["is_well"] is (code == 0)
    assert set(found["findings"][0]) == {"level", "what", "found", "remedy"}
    deciding = next(one for one in found["findings"] if one["what"] == "deciding")
    assert deciding["found"] == "all 6 algorithms decide, read and write"


def test_it_leaves_nothing_behind(url: str, prefix: str, capsys: pytest.CaptureFixture[str]) -> None:
    named = ("--store", url, "--store-prefix", prefix)
    told(capsys, "doctor", *named)
    assert "Nothing is owed" in told(capsys, "keys", *named)[1]


def test_nobody_there(capsys: pytest.CaptureFixture[str]) -> None:
    for url in (
        "redis://127.0.0.1:1",
        "postgresql://127.0.0.1:1/x",
        "nats://127.0.0.1:1",
        "redis+cluster://127.0.0.1:1",
    ):
        code, out, _ = told(capsys, "doctor", "--store", url)
        assert code == 1
        assert out.splitlines()[1].startswith("fault  reachable")
        assert "It does not work." in out


def test_memory_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("doctor", "top", "keys"):
        code, _, err = told(capsys, verb, "--store", "memory://")
        assert code == 2
        assert "a store in memory is in one process" in err


def test_a_kind_that_it_does_not_know_is_asked_to_decide() -> None:
    found = examined(MemoryStore())
    assert [one.what for one in found] == ["deciding", "listing", "round trip", "clock"]
    assert code_of(found) == 0


def levels(found: dict[str, Finding], *names: str) -> Sequence[str]:
    return [found[name].level for name in names]


def test_an_eviction_policy_that_would_forget_limits() -> None:
    with own_valkey() as server, server.admin() as admin:
        assert examine(server.url)["eviction"].level == "ok"
        admin.config_set("maxmemory-policy", "allkeys-lru")
        assert examine(server.url)["eviction"].level == "note"
        admin.config_set("maxmemory", "64mb")
        for policy in ("allkeys-lru", "volatile-ttl", "volatile-random"):
            admin.config_set("maxmemory-policy", policy)
            eviction = examine(server.url)["eviction"]
            assert eviction.level == "change"
            assert policy in eviction.found
            assert "noeviction" in eviction.remedy
        admin.config_set("maxmemory-policy", "noeviction")
        assert examine(server.url)["eviction"].level == "ok"


def test_memory_that_is_nearly_full_and_what_was_evicted() -> None:
    with own_valkey() as server, server.admin() as admin:
        for number in range(1_000):
            admin.set(f"filling:{number}", "x" * 10_000)
        used = int(admin.info("memory")["used_memory"])
        admin.config_set("maxmemory", str(int(used * 1.1)))
        assert examine(server.url)["memory"].level == "change"
        admin.config_set("maxmemory-policy", "allkeys-random")
        admin.config_set("maxmemory", str(used // 2))
        admin.set("one", "more")
        assert examine(server.url)["evicted"].level == "change"


def test_persistence_of_redis() -> None:
    with own_valkey() as server, server.admin() as admin:
        assert examine(server.url)["persistence"].level == "note"
        admin.config_set("appendonly", "yes")
        assert examine(server.url)["persistence"].level == "ok"


def test_a_replica_cannot_decide() -> None:
    with own_valkey() as primary, own_valkey() as replica, replica.admin() as admin:
        admin.replicaof("127.0.0.1", primary.port)
        found = examine(replica.url)
        assert found["role"].level == "fault"
        assert str(primary.port) in found["role"].remedy


def test_rights_that_are_missing_on_redis() -> None:
    with own_valkey() as server, server.admin() as admin:
        admin.execute_command("ACL", "SETUSER", "app", "on", ">secret", "~headgate:*", *LISTED)
        url = f"redis://app:secret@127.0.0.1:{server.port}/0"
        found = examine(url)
        settings = next(one for what, one in found.items() if what.startswith("settings"))
        assert settings.level == "note"
        assert "+info" in settings.found
        assert levels(found, "deciding", "listing") == ["ok", "note"]
        admin.execute_command("ACL", "SETUSER", "app", "-zadd")
        deciding = examine(url)["deciding"]
        assert deciding.level == "fault"
        assert "zadd" in deciding.found.lower()


def test_a_cluster_and_sentinels_name_their_servers(cluster_url: str, sentinel_url: str) -> None:
    found = examine(cluster_url)
    assert found["reachable"].found.startswith("3 servers: ")
    assert sum(what.startswith("version of ") for what in found) == 3
    assert [one.level for what, one in found.items() if what.startswith("cluster by ")] == ["ok"] * 3
    assert "primary, 1 replica connected" in examine(sentinel_url)["role"].found


def test_functions_are_made_by_whoever_may_create_in_the_schema_that_is_there() -> None:
    with own_postgres() as server, server.admin() as admin:
        admin.execute("create role owner login; create role other login; grant create on database postgres to other")
        admin.execute(schema_text().replace(f"_v{VERSION}", "_v1"))
        admin.execute("alter schema headgate owner to owner; alter table headgate.state owner to owner")
        admin.execute("grant usage on schema headgate to other")
        found = examine(server.url_of("other"))["schema"]
        assert found.level == "fault"
        assert f"version {VERSION} of its functions is not there, and this role may not make it" in found.found
        with pytest.raises(StoreOutage, match=f"version {VERSION} of the functions there, is missing"):
            limiter_of(server.url_of("other"), "headgate").try_acquire("k")
        assert "the first decision makes it" in examine(server.url_of("owner"))["schema"].found
        assert examine(server.url_of("owner"))["schema"].level == "ok"


def test_a_schema_that_is_not_there_and_may_not_be_made() -> None:
    with own_postgres() as server, server.admin() as admin:
        assert "the first decision makes it" in examine(server.url)["schema"].found
        admin.execute("drop schema if exists headgate cascade")
        admin.execute("create role app login")
        found = examine(server.url_of("app"))
        assert found["schema"].level == "fault"
        assert "headgate schema postgres" in found["schema"].remedy
        assert "deciding" not in found  # it was not tried
        limiter_of(server.url, "headgate").try_acquire("k")
        rights = examine(server.url_of("app"))["rights"]
        assert rights.level == "fault"
        assert "usage of the schema" in rights.found
        admin.execute("grant usage on schema headgate to app; grant select, insert on headgate.state to app")
        assert "update, delete on the table" in examine(server.url_of("app"))["rights"].found
        admin.execute("grant update, delete on headgate.state to app")
        found = examine(server.url_of("app"))
        assert levels(found, "schema", "rights", "deciding") == ["ok"] * 3
        assert "app" in found["reachable"].found
        admin.execute("alter table headgate.state set unlogged")
        assert examine(server.url)["persistence"].level in ("note", "change")


def test_a_bucket_in_memory_and_one_server() -> None:
    with own_nats() as server:
        found = examine(server.url, storage="memory")
        assert levels(found, "persistence", "replicas", "bucket") == ["note", "note", "ok"]
        assert "KV_headgate" in found["bucket"].found
    with own_nats(jetstream=False) as server:
        assert examine(server.url)["reachable"].level == "fault"


def test_a_folder_that_is_not_there_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = told(capsys, "doctor", "--store", f"sqlite:///{tmp_path}/nowhere/a.db")
    assert (code, out) == (2, "")
    assert f"there is no folder '{tmp_path}/nowhere'" in err


def test_a_file_that_is_damaged_or_not_there(tmp_path: Path) -> None:
    assert examine(f"sqlite:///{tmp_path}/a.db")["file"].level == "note"
    assert examine(f"sqlite:///{tmp_path}/a.db")["file"].level == "ok"  # the first examination made it
    (tmp_path / "b.db").write_text("no database" * 100)
    file = examine(f"sqlite:///{tmp_path}/b.db")["file"]
    assert file.level == "fault"
    assert "remove it" in file.remedy


def test_a_file_of_several_names(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    assert "name" not in {**examine(url), **examine(url)}
    (tmp_path / "b.db").hardlink_to(tmp_path / "a.db")
    name = examine(url)["name"]
    assert name.level == "fault"
    assert "2 names" in name.found


def test_a_folder_that_may_not_be_written() -> None:
    with tempfile.TemporaryDirectory(prefix="headgate-locked-") as folder:
        Path(folder).chmod(0o555)
        is_root = os.geteuid() == 0
        if is_root:
            os.seteuid(65534)
        try:
            found = examine(f"sqlite:///{folder}/a.db")
        finally:
            if is_root:
                os.seteuid(0)
    assert found["folder"].level == "fault"
    assert "cannot be written" in found["folder"].found


def test_in_a_terminal_levels_have_colours(tmp_path: Path) -> None:
    printed = in_terminal("doctor", "--store", f"sqlite:///{tmp_path}/a.db", columns=60)
    assert "\x1b[32mok" in printed
    (tmp_path / "b.db").write_text("no database" * 100)
    printed = in_terminal("doctor", "--store", f"sqlite:///{tmp_path}/b.db", columns=60)
    assert "\x1b[1;31mfault" in printed
