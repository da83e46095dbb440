"""
Listening sockets: bound before there is an event loop, shared with worker processes, closed without losses.

Several workers listen on one port by SO_REUSEPORT, each with sockets of its own among which the kernel
spreads new connections. Whoever else wants to share the port so, another server for instance, is found out
when it is bound, in nearly all cases, and for certain when it is first listened on.
"""

from __future__ import annotations

import errno
import socket
import struct

from solera_core.failures import Failure, Reason

BACKLOG = 1024

_SO_ATTACH_FILTER = 26
# Bytes before the number of connections that wait to be accepted in what TCP_INFO says of a listening
# socket (tcpi_unacked).
_WAITING_OFFSET = 24


def bind(host: str | None, port: int, copies: int = 1) -> list[list[socket.socket]]:
    """
    Bind ``copies`` sets of sockets to all addresses of ``host`` (None: every address of the machine).

    They share the port; with ``port`` 0 a free one is chosen. They do not listen yet: ``listen`` is next.
    Raises OSError when somebody else has the port, also if that one would share it. Two who bind it at the
    same moment may both have it, until one listens.
    """
    first = _bind_all(host, port, shared=False)
    if copies == 1:
        if port:  # no other can be given one that was free
            _keep([first])
        return [first]
    chosen = port_of(first)
    for one in first:  # it was bound without SO_REUSEPORT only to see that nobody is there
        one.close()
    sets = [_bind_all(host, chosen, shared=True) for _ in range(copies)]
    _keep(sets)
    return sets


def bind_or_fail(host: str | None, port: int, option: str, copies: int = 1) -> list[list[socket.socket]]:
    """Bind as ``bind`` does. Raises Failure (AddressUnavailable) that names the ``option`` of the port."""
    try:
        return bind(host, port, copies)
    except OSError as error:
        raise _unavailable(host, port, option, error) from error


def listen(sets: list[list[socket.socket]], backlog: int = BACKLOG) -> None:
    """
    Listen on all sets of sockets that ``bind`` gave.

    Raises OSError when somebody else listens at the port, also if that one would share it.
    """
    for sockets in sets:
        _allow_others(sockets, allowed=True)
    _listen_alone(sets[0], backlog)
    for sockets in sets[1:]:
        for one in sockets:
            one.listen(backlog)


def listen_or_fail(
    sets: list[list[socket.socket]], host: str | None, option: str, backlog: int = BACKLOG
) -> None:
    """Listen as ``listen`` does. Raises Failure (AddressUnavailable) that names the port's ``option``."""
    try:
        listen(sets, backlog)
    except OSError as error:
        raise _unavailable(host, port_of(sets[0]), option, error) from error


def stop_listening(sockets: list[socket.socket]) -> None:
    """Listen no more, but keep the port. Connections that wait are reset."""
    for one in sockets:
        one.shutdown(socket.SHUT_RD)


class GrpcHold:
    """
    Sockets that hold the port of gRPC, which binds and listens itself, in each worker.

    Raises Failure (AddressUnavailable) when somebody else has the port.
    """

    def __init__(self, host: str | None, port: int) -> None:
        self._host = host
        # Of two sets, so that they share the port, as gRPC's own sockets will.
        self._held, spare = bind_or_fail(host, port, "--grpc-port", copies=2)
        for one in spare:
            one.close()
        self.port = port_of(self._held)

    def claim(self) -> None:
        """
        See that nobody else listens, nor will; before gRPC does. Raises Failure (AddressUnavailable).

        These sockets listen meanwhile, which shows it, and let the kernel drop attempts to connect: whoever
        tries then tries again a second later. Where the kernel has no such filter, one or two connections
        may be made, and are reset by ``give``: hence no queue.
        """
        refuse_new(self._held)
        listen_or_fail([self._held], self._host, "--grpc-port", backlog=0)

    def give(self) -> None:
        """Leave all connections to gRPC, which listens now."""
        stop_listening(self._held)


def _unavailable(host: str | None, port: int, option: str, error: OSError) -> Failure:
    where = f"port {port}" if host is None else f"{host}:{port}"
    return Failure(
        Reason.ADDRESS_UNAVAILABLE,
        f"cannot listen on {where}: {error.strerror or error}; see {option} and --host.",
    )


def _keep(sets: list[list[socket.socket]]) -> None:
    """
    Have the kernel refuse the port to others until it is listened on.

    Whoever asks to share it by SO_REUSEPORT, as the same user, is found out by ``listen`` only.

    With SO_REUSEADDR, which is needed past the last server's connections in TIME_WAIT, any number of sockets
    may be bound to one address while none listens. Cleared afterwards it would be passed over: the kernel
    remembers of the port that all had it, until one listens. So the first set does, for a moment.
    """
    try:
        _listen_alone(sets[0], 1)
    except OSError:
        for sockets in sets:
            for one in sockets:
                one.close()
        raise
    stop_listening(sets[0])
    for sockets in sets:
        _allow_others(sockets, allowed=False)


def _listen_alone(sockets: list[socket.socket], backlog: int) -> None:
    """Listen without SO_REUSEPORT, which the kernel refuses where anybody listens; then allow it again."""
    for one in sockets:
        shared = one.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
        one.listen(backlog)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)


def _allow_others(sockets: list[socket.socket], *, allowed: bool) -> None:
    for one in sockets:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, allowed)


def port_of(sockets: list[socket.socket]) -> int:
    return int(sockets[0].getsockname()[1])


def refuse_new(sockets: list[socket.socket]) -> None:
    """
    Make the kernel drop attempts to connect, while connections that exist, or nearly do, live on.

    Closing a socket resets the connections that wait in its queue, whose clients may have sent a request.
    After this call that queue only empties, and then nobody is left to be reset: whoever comes now tries
    again and finds the port closed. Where the kernel has no such filter, nothing happens.
    """
    # A classic BPF program over the TCP header: SYN without ACK is dropped, all else is let through.
    program = (
        (0x30, 0, 0, 13),  # load the byte of the flags
        (0x54, 0, 0, 0x12),  # keep SYN and ACK
        (0x15, 0, 1, 0x02),  # SYN alone?
        (0x06, 0, 0, 0),  # drop
        (0x06, 0, 0, 0xFFFFFFFF),  # pass
    )
    code = b"".join(struct.pack("HBBI", *line) for line in program)
    for one in sockets:
        try:
            _attach(one, code, len(program))
        except OSError:
            continue


def waiting(sockets: list[socket.socket]) -> int:
    """Return how many connections wait to be accepted; 0 where the kernel does not say."""
    count = 0
    for one in sockets:
        try:
            info = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _WAITING_OFFSET + 4)
            count += struct.unpack_from("I", info, _WAITING_OFFSET)[0]
        except (OSError, struct.error):
            continue
    return count


def _attach(one: socket.socket, code: bytes, length: int) -> None:
    import ctypes

    buffer = ctypes.create_string_buffer(code, len(code))
    one.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", length, ctypes.addressof(buffer)))


def _bind_all(host: str | None, port: int, *, shared: bool) -> list[socket.socket]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    absent: OSError | None = None
    for family, kind, protocol, _, address in dict.fromkeys(found):
        try:
            one = socket.socket(family, kind, protocol)
        except OSError as error:  # a machine without IPv6
            absent = error
            continue
        try:
            _set_options(one, family, shared=shared)
            # With port 0 all addresses get the port that the first was given.
            one.bind(address if port or not sockets else (address[0], port_of(sockets), *address[2:]))
        except OSError as error:
            one.close()
            if error.errno == errno.EADDRNOTAVAIL and host is None:
                absent = error
                continue
            for other in sockets:
                other.close()
            raise
        sockets.append(one)
    if not sockets:
        raise absent or OSError(errno.EADDRNOTAVAIL, "there is no such address")
    return sockets


def _set_options(one: socket.socket, family: int, *, shared: bool) -> None:
    one.setblocking(False)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if family == socket.AF_INET6:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
