"""Emails in files: what is read of them, and what is refused."""

import mailbox
from email.message import EmailMessage

import pytest

import numlstm
from numlstm.tasks.text.mail import parse_message, read_messages

SPAM = "WINNER! You have won a 1000 prize. Call 09061701461 now to claim it."
HAM = "Are you coming to the party tonight? We will be there at 8."


def message(subject="Hello", body=HAM, **options):
    mail = EmailMessage()
    mail["From"], mail["Subject"] = "a@example.org", subject
    if body is not None:
        mail.set_content(body, **options)
    return mail


def html(text):
    mail = EmailMessage()
    mail["Subject"] = "Hello"
    mail.set_content(
        f"<html><style>p {{}}</style><p>{text}<br>x &amp; y</p></html>", subtype="html"
    )
    return mail


def attached():
    mail = message(body=None)
    mail.add_attachment(b"\x00\x01", maintype="application", subtype="octet-stream")
    return mail


def multipart():
    mail = message(body="the plain one")
    mail.add_alternative("<p>the other one</p>", subtype="html")
    return mail


def wrong_charset(name):
    data = message(body="caf\u00e9", charset="latin-1", cte="8bit").as_bytes()
    return data.replace(b"iso-8859-1", name)


BODIES = {
    "plain": (message().as_bytes(), HAM),
    "base64": (message(body="caf\u00e9 " * 30, cte="base64").as_bytes(), "caf\u00e9 caf\u00e9"),
    "html": (html("some text").as_bytes(), "some text x & y"),
    "multipart": (multipart().as_bytes(), "the plain one"),
    "attachment only": (attached().as_bytes(), ""),
    "no body": (b"Subject: Hello\n\n", ""),
    "an unknown charset": (wrong_charset(b"x-nonsense"), "caf"),
    "a charset that is not true": (wrong_charset(b"utf-8"), "caf\ufffd"),
    "Windows line ends": (message().as_bytes().replace(b"\n", b"\r\n"), HAM),
}


@pytest.mark.parametrize("name", BODIES)
def test_what_is_read_of_a_message(name):
    data, text = BODIES[name]
    found = parse_message(data)
    assert found.subject == "Hello"
    assert text in " ".join(found.body.split())
    assert "{}" not in found.body
    found.text.encode()


def test_a_subject_is_decoded():
    data = b"Subject: =?utf-8?q?caf=C3=A9?=\n =?utf-8?b?8J+YgA==?=\n\nx"
    assert parse_message(data).subject == "caf\u00e9\U0001f600"


def test_an_eml_file_has_one(tmp_path):
    path = tmp_path / "x.eml"
    path.write_bytes(message("Prize", SPAM).as_bytes())
    [prediction] = numlstm.pipeline("email")(path)
    assert prediction.label == "spam"


def test_an_mbox_has_many(tmp_path):
    path = tmp_path / "x.mbox"
    box = mailbox.mbox(path)
    for body in (HAM, SPAM, "From here on\n\nFrom there on " + HAM):
        box.add(message(body=body))
    box.close()
    before = path.read_bytes()
    assert [each.label for each in numlstm.pipeline("email")(path)] == ["ham", "spam", "ham"]
    assert path.read_bytes() == before
    assert len(list(read_messages(path))) == 3


@pytest.mark.parametrize("data", [b"", b"\x00\x01\xff" * 100, b"no header here\n", b"\n\n"])
def test_what_is_no_mail_is_refused(tmp_path, data):
    path = tmp_path / "x.eml"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="neither an email nor an mbox"):
        numlstm.pipeline("email")(path)
    with pytest.raises(FileNotFoundError):
        numlstm.pipeline("email")(tmp_path / "none.eml")


def test_a_string_is_a_text_and_no_path():
    assert numlstm.pipeline("email")("inbox.mbox").label in ("ham", "spam")
