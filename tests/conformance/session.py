"""A session as an application has it: redis-py against both servers, RESP2 and RESP3, results compared."""
import redis

LARGE = bytes(range(256)) * 1000


def steps(client, text):
    """Names and results of one session; `text` tells whether replies are decoded."""
    yield "ping", client.ping()
    yield "set", client.set("name", "value")
    yield "get", client.get("name")
    yield "get none", client.get("nothing")
    yield "set nx", client.set("name", "other", nx=True)
    yield "set get", client.set("name", "next", get=True)
    yield "set ex", client.set("brief", "x", ex=100), client.ttl("brief")
    yield "mset", client.mset({f"k{n}": n for n in range(50)})
    yield "mget", client.mget([f"k{n}" for n in range(60)])
    yield "incr", [client.incr("n"), client.incrby("n", 10), client.decr("n"), client.incrbyfloat("n", 0.5)]
    yield "append", client.append("name", "-more"), client.strlen("name"), client.getrange("name", 0, 3)
    yield "setrange", client.setrange("name", 2, "XY"), client.get("name")
    yield "getex", client.getex("name", ex=100), client.getdel("name"), client.exists("name")
    if not text:
        yield "large", client.set("large", LARGE), client.get("large") == LARGE
    yield "rpush", client.rpush("list", *[f"element {n}" for n in range(300)])
    yield "lrange", client.lrange("list", 0, -1), client.lrange("list", 100, 110), client.lrange("list", -3, -1)
    yield "lpush", client.lpush("list", "first"), client.llen("list"), client.lindex("list", 150)
    yield "lset", client.lset("list", 5, "changed"), client.lrange("list", 4, 6)
    yield "linsert", client.linsert("list", "BEFORE", "changed", "inserted")
    yield "lrem", client.lrem("list", 0, "inserted"), client.ltrim("list", 0, 99), client.llen("list")
    yield "lpop", client.lpop("list"), client.rpop("list"), client.lpop("list", 3), client.lpop("nothing", 2)
    yield "lpos", client.lpos("list", "element 9"), client.lpos("list", "element 9", count=0)
    yield "lmove", client.lmove("list", "other", "LEFT", "RIGHT"), client.rpoplpush("list", "other")
    yield "lmpop", client.lmpop(2, "nothing", "other", direction="LEFT", count=5)
    yield "lcs", client.mset({"a": "ohmytext", "b": "mynewtext"}), client.lcs("a", "b"), client.lcs("a", "b", len=True)
    yield "scan_iter", sorted(client.scan_iter(count=7)), sorted(client.scan_iter(match="k1*"))
    yield "keys", sorted(client.keys("k*")), client.dbsize()
    yield "type", client.type("list"), client.type("a"), client.type("nothing")
    yield "expire", client.expire("a", 100), client.ttl("a"), client.persist("a"), client.ttl("a")
    yield "rename", client.rename("a", "c"), client.exists("a", "c"), client.copy("c", "d"), client.get("d")
    yield "object", client.object("encoding", "c"), client.object("encoding", "list")
    yield "delete", client.delete("c", "d", "nothing"), client.unlink("b")
    yield "config", client.config_get("maxmemory"), client.config_set("maxmemory", "0")
    yield "client", client.client_setname("me"), client.client_getname(), client.client_info()["name"]
    yield "info", client.info("server")["redis_version"], client.info("keyspace")["db0"]["keys"]
    yield "command", sorted(client.command_getkeys("MSET", "a", 1, "b", 2))
    yield "time", len(client.time())
    yield "errors", [error(client, *words) for words in (
        ("GET",), ("LPUSH", "k1", "x"), ("INCR", "list"), ("BOGUS", "x"), ("SET", "k", "v", "EX", "0"), ("LSET", "nothing", 0, "x"))]
    yield "pipeline", pipeline(client)
    yield "flush", client.flushall(), client.dbsize()


def error(client, *words):
    """The class and the text of the error that redis-py raises."""
    try:
        return client.execute_command(*words)
    except redis.RedisError as raised:
        return type(raised).__name__, str(raised)


def pipeline(client):
    """Replies of a pipeline of 600 commands, errors among them."""
    with client.pipeline(transaction=False) as pipe:
        for n in range(200):
            pipe.set(f"p{n}", "v" * n)
            pipe.get(f"p{n}")
            pipe.lpush("p5", n)
        return [str(reply) for reply in pipe.execute(raise_on_error=False)]


def heard(server, protocol, text):
    """All results of one session, whatever happens in it."""
    results = []
    client = redis.Redis(port=server.port, protocol=protocol, decode_responses=text)
    try:
        for result in steps(client, text):
            results.append(result)
    except Exception as raised:  # any failure of the client is a result to compare
        results.append(("raised", type(raised).__name__, str(raised)))
    finally:
        client.close()
    return results


def run(theirs, ours, tally):
    """Compares sessions over both protocols, decoded or not."""
    for protocol in (2, 3):
        for text in (False, True):
            expected, got = heard(theirs, protocol, text), heard(ours, protocol, text)
            assert expected[-1][0] == "flush", f"the session fails on redis itself: {expected[-1]}"
            where = f"redis-py RESP{protocol}{' decoded' if text else ''}"
            for result, other in zip(expected, got + [None] * len(expected)):
                tally.note(result == other, where, result[0], repr(result).encode(), repr(other).encode())
