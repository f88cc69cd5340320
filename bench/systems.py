# SPDX-License-Identifier: Apache-2.0
"""The systems under test: how each is started, so that all of them are started in one way.

Every system listens on a loopback port of its own, has its files in a directory of its own, carries a mark
in its environment (process_tree.py), and is ended by end().  nginx and HAProxy stand in front of the raw
server on a Unix socket with connections kept alive, which is the work that Manta's proxy does.
"""

import http.client
import os
import pathlib
import shlex
import shutil
import socket
import subprocess
import time

from process_tree import MARK, ProcessTree

# The one place that knows how Manta is started for a bench: a C deployment that does nothing.
MANTA_COMMAND = ["{build}/src/cli/manta", "run", "{build}/examples/libnoop.so:noop", "--port", "{port}"]

START_LIMIT_S = 15
POLL_S = 0.0005
ANSWER_SIZE = 128  # bytes of the raw server's answer when Manta is not there to ask

NGINX = """
daemon off;
worker_processes 1;
{user}
pid {directory}/nginx.pid;
error_log {directory}/nginx-error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    keepalive_requests 1000000000;
    keepalive_timeout 300s;
    upstream raw {{
        server unix:{upstream};
        keepalive 512;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://raw;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
}}
"""

HAPROXY = """
global
    nbthread 1
    maxconn 8192
defaults
    mode http
    http-reuse always
    timeout connect 5s
    timeout client 300s
    timeout server 300s
frontend front
    bind 127.0.0.1:{port} backlog 4096
    default_backend raw
backend raw
    server raw unix@{upstream}
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class System:
    """One system under test; the subclasses say how it is started."""

    name = ""

    def __init__(self, build, directory, cpus):
        self.build = pathlib.Path(build).resolve()
        self.directory = pathlib.Path(directory) / self.name
        self.directory.mkdir(parents=True)
        self.cpus = cpus
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self.tree = ProcessTree(f"{self.name}-{os.getpid()}")
        self.answer_size = ANSWER_SIZE

    def missing(self):
        """What must be there and is not; empty when the system can run."""
        return [str(path) for path in self.needs() if not path.exists()]

    def start(self):
        raise NotImplementedError

    def needs(self):
        raise NotImplementedError

    def spawn(self, command):
        environment = {key: value for key, value in os.environ.items() if not key.startswith("MANTA_")}
        environment[MARK] = self.tree.mark.decode().split("=", 1)[1]
        # A runtime directory of its own keeps a running instance of the user out of the bench.
        environment["XDG_RUNTIME_DIR"] = environment["XDG_STATE_HOME"] = str(self.directory)
        with open(self.directory / "output.log", "ab") as log:
            process = subprocess.Popen([str(word) for word in command], cwd=self.directory, env=environment,
                                       stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                                       preexec_fn=lambda: os.sched_setaffinity(0, self.cpus))
        self.tree.roots.append(process.pid)
        return process

    def spawn_raw(self, *options):
        return self.spawn([self.build / "bench/peers/raw_epoll", "--answer-size", self.answer_size, *options])

    def wait_until_it_answers(self):
        """Returns at the first 200."""
        limit = time.monotonic() + START_LIMIT_S
        while time.monotonic() < limit:
            if ask(self.port) == 200:
                return
            if not self.tree.pids():
                break
            time.sleep(POLL_S)
        log = (self.directory / "output.log").read_text(errors="replace")
        raise RuntimeError(f"{self.name} gave no 200 on port {self.port}\n{log[-4000:]}")

    def end(self):
        self.tree.end()


class Raw(System):
    name = "raw"

    def needs(self):
        return [self.build / "bench/peers/raw_epoll"]

    def start(self):
        self.spawn_raw("--port", self.port)


class Nginx(System):
    name = "nginx"
    program = pathlib.Path(shutil.which("nginx") or "/usr/sbin/nginx")

    def needs(self):
        return [self.build / "bench/peers/raw_epoll", self.program]

    def start(self):
        upstream = self.directory / "raw.sock"
        self.spawn_raw("--unix", upstream)
        user = "user root;" if os.geteuid() == 0 else ""
        configuration = self.directory / "nginx.conf"
        configuration.write_text(NGINX.format(directory=self.directory, upstream=upstream, port=self.port, user=user))
        self.spawn([self.program, "-p", self.directory, "-c", configuration, "-e", self.directory / "nginx-error.log"])


class Haproxy(System):
    name = "haproxy"
    program = pathlib.Path(shutil.which("haproxy") or "/usr/sbin/haproxy")

    def needs(self):
        return [self.build / "bench/peers/raw_epoll", self.program]

    def start(self):
        upstream = self.directory / "raw.sock"
        self.spawn_raw("--unix", upstream)
        configuration = self.directory / "haproxy.cfg"
        configuration.write_text(HAPROXY.format(upstream=upstream, port=self.port))
        self.spawn([self.program, "-db", "-f", configuration])


class Manta(System):
    name = "manta"
    words = MANTA_COMMAND

    def command(self):
        return [word.format(build=self.build, port=self.port) for word in self.words]

    def needs(self):
        """The program, and the shared object in front of the application's name."""
        return [pathlib.Path(word.split(":")[0]) for word in self.command() if word.startswith(str(self.build))]

    def start(self):
        self.spawn(self.command())


SYSTEMS = {system.name: system for system in (Raw, Nginx, Haproxy, Manta)}


def add_manta_option(parser):
    parser.add_argument("--manta", metavar="COMMAND", type=use_manta_command,
                        help="command line to measure as Manta, with {build} and {port} "
                             f"(default: {' '.join(MANTA_COMMAND)})")


def use_manta_command(text):
    Manta.words = shlex.split(text)
    return Manta.words


def ask(port):
    """The status of one GET, or None when nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/")
        answer = connection.getresponse()
        answer.read()
        return answer.status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def answer_size_of(port):
    """Bytes of one whole answer, head and body, over a connection that stays open."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as stream:
        stream.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        head = b""
        while b"\r\n\r\n" not in head:
            part = stream.recv(65536)
            if not part:
                return len(head)
            head += part
        length = 0
        for line in head.split(b"\r\n\r\n")[0].split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        return head.index(b"\r\n\r\n") + 4 + length
