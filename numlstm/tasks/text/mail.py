"""Emails in files: an .eml with one, an mbox with many, by the parser of the standard library."""

import email
import email.policy
import mailbox
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from html.parser import HTMLParser
from pathlib import Path

_LONGEST_LINE = 2**16
_HEADER = re.compile(rb"[!-9;-~]+:")


@dataclass(frozen=True)
class Message:
    """An email: its subject, and the text of its body."""

    subject: str
    body: str

    @property
    def text(self) -> str:
        """Return what is to be read of it."""
        return f"{self.subject} {self.body}".strip()


def read_messages(path: str | os.PathLike[str]) -> Iterator[Message]:
    """Yield the messages of an .eml file, or of an mbox.

    Raises
    ------
    OSError
        If there is no such file.
    ValueError
        If it does not begin as either does.
    """
    with Path(path).open("rb") as file:
        first = file.readline(_LONGEST_LINE)
        if not first.startswith(b"From "):
            if not _HEADER.match(first):
                raise ValueError(
                    f"{os.fspath(path)}: neither an email nor an mbox begins like that"
                )
            file.seek(0)
            yield parse_message(file.read())
            return
    box: mailbox.mbox = mailbox.mbox(path, create=False)
    try:
        for key in box.iterkeys():
            yield parse_message(box.get_bytes(key))
    finally:
        box.close()


def parse_message(data: bytes) -> Message:
    """Return the message that bytes hold; what cannot be decoded becomes U+FFFD."""
    message = email.message_from_bytes(data, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    try:
        subject = str(message["subject"] or "")
    except (ValueError, LookupError, IndexError, AttributeError):  # a header the parser fails on
        subject = ""
    return Message(" ".join(subject.split()), _body(message))


def _body(message: EmailMessage) -> str:
    part = message.get_body(("plain", "html"))
    if part is None:
        return ""
    try:
        text = str(part.get_content())
    except (LookupError, KeyError, ValueError):  # an unknown charset, or one that is not true
        payload = part.get_payload(decode=True)
        text = payload.decode("utf-8", "replace") if isinstance(payload, bytes) else ""
    text = text.encode("utf-8", "replace").decode("utf-8")  # no half of a surrogate pair
    return _text_of_html(text) if part.get_content_subtype() == "html" else text


class _TextOfHtml(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._hidden += tag in ("script", "style")
        self.texts.append(" " if tag in ("br", "p", "div", "tr", "td", "li") else "")

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("script", "style") and self._hidden > 0

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.texts.append(data)


def _text_of_html(html: str) -> str:
    parser = _TextOfHtml()
    parser.feed(html)
    parser.close()
    return "".join(parser.texts)
