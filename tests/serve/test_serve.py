"""Sessions of a server are streams; what is wrong is refused in words, and harms no session."""

import asyncio
import json
import signal

import numpy as np
import pytest

import numlstm
from numlstm import LSTM, Embedding, Linear, Network
from numlstm.serve import Settings, app
from tests.cases import assert_same_bits, random_weights
from tests.conftest import PATIENCE
from tests.lazy import Lazy
from tests.serve.served import server

testclient = Lazy("starlette.testclient")
websockets = Lazy("websockets")

FRAMES = numlstm.Model(random_weights(Network((LSTM(3, 17), Linear(17, 5)))))
TOKENS = numlstm.Model(random_weights(Network((Embedding(30, 6), LSTM(6, 17), Linear(17, 5)))))
MODELS = {"frames": {"": FRAMES}, "ids": {"": TOKENS}}


def rows(count, seed=0):
    return np.random.default_rng(seed).standard_normal((count, 3), np.float32)


@pytest.fixture
def client():
    with testclient.TestClient(app(MODELS), base_url="http://localhost") as client:
        yield client


def begin(client, name="frames", query=""):
    return client.websocket_connect(f"ws://localhost/v1/models/{name}/stream{query}")


def test_a_session_is_a_stream(client):
    xs, stream = rows(6), FRAMES.stream()
    with begin(client) as session:
        hello = session.receive_json()
        assert (hello["num_steps"], hello["is_resumable"]) == (0, True)
        session.send_json({"xs": xs[:2].tolist()})
        answer = session.receive_json()
        assert answer["num_steps"] == 2
        assert_same_bits(np.array(answer["ys"], np.float32), stream.run(xs[:2]))
        session.send_bytes(xs[2:5].tobytes())
        ys = np.frombuffer(session.receive_bytes(), np.float32).reshape(-1, 5)
        assert_same_bits(ys, stream.run(xs[2:5]))
        session.send_json({"reset": True, "xs": xs[:1].tolist()})
        answer = session.receive_json()
        assert answer["num_steps"] == 1
        assert_same_bits(np.array(answer["ys"], np.float32), FRAMES.run(xs[:1]))
    with begin(client, "ids") as session:
        session.receive_json()
        session.send_bytes(np.array([1, 29], np.int32).tobytes())
        ys = np.frombuffer(session.receive_bytes(), np.float32).reshape(-1, 5)
        assert_same_bits(ys, TOKENS.run([1, 29]))


def test_a_session_goes_on_by_its_token_and_takes_no_step_twice(client):
    xs, stream = rows(4), FRAMES.stream()
    with begin(client) as session:
        token = session.receive_json()["session"]
        session.send_json({"xs": xs[:2].tolist(), "at": 0})
        first = session.receive_json()
    with begin(client, query=f"?resume={token}") as session:
        assert session.receive_json() == {"session": token, "num_steps": 2, "is_resumable": True}
        session.send_json({"xs": xs[:2].tolist(), "at": 0})
        assert session.receive_json() == first
        session.send_json({"xs": xs[2:].tolist(), "at": 1})
        assert "has taken 2 steps, not 1" in session.receive_json()["error"]["message"]
        session.send_json({"xs": xs[2:].tolist(), "at": 2})
        stream.run(xs[:2])
        answer = session.receive_json()["ys"]
        assert_same_bits(np.array(answer, np.float32), stream.run(xs[2:]))
        session.send_json({"end": True})
        assert session.receive()["code"] == 1000
    with begin(client, query=f"?resume={token}") as session:
        assert session.receive_json()["error"]["code"] == "no_session"


def test_bytes_may_say_at_which_step_they_are(client):
    xs = rows(3)
    with begin(client, query="?numbered=1") as session:
        session.receive_json()
        body = np.array(0, np.int64).tobytes() + xs.tobytes()
        session.send_bytes(body)
        answer = session.receive_bytes()
        assert int.from_bytes(answer[:8], "little") == 3
        assert answer[8:] == FRAMES.run(xs).tobytes()
        session.send_bytes(body)
        assert session.receive_bytes() == answer


def test_text_is_classified_and_scored_as_it_arrives():
    models = {name: numlstm.load_parts(name) for name in ("sentiment", "character")}
    text = "It begins slowly, but then it becomes a moving story."
    with testclient.TestClient(app(models), base_url="http://localhost") as client:
        with begin(client, "sentiment") as session:
            session.receive_json()
            for piece in (text[:9], "", text[9:]):
                session.send_json({"text": piece})
                answer = session.receive_json()
            session.send_json({"text": "", "finish": True})
            answer = session.receive_json()
            expected = numlstm.pipeline("sentiment")(text)
            assert (answer["label"], answer["score"]) == (expected.label, expected.score)
            assert answer["scores"][expected.label] == expected.score
        with begin(client, "character") as session:
            token = session.receive_json()["session"]
            session.send_json({"text": text[:20], "at": 0})
            first = session.receive_json()
            assert len(first["next"]) == 10
            session.send_json({"text": text[:20], "at": 0})
            assert session.receive_json() == first
            session.send_json({"text": 20 * "x", "at": 0})
            assert "has read 20 characters, not 0" in session.receive_json()["error"]["message"]
        with begin(client, "character", f"?resume={token}") as session:
            session.receive_json()
            session.send_json({"text": text[20:], "at": 20, "finish": True})
            nats = first["nats"] + session.receive_json()["nats"]
        expected = numlstm.pipeline("language-model", "character")(text)
        assert_same_bits(np.array(nats, np.float32), expected.per_token)


def test_a_dialogue_goes_on_by_its_token():
    with testclient.TestClient(
        app({"chat": numlstm.load_parts("chat")}), base_url="http://localhost"
    ) as client:
        said = numlstm.pipeline("chat").session()
        with begin(client, "chat") as session:
            token = session.receive_json()["session"]
            session.send_json({"text": "Hi!", "options": {"seed": 1}})
            pieces = []
            while not (answer := session.receive_json()).get("done"):
                pieces.append(answer["piece"])
            assert "".join(pieces) == answer["answer"] == said.say("Hi!", seed=1)
        with begin(client, "chat", f"?resume={token}") as session:
            session.receive_json()
            session.send_json({"text": "A hotel in London.", "options": {"seed": 2}})
            while not (answer := session.receive_json()).get("done"):
                pass
            assert answer["answer"] == said.say("A hotel in London.", seed=2)
            session.send_json({"text": "x", "options": {"colour": 1}})
            assert session.receive_json()["error"]["message"] == "unknown options: colour"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("no json", "the message is not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("[]", "no JSON object"),
        ('{"path": "/etc/passwd"}', "unknown fields: path"),
        ('{"xs": [[1, 2]]}', "expected rows of 3"),
        ('{"xs": [[1, 2, 3], [1]]}', "different lengths"),
        ('{"xs": [[NaN, 2, 3]]}', "not finite"),
        ('{"xs": [[1e39, 2, 3]]}', "not finite"),
        ('{"xs": [["1", 2, 3]]}', "something else than numbers"),
        ('{"xs": [[1, 2, 3]], "at": -1}', "at is no number of steps"),
        ('{"xs": [[1, 2, 3]], "at": true}', "at is no number of steps"),
        ('{"xs": [[1, 2, 3]], "at": 7}', "has taken 1 steps, not 7"),
        ('{"xs": [[1, 2, 3]], "xs": []}', "a name is there twice"),
        ('{"text": "hello"}', "the model takes xs"),
        ('{"ids": [1]}', "the model takes xs"),
        ('{"reset": true, "xs": [[NaN, 2, 3]]}', "not finite"),
        ('{"reset": true, "ids": [1]}', "the model takes xs"),
        ('{"reset": true, "xs": [[1, 2, 3]], "at": 1}', "a session that begins anew is at 0"),
        ('{"xs": 5}', "xs is no list"),
        ('{"xs": {}}', "xs is no list"),
        ('{"xs": [[1, 2, 3], 4]}', "something else than rows"),
        ('{"xs": [[true, 2, 3]]}', "something else than numbers"),
        ('{"xs": [["' + "x" * 10_000 + '"' + ', "y"' * 5000 + "]]}", "something else than numbers"),
        ('{"xs": [[1' + "0" * 400 + ", 2, 3]]}", "not finite"),
        ('{"xs": [1, 2, 3]}', "expected rows of 3"),
        ('{"xs": [[[1, 2, 3]]]}', "something else than numbers"),
        ("{}", "the model takes xs"),
        (b"12345", "expected rows of 12"),
        (np.float32([1, np.inf, 2]).tobytes(), "not finite"),
        (b"\0" * 12 * (2**14 + 1), "at most 16384"),
    ],
)
def test_messages_that_make_no_sense_are_refused_and_the_session_goes_on(client, message, expected):
    xs = rows(2)
    with begin(client) as session:
        session.receive_json()
        session.send_bytes(xs[:1].tobytes())
        first = session.receive_bytes()
        (session.send_text if isinstance(message, str) else session.send_bytes)(message)
        assert expected in session.receive_json()["error"]["message"]
        session.send_bytes(xs[1:].tobytes())
        assert first + session.receive_bytes() == FRAMES.run(xs).tobytes()


@pytest.mark.parametrize(
    "body", [[30], [-1], [2**31], [2**70], [-(2**63)], [1.5], [True, 1], [[1]], "x", 5, [None]]
)
def test_what_is_no_token_id_is_refused(client, body):
    with begin(client, "ids") as session:
        session.receive_json()
        session.send_text(json.dumps({"ids": body}))
        assert session.receive_json()["error"]["code"] == "bad_message"


def test_a_store_that_fails_ends_the_session_in_words_and_no_other_one(client, monkeypatch):
    host = client.app.state.host
    gatherer = host.models["frames"].gatherer
    run = gatherer.sessions.run

    def full(keys, *args, **options):
        monkeypatch.setattr(gatherer.sessions, "run", run)
        raise OSError("no space left")

    with begin(client) as session, begin(client) as other:
        session.receive_json(), other.receive_json()
        monkeypatch.setattr(gatherer.sessions, "run", full)
        session.send_bytes(rows(1).tobytes())
        assert session.receive_json()["error"]["code"] == "failed"
        assert session.receive()["code"] == 1011
        other.send_json({"reset": True})
        assert other.receive_json() == {"num_steps": 0, "ys": []}
        other.send_bytes(rows(1).tobytes())
        assert other.receive_bytes() == FRAMES.run(rows(1)).tobytes()
    with begin(client, "ids") as session:
        session.receive_json()
        session.send_json({"finish": True})
        assert session.receive_json() == {"num_steps": 0, "ys": []}


@pytest.mark.parametrize("name", ["nothing", "%00", "model.safetensors"])
def test_only_models_of_the_table_are_there(client, name):
    with begin(client, name) as session:
        assert session.receive_json()["error"]["code"] == "no_model"
        assert session.receive()["code"] == 1008
    assert client.post(f"/v1/models/{name}/run", json={}).status_code == 404
    assert client.post("/v1/models/..%2F..%2Fetc%2Fpasswd/run", json={}).status_code == 404


@pytest.mark.parametrize("token", ["unknown", "x" * 10_000, "../..", ""])
def test_unknown_tokens_resume_nothing(client, token):
    with begin(client, query=f"?resume={token}") as session:
        assert session.receive_json()["error"]["code"] == "no_session"


def test_limits_are_refused_in_words():
    settings = Settings(max_sessions=1, max_message=100, idle_timeout=0.3)
    with testclient.TestClient(app(MODELS, settings), base_url="http://localhost") as client:
        with begin(client) as session:
            session.receive_json()
            with begin(client) as second:
                assert second.receive_json()["error"]["code"] == "full"
                assert second.receive()["code"] == 1013
            session.send_bytes(b"\0" * 120)
            assert session.receive_json()["error"]["code"] == "too_big"
            assert session.receive_json()["error"]["code"] == "idle"
            assert session.receive()["code"] == 1001
        assert client.post("/v1/models/frames/run", content=b"x" * 200).status_code == 413


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "no_token"),
        ({"authorization": "Bearer wrong"}, "no_token"),
        (
            {"authorization": "Bearer 0123456789abcdef", "origin": "http://evil.example"},
            "wrong_origin",
        ),
        ({"authorization": "Bearer 0123456789abcdef", "host": "evil.example"}, "wrong_host"),
        ({"authorization": "Bearer 0123456789abcdef"}, None),
        ({"authorization": "Bearer 0123456789abcdef", "origin": "http://localhost"}, None),
        ({"authorization": "Bearer 0123456789abcdef", "origin": "https://ours.example"}, None),
        ({"sec-websocket-protocol": "numlstm, numlstm.bearer.0123456789abcdef"}, None),
    ],
)
def test_who_may_call(headers, code):
    settings = Settings(
        token="0123456789abcdef", origins=("https://ours.example",), hosts=("localhost",)
    )
    with testclient.TestClient(app(MODELS, settings), base_url="http://localhost") as client:
        response = client.get("/v1/models", headers=headers)
        if code is None:
            assert [model["name"] for model in response.json()] == ["frames", "ids"]
            with client.websocket_connect(
                "ws://localhost/v1/models/ids/stream", headers=headers
            ) as session:
                assert session.receive_json()["num_steps"] == 0
        else:
            assert response.json()["error"]["code"] == code
            with (
                pytest.raises(testclient.WebSocketDisconnect),
                client.websocket_connect("ws://localhost/v1/models/ids/stream", headers=headers),
            ):
                pass
        assert client.get("/healthz").json() == {"status": "ok"}


def test_whole_items_over_http(client):
    xs = rows(5)
    answer = client.post("/v1/models/frames/run", json={"xs": xs.tolist()}).json()
    assert_same_bits(np.array(answer["ys"], np.float32), FRAMES.run(xs))
    kind = "application/octet-stream"
    headers = {"content-type": kind, "accept": kind}
    response = client.post("/v1/models/frames/run", content=xs.tobytes(), headers=headers)
    assert response.content == FRAMES.run(xs).tobytes()
    answer = client.post("/v1/models/ids/run", json={"ids": [1, 2]}).json()
    assert_same_bits(np.array(answer["ys"], np.float32), TOKENS.run([1, 2]))
    for body in (b"\xff", b"{", b'{"xs": [[1, NaN, 2]]}', b"{}", b'{"xs": [[1, 2]]}'):
        response = client.post("/v1/models/frames/run", content=body)
        assert (response.status_code, response.json()["error"]["code"]) == (400, "bad_message")


def test_what_is_counted(client):
    with begin(client) as session:
        session.receive_json()
        session.send_bytes(rows(3).tobytes())
        session.receive_bytes()
        text = client.get("/metrics").text
    assert 'numlstm_steps_total{model="frames"} 3.0' in text
    assert 'numlstm_sessions{model="frames"} 1.0' in text


async def _many(address, count, xss):
    """Return the answers of many sessions that send a row at a time, all of them at once."""

    async def one(xs):
        async with websockets.connect(f"ws://{address}/v1/models/model/stream") as session:
            token = json.loads(await session.recv())["session"]
            answers = []
            for x in xs:
                await session.send(x.tobytes())
                answers.append(await session.recv())
            return token, b"".join(answers)

    async with asyncio.timeout(PATIENCE):
        return await asyncio.gather(*(one(xs) for xs in xss[:count]))


@pytest.mark.long
@pytest.mark.parametrize("options", [(), ("--gather", "1"), ("--durable",)], ids=str)
def test_sessions_that_step_together_have_the_bits_of_streams_and_outlive_the_server(
    options, tmp_path
):
    path = tmp_path / "model.safetensors"
    FRAMES.save(path)
    arguments = [str(path), "--store", f"sqlite:{tmp_path}/sessions.db", *options]
    xss = [rows(8, seed) for seed in range(30)]
    with server(*arguments) as (process, address):
        found = asyncio.run(_many(address, 30, xss))
        for xs, (_, ys) in zip(xss, found, strict=True):
            assert ys == FRAMES.run(xs).tobytes()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0

    async def go_on(address):
        for xs, (token, _) in zip(xss, found, strict=True):
            url = f"ws://{address}/v1/models/model/stream?resume={token}"
            async with websockets.connect(url) as session:
                assert json.loads(await session.recv())["num_steps"] == 8
                await session.send(xs.tobytes())
                assert await session.recv() == FRAMES.run(np.concatenate([xs, xs]))[8:].tobytes()

    with server(*arguments) as (_, address):
        asyncio.run(go_on(address))


@pytest.mark.long
def test_a_server_that_is_told_to_end_says_so_and_saves(tmp_path):
    path = tmp_path / "model.safetensors"
    FRAMES.save(path)

    async def hold(process, address):
        async with websockets.connect(f"ws://{address}/v1/models/model/stream") as session:
            await session.recv()
            await session.send(rows(1).tobytes())
            await session.recv()
            process.send_signal(signal.SIGINT)
            assert json.loads(await session.recv())["error"]["code"] == "closing"
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await session.recv()
            assert closed.value.rcvd.code == 1001

    with server(str(path), "--store", f"folder:{tmp_path}/store") as (process, address):
        asyncio.run(hold(process, address))
        assert process.wait(PATIENCE) == 0
    assert len(list((tmp_path / "store").glob("??/*"))) == 1


@pytest.mark.long
def test_a_server_for_other_machines_wants_a_token(tmp_path):
    with (
        pytest.raises(
            AssertionError, match=r"0\.0\.0\.0 is open to other machines: give --token-file"
        ),
        server("sentiment", "--host", "0.0.0.0"),
    ):
        pass


def test_settings_that_make_no_sense_are_refused():
    for options, message in (
        ({"max_queue": 0}, "max_queue is 0"),
        ({"gather": 2}, "gather is 2"),
        ({"token": "short"}, "too short"),
        ({"idle_timeout": 0}, "idle_timeout is 0"),
        ({"store": "nowhere"}, "the store is 'nowhere'"),
    ):
        with pytest.raises(ValueError, match=message):
            app(MODELS, Settings(**options))


def test_a_sound_is_written_down_and_a_refused_message_harms_it_not():
    pytest.importorskip("soxr")
    noise = np.random.default_rng(0).standard_normal(16000)
    # A tone that rises, and noise: words are named in it, at times that tell the rate.
    seconds = np.arange(16000) / 16000
    samples = (0.3 * np.sin(2 * np.pi * (200 + 900 * seconds) * seconds) + 0.02 * noise).astype(
        "f4"
    )
    with (
        testclient.TestClient(
            app({"speech": numlstm.load_parts("speech")}), base_url="http://localhost"
        ) as client,
        begin(client, "speech") as session,
    ):
        assert session.receive_json()["is_resumable"] is False
        session.send_bytes(samples[:7000].tobytes())
        assert session.receive_json()["done"] is False
        session.send_text('{"reset": true, "xs": [[NaN]]}')
        assert "not finite" in session.receive_json()["error"]["message"]
        session.send_bytes(samples[7000:].tobytes())
        session.receive_json()
        session.send_json({"finish": True})
        found = session.receive_json()
        expected = numlstm.pipeline("speech")((samples, 16000))
        assert expected.words
        assert found["words"] == [vars(word) for word in expected.words]
        assert (found["text"], found["done"]) == (expected.text, True)
        body = client.post(
            "/v1/models/speech/run",
            content=samples.tobytes(),
            headers={"content-type": "application/octet-stream"},
        ).json()
        assert body["text"] == expected.text
