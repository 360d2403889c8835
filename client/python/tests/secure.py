"""Who is let in, and who is not.   secure.py SECRETS (JSON: addresses, dcs, pki, operatorKey, firebreak, canary,
commonName, examples)

The nodes take no connection without TLS, and nobody without a credential.
"""

import asyncio
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import firebreak
from firebreak import Client, Code, Config, Deadline, Edit, From, Message, Tenant

SECRETS = json.loads(sys.argv[1])
ADDRESSES, PKI = SECRETS["addresses"], pathlib.Path(SECRETS["pki"])
CA = PKI / "ca.pem"
RUN = f"{time.time_ns():x}"
TENANT = f"py{RUN}"
# How long what is told to all nodes may take.
LIMIT = 60


def room(name):
    return f"tenants/{TENANT}/conversations/{name}"


def command(*arguments):
    """The built command, as an operator."""
    env = {**os.environ, "FIREBREAK_API_KEY": SECRETS["operatorKey"], "FIREBREAK_CA": str(CA)}
    env["FIREBREAK_TARGET"] = ",".join(ADDRESSES)
    said = subprocess.run([SECRETS["firebreak"], *arguments], capture_output=True, text=True, env=env, timeout=LIMIT)
    assert said.returncode == 0, f"{arguments}: {said.stdout}{said.stderr}"
    return said.stdout.strip()


async def refused(call, reason, code, kind=firebreak.Refused):
    try:
        await call
    except kind as error:
        assert (error.reason, error.code) == (reason, code), f"{error.reason} instead of {reason}: {error}"
        assert not error.retryable and not error.outcome_unknown, error
        return error
    raise AssertionError(f"nothing was refused with {reason}")


async def until_all(api_key, reason):
    """Until every node says this to a key, or lets it in where that is empty."""
    for address in ADDRESSES:
        async with Client([address], ca=CA, api_key=api_key, discover=False) as client:
            until = asyncio.get_running_loop().time() + LIMIT
            said = None
            while said != reason:
                assert asyncio.get_running_loop().time() < until, f"{address} says {said}, not {reason}"
                try:
                    await client.list_conversations(TENANT)
                    said = ""
                except firebreak.Refused as error:
                    said = error.reason


async def known(key):
    await until_all(key, "")


async def kept_out(key):
    say = lambda client: client.append(room("out"), Message.text("ann", "x"))  # noqa: E731
    wrong = f"fbk_{'0' * 12}_{'0' * 64}"
    for options, reason, help in [
        ({}, "TLS_REQUIRED", "ca="),
        ({"api_key": key}, "TLS_REQUIRED", "ca="),
        ({"ca": CA}, "CREDENTIALS_MISSING", "api_key="),
        ({"ca": CA, "api_key": wrong}, "CREDENTIALS_INVALID", ""),
        ({"ca": CA, "api_key": "a.b.c"}, "CREDENTIALS_INVALID", ""),
        # A client's certificate says who it is, and opens nothing.
        ({"ca": CA, "cert": PKI / "client-app.pem", "cert_key": PKI / "client-app.key"}, "CREDENTIALS_MISSING", ""),
    ]:
        async with Client(ADDRESSES, **options) as client:
            error = await refused(say(client), reason, Code.UNAUTHENTICATED)
            assert help in str(error) and "0000" not in str(error), error
            await refused(client.tail(room("out"), From.seq(1)).next(), reason, Code.UNAUTHENTICATED)
            # None of this was tried again.
            assert client.stats().retries == 0, (reason, client.stats())
            follow = client.follow()
            follow.add([room("out")])
            await refused(follow.next(), reason, Code.UNAUTHENTICATED)
            try:
                await client.append_stream().send(room("out"), Message.text("ann", "x"))
                raise AssertionError("a stream let it in")
            except firebreak.Refused as refusal:
                assert refusal.reason == reason, refusal
            assert not any(node.lost for node in client.nodes()), (reason, client.nodes())


async def forbidden(client):
    other = f"tenants/other{RUN}/conversations/c"
    denied = Code.PERMISSION_DENIED
    await refused(client.append(other, Message.text("ann", "x")), "TENANT_FORBIDDEN", denied)
    error = await refused(client.get_tenant(TENANT), "ROLE_MISSING", denied)
    assert "viewer" in error.metadata["needed"], error.metadata
    # An item of a stream is refused by itself.
    async with client.append_stream() as stream:
        await refused(stream.send(other, Message.text("ann", "x")), "TENANT_FORBIDDEN", denied)
        assert (await stream.send(room("in"), Message.text("ann", "streamed"))).seq == 2


async def let_in(key):
    async with Client(ADDRESSES[:1], ca=CA, api_key=f" {key}\n") as client:
        tail, follow = client.tail(room("in"), From.seq(1)), client.follow()
        follow.add_from([(room("in"), 1)])
        assert (await client.append(room("in"), Message.text("ann", "with a key"))).seq == 1
        await forbidden(client)
        await client.edit(room("in"), 1, Edit.text("edited"))
        for following in (tail, follow):
            seqs = []
            while len(seqs) < 2:
                event = await following.next()
                seqs += [] if event.message is None else [event.message.seq]
            assert seqs == [1, 2]
            following.close()
        changes = client.changes(TENANT)
        seqs = set()
        while seqs != {1, 2}:
            seqs |= {change.message.seq for change in await changes.next()}
        # The others are reached in the same way as the one that it was told.
        while len(client.nodes()) < len(ADDRESSES) or any(node.lost for node in client.nodes()):
            await asyncio.sleep(0.01)
        assert {node.dc for node in client.nodes()} == set(SECRETS["dcs"])
        assert client.stats().failovers == 0
    for address in ADDRESSES:
        async with Client([address], ca=CA.read_bytes(), api_key=key, discover=False) as client:
            assert (await client.list(room("in"))).last_seq == 2


async def operator(_):
    """An operator's certificate opens what no role of a tenant's key does."""
    own = {"cert": PKI / "operator-ann.pem", "cert_key": (PKI / "operator-ann.key").read_bytes()}
    async with Client(ADDRESSES, ca=CA, **own) as client:
        await client.create_tenant(f"op{RUN}", Tenant(display_name="Acme"))
        assert (await client.get_tenant(f"op{RUN}")).display_name == "Acme"
        await refused(client.append(room("op"), Message.text("ann", "x")), "ROLE_MISSING", Code.PERMISSION_DENIED)


async def strangers(key):
    """Nodes that another authority has certified hear nothing, the key least of all."""
    with tempfile.TemporaryDirectory() as other:
        command("cert", "ca", "--dir", other)
        async with Client(ADDRESSES, ca=pathlib.Path(other) / "ca.pem", api_key=key, deadline=0.5) as client:
            try:
                await client.append(room("in"), Message.text("ann", "x"))
                raise AssertionError("a node was trusted that nobody has certified")
            except Deadline as error:
                assert error.retryable and not error.outcome_unknown and "ertificate" in str(error), error


async def badly_set_up(key):
    pem = CA.read_bytes()
    for options in [
        {"ca": PKI / "none.pem"},
        {"ca": PKI / "ca.key"},
        {"ca": b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"},
        {"ca": pem, "cert": PKI / "client-app.pem"},
        {"ca": pem, "cert": PKI / "client-app.key", "cert_key": PKI / "client-app.key"},
        {"cert": PKI / "client-app.pem", "cert_key": PKI / "client-app.key"},
        {"ca": pem, "api_key": f"{key}\n{key}"},
    ]:
        try:
            Client(ADDRESSES, **options)
        except Config as error:
            assert key not in str(error), "an error tells the key"
            continue
        raise AssertionError(f"{list(options)} were taken")


async def revoked(key):
    async with Client(ADDRESSES, ca=CA, api_key=key) as client:
        tail, follow, changes = client.tail(room("in"), From.seq(1)), client.follow(), client.changes(TENANT)
        follow.add([room("in")])
        while (await tail.next()).caught_up is None:
            pass
        while not (await follow.next()).caught_up:
            pass
        await changes.next()
        command("key", "revoke", key.split("_")[1])
        await until_all(key, "CREDENTIALS_REVOKED")
        # Streams that it opened end, and nothing is opened any more.
        for following in (tail, follow):
            await refused(drain(following), "CREDENTIALS_REVOKED", Code.UNAUTHENTICATED)
            assert await following.next() is None
        for call in (client.append(room("in"), Message.text("ann", "x")), changes.poll(), client.list(room("in"))):
            await refused(call, "CREDENTIALS_REVOKED", Code.UNAUTHENTICATED)


async def drain(following):
    async for _ in following:
        pass


async def canary(key):
    """The clients of drills are let in by the same variables as the command."""
    script = pathlib.Path(SECRETS["canary"])
    with tempfile.TemporaryDirectory() as folder:
        plan = pathlib.Path(folder) / "plan.json"
        senders = [{"name": "python-1", "addresses": ",".join(ADDRESSES), "conversations": [room("canary")]}]
        examples = pathlib.Path(SECRETS["examples"])
        options = json.loads((examples / "channel_options.json").read_text())
        config = {"options": options, "service_config": (examples / "service_config.json").read_text()}
        plan.write_text(json.dumps({"senders": senders, "pause_ms": 10, "deadline_ms": 1_000, **config}))
        (pathlib.Path(folder) / "key").write_text(f"{key}\n")
        env = {**os.environ, "FIREBREAK_CA": str(CA), "FIREBREAK_API_KEY_FILE": f"{folder}/key"}
        pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
        # By the one host that all have, and by a name that all have.
        for own, seqs in [({}, ["1", "2", "3"]), ({"FIREBREAK_TLS_NAME": SECRETS["commonName"]}, None)]:
            process = await asyncio.create_subprocess_exec(sys.executable, script, plan, env={**env, **own}, **pipes)
            lines = [(await process.stdout.readline()).decode().split("\t") for _ in range(3)]
            process.stdin.close()
            assert await process.wait() == 0
            assert all(line[5] != "0" for line in lines), lines
            assert seqs is None or [line[5] for line in lines] == seqs, lines
        # A name that none has.
        env["FIREBREAK_TLS_NAME"] = "none.example"
        process = await asyncio.create_subprocess_exec(sys.executable, script, plan, env=env, **pipes)
        line = (await process.stdout.readline()).decode()
        process.stdin.close()
        assert await process.wait() == 0 and line.split("\t")[5] == "0", line


async def main():
    command("cert", "client", "--dir", str(PKI), "--name", "app")
    command("cert", "client", "--dir", str(PKI), "--name", "ann", "--operator")
    key = command("key", "create", "--label", "py", "--tenant", TENANT, "--role", "writer")
    parts = [kept_out, known, let_in, operator, strangers, badly_set_up, canary, revoked]
    for part in parts:
        try:
            await asyncio.wait_for(part(key), 60)
        except BaseException as error:
            raise RuntimeError(f"{part.__name__} failed: {error!r}") from error
    print(f"{len(parts)} parts")


asyncio.run(main())
