"""Where alerts arrive in tests, on loopback: a web hook, a mail server, a queue behind a topic."""

from __future__ import annotations

import asyncio
import email
import email.policy
import http.server
import json
import socketserver
import threading
from dataclasses import dataclass
from email.message import EmailMessage
from functools import partial
from types import TracebackType

import boto3
from aiosmtpd.smtp import SMTP, Envelope, Session
from typing_extensions import Self

from spotrunner.adapters.aws.session import Aws

# What makes the hook's address a secret.
TOKEN = "T0kenOfTheHook"


@dataclass(frozen=True, kw_only=True)
class Message:
    title: str
    body: str


class HookSink:
    """Takes Apprise's `json://` at `url`. `status` is what it answers; while it is held it does not
    answer at all."""

    def __init__(self) -> None:
        self.received: list[Message] = []
        self.status = 200
        self.released = threading.Event()
        self.released.set()
        self._server = _HookServer(self)
        self.port: int = self._server.server_address[1]
        self.url = f"json://127.0.0.1:{self.port}/{TOKEN}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def hold(self) -> None:
        self.released.clear()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _HookServer(socketserver.ThreadingTCPServer):
    """Not HTTPServer: that looks its own name up, which may hang where there is no DNS."""

    daemon_threads = True

    def __init__(self, sink: HookSink) -> None:
        super().__init__(("127.0.0.1", 0), _HookHandler)
        self.sink = sink

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that gave up waiting is part of the test."""


class _HookHandler(http.server.BaseHTTPRequestHandler):
    server: _HookServer

    def do_POST(self) -> None:
        sink = self.server.sink
        said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        sink.released.wait(60)
        if sink.status == 200 and self.path == f"/{TOKEN}":
            sink.received.append(Message(title=said["title"], body=said["message"]))
        self.send_response(sink.status)
        self.end_headers()
        self.wfile.write(f"no such hook as {TOKEN}".encode() if sink.status != 200 else b"")

    def log_message(self, format: str, *args: object) -> None:
        pass


class MailSink:
    """Takes e-mail at `url`, an address of Apprise's. `is_open` says whether it takes any."""

    def __init__(self) -> None:
        self.received: list[Message] = []
        self.is_open = True
        self._loop = asyncio.new_event_loop()
        self._server = self._loop.run_until_complete(
            # Its own name, which it would otherwise look up.
            self._loop.create_server(partial(SMTP, self, hostname="sink"), "127.0.0.1", 0)
        )
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.url = (
            f"mailto://127.0.0.1:{self.port}?smtp=127.0.0.1&mode=insecure"
            "&from=robot@example.org&to=alice@example.org"
        )
        self._thread = threading.Thread(target=self._loop.run_forever)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if not self.is_open:
            return "451 try again later"
        content = envelope.content
        assert isinstance(content, bytes)
        mail = email.message_from_bytes(content, policy=email.policy.default)
        assert isinstance(mail, EmailMessage)
        text = mail.get_body(("plain",))
        assert text is not None
        body = "\n".join(text.get_content().splitlines())
        self.received.append(Message(title=mail["subject"], body=body))
        return "250 taken"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        mine = asyncio.current_task()
        talks = [task for task in asyncio.all_tasks() if task is not mine]
        for talk in talks:
            talk.cancel()
        await asyncio.gather(*talks, return_exceptions=True)


class TopicSink:
    """A topic of SNS with a queue behind it, in an emulated account."""

    def __init__(self, aws: Aws, url: str, region: str) -> None:
        self._sns = aws.sns(region)
        self._sqs = boto3.client("sqs", region_name=region, endpoint_url=url)
        self.arn = self._sns.create_topic(Name="alerts")["TopicArn"]
        self._queue = self._sqs.create_queue(QueueName="alerts")["QueueUrl"]
        self._subscribe()

    def _subscribe(self) -> None:
        asked = self._sqs.get_queue_attributes(QueueUrl=self._queue, AttributeNames=["QueueArn"])
        queue_arn = asked["Attributes"]["QueueArn"]
        self._sns.subscribe(TopicArn=self.arn, Protocol="sqs", Endpoint=queue_arn)

    def close(self) -> None:
        """The topic is gone."""
        self._sns.delete_topic(TopicArn=self.arn)

    def open(self) -> None:
        """It is there again, under the same name."""
        assert self._sns.create_topic(Name="alerts")["TopicArn"] == self.arn
        self._subscribe()

    @property
    def received(self) -> list[Message]:
        """What came since the last look."""
        got = self._sqs.receive_message(QueueUrl=self._queue, MaxNumberOfMessages=10)
        found = []
        for each in got.get("Messages", []):
            said = json.loads(each["Body"])
            found.append(Message(title=said["Subject"], body=said["Message"]))
            self._sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=each["ReceiptHandle"])
        return found
