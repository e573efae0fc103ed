"""Tries to reach others by sockets."""

import os
import select
import socket
import subprocess

from tests.confinement.scene import Harm, Scene, attempt


def arrived(name: str) -> Harm:
    """Return whether anybody has reached a socket of the scene."""

    def harm(scene: Scene) -> bool:
        return bool(select.select([getattr(scene, name)], [], [], 0)[0])

    return harm


@attempt(arrived("tcp"))
def connect_by_tcp(scene: Scene) -> None:
    socket.create_connection(scene.tcp_address)


@attempt(arrived("tcp"))
def connect_by_tcp_through_ipv6(scene: Scene) -> None:
    with socket.socket(socket.AF_INET6) as mine:
        mine.connect((f"::ffff:{scene.tcp_address[0]}", scene.tcp_address[1]))


@attempt(arrived("tcp"))
def connect_by_sending(scene: Scene) -> None:
    with socket.socket() as mine:
        mine.sendto(b"x", 0x20000000, scene.tcp_address)


@attempt(arrived("tcp"))
def connect_by_sending_a_message(scene: Scene) -> None:
    with socket.socket() as mine:
        mine.sendmsg([b"x"], [], 0x20000000, scene.tcp_address)


@attempt(arrived("tcp"))
def connect_by_a_helper_program(scene: Scene) -> None:
    host, port = scene.tcp_address
    script = f"exec 3<>/dev/tcp/{host}/{port}"
    subprocess.run(["bash", "-c", script], check=True, stderr=subprocess.DEVNULL)


@attempt(arrived("udp"))
def send_by_udp(scene: Scene) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mine:
        mine.sendto(b"x", scene.udp.getsockname())


@attempt(arrived("stream"))
def connect_to_the_socket_of_the_service(scene: Scene) -> None:
    with socket.socket(socket.AF_UNIX) as mine:
        mine.connect(str(scene.stream_path))


@attempt(arrived("datagrams"))
def send_to_a_socket_by_its_path(scene: Scene) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as mine:
        mine.sendto(b"x", str(scene.datagram_path))


@attempt(arrived("datagrams"))
def send_to_a_socket_from_a_pair(scene: Scene) -> None:
    mine, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    mine.sendmsg([b"x"], [], 0, str(scene.datagram_path))


@attempt(arrived("named"))
def connect_to_an_abstract_socket(scene: Scene) -> None:
    with socket.socket(socket.AF_UNIX) as mine:
        mine.connect(scene.abstract)


@attempt()
def listen_on_another_port(scene: Scene) -> None:
    with socket.socket() as mine:
        mine.bind(("127.0.0.1", int(os.environ["FREE_PORT"])))


@attempt()
def talk_to_the_kernel_by_netlink(scene: Scene) -> None:
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close()  # type: ignore[attr-defined,unused-ignore]
