"""A channel over a topic of SNS: e-mail, SMS, queues, whatever has subscribed to it."""

from __future__ import annotations

from spotrunner.adapters.aws.errors import by_meaning
from spotrunner.adapters.aws.session import Aws
from spotrunner.core.alert import Alert, subject, text
from spotrunner.ports import PortError, Undeliverable

# SNS's limit on what becomes the subject of an e-mail: ASCII, one line.
LONGEST_SUBJECT = 100


class TopicChannel:
    """The topic's region is the one that its ARN names. Safe to use from several threads."""

    def __init__(self, aws: Aws, arn: str) -> None:
        self._sns = aws.sns(arn.split(":")[3])
        self._arn = arn

    def send(self, alert: Alert) -> None:
        """Raises Undeliverable."""
        title = subject(alert).encode("ascii", "replace").decode()[:LONGEST_SUBJECT]
        try:
            with by_meaning():
                self._sns.publish(TopicArn=self._arn, Subject=title, Message=text(alert))
        except PortError as error:
            raise Undeliverable(str(error)) from error
