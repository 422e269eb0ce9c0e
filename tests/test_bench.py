"""The measurement's own arithmetic: what it counts, divides, compares and says is missing."""

from __future__ import annotations

import asyncio
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from bench import candidates, connections, figures, load, machine, plot, session, wire
from bench.figures import Reading


def reading(candidate: str, number: int, *, cpu_us: int, p50_us: float = 100.0) -> Reading:
    return Reading(
        scenario="chat-1",
        candidate=candidate,
        round=number,
        done=10,
        seconds=2.0,
        cpu_us=cpu_us,
        p50_us=p50_us,
        p99_us=p50_us * 3,
        rss_mb=20.0,
        others_cores=0.1,
    )


def test_cpu_time_is_divided_by_what_was_completed() -> None:
    mine = reading("nginx", 0, cpu_us=1000)
    assert mine.cpu_us_each == 100
    assert mine.per_second == 5
    assert mine.core_share == 0.0005


def test_a_ratio_is_taken_within_a_round_and_the_median_is_that_of_the_ratios() -> None:
    readings = [
        reading("nginx", 0, cpu_us=100),
        reading("gateway", 0, cpu_us=800),
        reading("nginx", 1, cpu_us=400),
        reading("gateway", 1, cpu_us=1200),
        reading("nginx", 2, cpu_us=100),
        reading("gateway", 2, cpu_us=500),
    ]
    assert figures.cpu_ratio(readings, "chat-1", "gateway", "nginx") == figures.Spread(5, 3, 8)


def test_a_round_in_which_one_of_a_pair_was_spoilt_gives_no_ratio() -> None:
    readings = [reading("nginx", 0, cpu_us=100), reading("gateway", 1, cpu_us=800)]
    assert figures.cpu_ratio(readings, "chat-1", "gateway", "nginx") is None
    assert figures.added_us(readings, "chat-1", "gateway", "nginx") is None


def test_added_latency_is_the_difference_to_no_proxy_pair_by_pair() -> None:
    readings = [
        reading("direct", 0, cpu_us=1, p50_us=50),
        reading("gateway", 0, cpu_us=1, p50_us=250),
        reading("direct", 1, cpu_us=1, p50_us=100),
        reading("gateway", 1, cpu_us=1, p50_us=200),
    ]
    added = figures.added_us(readings, "chat-1", "gateway", "direct")
    assert added == (figures.Spread(150, 100, 200), figures.Spread(450, 300, 600))


def test_there_is_no_median_of_nothing() -> None:
    with pytest.raises(ValueError, match="no median"):
        figures.spread([])
    with pytest.raises(ValueError, match="no percentile"):
        load.percentile([], 0.5)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1.0), (0.5, 5.0), (0.9, 9.0), (0.99, 10.0), (1.0, 10.0)]
)
def test_a_percentile_is_one_of_the_values(share: float, expected: float) -> None:
    assert load.percentile([float(value) for value in range(10, 0, -1)], share) == expected


def test_a_table_shows_a_ratio_only_where_there_is_nginx_to_compare_with() -> None:
    alone = figures.table([reading("gateway", 0, cpu_us=5000)], "chat-1")
    assert alone[1][:3] == ["gateway", "500 (500-500)", "-"]
    both = [reading("nginx", 0, cpu_us=1000), reading("gateway", 0, cpu_us=5000)]
    assert figures.table(both, "chat-1")[2][2] == "5.0 (5.0-5.0)"
    lines = figures.text_table(figures.table(both, "chat-1")).splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["nginx", "gateway"]


def test_a_process_whose_name_holds_spaces_and_parentheses_is_read_all_the_same() -> None:
    line = "42 (a) b (c)) S 7 42 42 0 -1 4194560 100 0 0 0 31 11 0 0 20 0 3 0 100 1000 10"
    assert machine.parse_parent(line) == 7
    assert machine.parse_ticks(line) == 42


def test_wrk_is_believed_only_if_everything_was_answered_well() -> None:
    good = 'RESULT {"requests": 100, "p50_us": 20, "p99_us": 90, "faults": 0}\n'
    outcome = load.parse_wrk("noise\n" + good, 2.0)
    assert outcome == load.Outcome(done=100, seconds=2.0, p50_us=20, p99_us=90)
    for bad in ("", good.replace('"faults": 0', '"faults": 1'), good.replace("100", "0")):
        with pytest.raises(load.Spoilt):
            load.parse_wrk(bad, 2.0)


def test_the_request_is_1_kb_and_the_reply_2_kb() -> None:
    assert len(wire.chat_request()) == 1024
    assert len(wire.stream_request(200)) == 1024
    head, _, body = wire.chat_reply().partition(b"\r\n\r\n")
    assert len(body) == 2048
    assert b"content-length: 2048" in head
    assert json.loads(body)["usage"]["total_tokens"] == 600


def test_the_upstream_knows_a_stream_however_the_json_was_written_anew() -> None:
    request = wire.stream_request(75)
    assert wire.wanted_chunks(request) == 75
    assert wire.wanted_chunks(json.dumps(json.loads(request), separators=(",", ":")).encode()) == 75
    assert wire.wanted_chunks(wire.chat_request()) is None


def test_a_chunk_is_an_event_with_the_moment_it_was_written_in_it() -> None:
    size, _, rest = wire.stream_chunk().partition(b"\r\n")
    assert len(rest) == int(size, 16) + 2
    event = json.loads(rest.removeprefix(b"data: "))
    found = wire.MOMENT.fullmatch(event["choices"][0]["delta"]["content"].encode())
    assert found is not None
    assert int(found[1]) > 0


def reader_of(*pieces: bytes) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    for piece in pieces:
        reader.feed_data(piece)
    reader.feed_eof()
    return reader


@pytest.mark.anyio
async def test_a_reply_is_read_to_its_end_and_no_further() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"
    reader = reader_of(wire.chat_reply(), chunked, b"rest")
    await load.read_reply(reader)
    await load.read_reply(reader)
    assert await reader.read() == b"rest"


@pytest.mark.anyio
async def test_a_refusal_spoils_the_round() -> None:
    refusal = b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n"
    with pytest.raises(load.Spoilt, match="429"):
        await load.read_reply(reader_of(refusal))
    with pytest.raises(load.Spoilt, match="429"):
        await load.read_stream(reader_of(refusal))


@pytest.mark.anyio
async def test_every_chunk_of_a_stream_is_counted_once() -> None:
    chunks = [wire.stream_chunk() for _ in range(3)]
    pieces = [wire.stream_head(), *chunks, wire.stream_end()]
    came = await load.read_stream(reader_of(*pieces))
    assert len(came) == 3
    assert all(written <= at for written, at in came)


@pytest.mark.anyio
async def test_a_stream_that_breaks_off_or_lacks_its_last_event_spoils_the_round() -> None:
    begun = wire.stream_head() + wire.stream_chunk()
    with pytest.raises(load.Spoilt, match="broke off"):
        await load.read_stream(reader_of(begun))
    with pytest.raises(load.Spoilt, match="last event"):
        await load.read_stream(reader_of(begun + b"0\r\n\r\n"))


def test_quick_means_fewer_rounds_and_rounds_can_be_asked_for() -> None:
    assert session.parse([]).rounds == 5
    assert session.parse(["--quick"]).rounds == 2
    assert session.parse(["--quick", "--rounds", "9"]).rounds == 9
    assert session.parse(["--only", "stream", "--json", "x.json"]).json_file == Path("x.json")


@pytest.mark.parametrize(
    "arguments",
    [["--rounds", "0"], ["--rounds", "two"], ["--only", "nothing"], ["--dir", "/not/there"]],
)
def test_what_there_is_not_is_refused_with_a_word(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        session.parse(arguments)
    assert arguments[1] in capsys.readouterr().err


def held(what: str, number: int, *, before_mb: float, with_mb: float) -> connections.Held:
    return connections.Held(what, number, before_mb, with_mb, p50_ms=2, p99_ms=9)


def test_what_a_connection_costs_is_the_difference_divided_by_how_many_were_held() -> None:
    assert held("idle", 1000, before_mb=70, with_mb=79).each_kb == 9
    rounds = [
        [
            held("nothing", 0, before_mb=70, with_mb=70),
            held("idle", 1000, before_mb=70, with_mb=with_mb),
        ]
        for with_mb in (79, 80, 78)
    ]
    head, nothing, idle = connections.table(rounds)
    assert len(head) == len(nothing) == len(idle)
    assert nothing[:4] == ["nothing", "0", "-", "70 (70-70)"]
    assert idle[:4] == ["idle", "1,000", "9.0 (8.0-10.0)", "79 (78-80)"]


@pytest.mark.anyio
async def test_an_upstream_of_streams_stands_still_until_it_lets_go() -> None:
    still = connections.StillUpstream()
    async with await asyncio.start_server(still, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        candidate = candidates.Candidate("still", port, 1)
        assert len(await connections.chats(candidate, 2)) == 2
        reader, writer = await connections.dial(candidate, 1)
        writer.write(load.http_request(candidate, wire.stream_request(1)))
        assert (await reader.readuntil(b"\n\n")).startswith(b"HTTP/1.1 200 ")
        still.let_go.set()
        assert wire.DONE.strip() in await reader.readuntil(b"\r\n0\r\n\r\n")
        await still.hang_up()
        writer.close()


def test_what_is_missing_is_named_with_its_package() -> None:
    assert session.missing(with_wrk=True, with_nginx=True) == []
    wrk, nginx = session.missing(with_wrk=False, with_nginx=False)
    assert "apt-get install wrk" in wrk
    assert "apt-get install nginx-light" in nginx


def test_nginx_is_told_of_no_module_it_was_built_without(tmp_path: Path) -> None:
    config = candidates.nginx_config(
        tmp_path, port=1, upstream_port=2, built_without="--without-http_uwsgi_module"
    )
    assert "uwsgi_temp_path" not in config
    assert f"proxy_temp_path {tmp_path}/proxy;" in config
    assert "server 127.0.0.1:2;" in config


def test_the_chart_is_well_formed_and_draws_every_candidate() -> None:
    readings = [reading("nginx", 0, cpu_us=1000), reading("gateway", 0, cpu_us=5000)]
    svg = ET.fromstring(plot.bar_chart(readings, {"chat-1": "a < b", "stream-4": "not measured"}))
    words = [element.text for element in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert words == ["a < b", "nginx", "100 (100-100) µs", "gateway", "500 (500-500) µs"]
