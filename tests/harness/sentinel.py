"""A primary with its replicas, and the sentinels that watch them: a real arrangement on loopback.

Who is the primary is what the sentinels say. They look more often than they would in production
(SENTINEL DEBUG), else a failover that is ordered takes ten seconds until the old primary is a replica.
"""

from .resp import ReplyError, fields
from .server import Server, wait_for

NAME = "cacheflow"  # what the sentinels call the arrangement
LIMIT = 60.0  # seconds: a bound, not a measurement
PAUSE = 0.03
# Milliseconds between two looks. Four publish periods after its failover a primary is told whose
# replica it is now.
PERIODS = ("INFO-PERIOD", 200, "PING-PERIOD", 400, "PUBLISH-PERIOD", 200, "TILT-PERIOD", 1000)
WAITING = ("NOGOODSLAVE", "INPROG")  # a failover that is possible soon


class Watcher(Server):
    """A sentinel: the same binary, which keeps in its configuration what it learns. What a server has as
    its module's arguments, it has of what it watches: the port, the quorum, and when it is down."""

    def start(self):
        super().start()
        self("SENTINEL", "DEBUG", *PERIODS)
        return self

    def _config_lines(self):
        port, quorum, down_after = self.module_args
        return [
            "bind 127.0.0.1",
            f"sentinel monitor {NAME} 127.0.0.1 {port} {quorum}",
            f"sentinel down-after-milliseconds {NAME} {down_after}",
            f"sentinel failover-timeout {NAME} 10000",
        ]

    def primary_port(self):
        """The port of the primary, as it says."""
        return int(self("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)[1])

    def sees_all(self, replicas, sentinels):
        """Whether it knows of all of them, and nothing is down or failing over."""
        seen = [fields(self("SENTINEL", "MASTER", NAME)), *map(fields, self("SENTINEL", "REPLICAS", NAME))]
        return (
            [one["flags"] for one in seen] == [b"master"] + replicas * [b"slave"]
            and int(seen[0]["num-other-sentinels"]) == sentinels - 1
            and all(one["role-reported"] == one["flags"] for one in seen)
        )


class Sentinel:
    """`servers` are the primary, at first, and its replicas; `sentinels` watch them."""

    def __init__(self, fleet, replicas=2, sentinels=3, down_after=5000, args=(), **options):
        """down_after is in milliseconds; options are Fleet.start's."""
        self.fleet, options = fleet, {"name": "sentinel", **options}
        self.servers = [fleet.start(args, **options) for _ in range(1 + replicas)]
        first, *others = self.servers
        for replica in others:
            replica("REPLICAOF", "127.0.0.1", first.port)
            replica("CONFIG", "REWRITE")  # it is its configuration that the sentinels change
        for replica in others:
            replica.wait_replica_of(first)
        quorum = sentinels // 2 + 1
        self.sentinels = [
            fleet.start(
                ("--sentinel",),
                name="watcher",
                module=None,
                module_args=(first.port, quorum, down_after),
                kind=Watcher,
            )
            for _ in range(sentinels)
        ]
        self.wait_ok()

    def primary(self):
        """The server that the sentinels say is the primary; they must agree."""
        ports = {sentinel.primary_port() for sentinel in self.sentinels}
        assert len(ports) == 1, f"the sentinels differ: {ports}"
        return self._at(ports.pop())

    def replicas(self):
        """The others, dead or alive."""
        primary = self.primary()
        return [server for server in self.servers if server is not primary]

    def _at(self, port):
        return next(server for server in self.servers if server.port == port)

    def alive(self):
        """Whether all servers and sentinels run; a test may have killed one."""
        return all(
            server.running and server.process.poll() is None for server in self.servers + self.sentinels
        )

    def ok(self):
        """Whether the sentinels agree, and all that lives is a replica of the primary and linked."""
        ports = {sentinel.primary_port() for sentinel in self.sentinels}
        living = [server for server in self.servers if server.running]
        if len(ports) != 1 or self._at(*ports) not in living:
            return False
        primary = self._at(*ports)
        follows = [b"slave", b"127.0.0.1", primary.port, b"connected"]
        roles = [(server, server.ask("ROLE")) for server in living]
        linked = all(
            role[0] == b"master" if server is primary else role[:4] == follows for server, role in roles
        )
        # Of the dead the sentinels know more than is told here.
        whole = len(living) == len(self.servers)
        counts = len(self.servers) - 1, len(self.sentinels)
        return linked and not (whole and not all(one.sees_all(*counts) for one in self.sentinels))

    def wait_ok(self, seconds=LIMIT):
        """Wait until ok()."""
        wait_for(self._answered(self.ok), "the sentinels", seconds, PAUSE)

    @staticmethod
    def _answered(condition):
        """A condition that is not met while someone does not answer: a primary that is demoted drops
        its clients."""

        def asked():
            try:
                return condition()
            except (OSError, ReplyError):
                return False

        return asked

    def failover(self):
        """SENTINEL FAILOVER, until all are linked to the new primary, which is returned."""
        old, sentinel = self.primary(), self.sentinels[0]

        def begun():
            seen = fields(sentinel("SENTINEL", "MASTER", NAME))
            if int(seen["port"]) != old.port:
                return True
            # One that was accepted may end at once: no replica is known well enough yet.
            if b"failover_in_progress" not in seen["flags"]:
                try:
                    sentinel("SENTINEL", "FAILOVER", NAME)
                except ReplyError as error:
                    assert str(error).startswith(WAITING), error
            return False

        wait_for(begun, "the failover", LIMIT, PAUSE)
        return self.wait_replaced(old)

    def wait_replaced(self, old):
        """Wait until another is the primary and all is well again; it is returned."""

        def replaced():
            return all(sentinel.primary_port() != old.port for sentinel in self.sentinels)

        wait_for(replaced, "the failover", LIMIT, PAUSE)
        self.wait_ok()
        for server in self.servers:
            server.close_connections()  # who changes roles drops its clients
        return self.primary()

    def kill(self, server):
        """kill -9. Who killed the primary calls wait_replaced()."""
        server.kill9()

    def restart(self, server):
        """Start a server that was killed; the sentinels make it a replica, if it is none."""
        server.restart()
        self.wait_ok()

    def end(self):
        """Stop everything and forget it, the sentinels first."""
        for server in self.sentinels + self.servers:
            self.fleet.discard(server)
        self.servers = self.sentinels = []
